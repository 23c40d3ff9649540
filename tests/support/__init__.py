"""What tests share: a user's project, doubles of disks and of CUDA, planning problems, all roles wired together."""

from pathlib import Path

import pytest

# so that what an assertion in here compares is shown as in the tests themselves
pytest.register_assert_rewrite(*(f"{__name__}.{path.stem}" for path in Path(__file__).parent.glob("*.py")))
