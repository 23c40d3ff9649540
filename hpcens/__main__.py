"""`python -m hpcens` is the `hpcens` command."""

import sys

from hpcens.cli import main

sys.exit(main())
