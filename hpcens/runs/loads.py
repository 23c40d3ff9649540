"""What the ranks of a start did so far, left in files of their nodes for whoever watches."""

from __future__ import annotations

import contextlib
import json
import os

from hpcens.files import MALFORMED, checked
from hpcens.runs.epoch import Epoch
from hpcens.runs.report import RankReport

_SIZE = 1024


def write_load(epoch: Epoch, node: str, place: int, load: RankReport) -> None:
    """Write what a rank did so far into its node's file, which only ranks of the node write to.

    Nothing where it does not fit, or the disk refuses: a run goes on without.

    place  of the rank among those of its node
    """
    text = json.dumps(load.as_dict()).encode()
    if len(text) < _SIZE:
        with contextlib.suppress(OSError):
            file = os.open(epoch.loads_of(node), os.O_CREAT | os.O_WRONLY, 0o644)
            try:
                os.pwrite(file, text.ljust(_SIZE - 1) + b"\n", place * _SIZE)
            finally:
                os.close(file)


def read_loads(epoch: Epoch) -> list[RankReport]:
    """Return what the ranks wrote last; those that wrote nothing are left out."""
    found: list[RankReport] = []
    for path in sorted(epoch.ranks.glob("*.loads")):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            for start in range(0, len(content), _SIZE):
                with contextlib.suppress(*MALFORMED):  # not (yet) whole
                    found.append(checked(RankReport(**json.loads(content[start : start + _SIZE]))))
    return found
