"""Fixtures of profiling."""

import pytest

from hpcens.profiling import ProfileBook


@pytest.fixture
def book(tmp_path):
    return ProfileBook(tmp_path / "profiles")
