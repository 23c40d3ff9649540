"""The verb that needs no configuration yet: init. It loads nothing that the others need."""

from __future__ import annotations

from argparse import Namespace

from hpcens.cli.terminal import say
from hpcens.config import template
from hpcens.errors import COMPLETE, UsageError
from hpcens.shell import quoted


def init(options: Namespace) -> int:
    """Write a commented configuration to start from."""
    try:
        with options.path.open("x") as file:
            file.write(template())
    except FileExistsError:
        raise UsageError(f"{options.path} exists", "give another name: hpcens init OTHER.YAML") from None
    except OSError as error:
        raise UsageError(f"{options.path}: {error.strerror}", "give another name: hpcens init OTHER.YAML") from None
    say(f"{options.path} is written; next: edit it, then hpcens plan DATASET.H5 --config {quoted(options.path)}")
    return COMPLETE
