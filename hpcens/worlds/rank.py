"""A rank of a world that scores unit after unit: MPI, torch and the devices are begun once for all of them.

Whoever watches over the world leaves one order after another in a folder of this node: the start that is to be lived
next, or that there is none.

    python hpcens/entry.py -m hpcens.worlds.rank FOLDER RANKS
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from hpcens.files import read_json, write_atomically
from hpcens.launch.witness import Tell, witnessed
from hpcens.processes import die_with
from hpcens.runs import Epoch

# Of orders, in a folder of this node: often at first, for files that take a twentieth of a second each.
_LOOK_SECONDS, _SOON_SECONDS, _SOON = 0.02, 0.005, 0.5
_WORD_SECONDS = 1.0


def give_order(folder: Path, number: int, epoch: Epoch | None) -> None:
    """Leave an order for the ranks: the start that they are to live next, None: none, they may leave.

    number  of the order, from 1
    """
    text = json.dumps({"epoch": str(epoch.folder) if epoch is not None else ""})
    write_atomically(folder / f"{number:06d}.json", text, durable=False)


def orders(folder: Path, word: Callable[[], None]) -> Iterator[Epoch]:
    """Yield the starts that are ordered, one after another, until there is none.

    word  called about once a second while there is nothing to do
    """
    for number in count(1):
        path, began = folder / f"{number:06d}.json", time.monotonic()
        spoken = began
        while (raw := read_json(path)) is None:
            time.sleep(_SOON_SECONDS if time.monotonic() - began < _SOON else _LOOK_SECONDS)
            if time.monotonic() - spoken > _WORD_SECONDS:
                word()
                spoken = time.monotonic()
        if not raw["epoch"]:
            return
        yield Epoch(Path(raw["epoch"]))


def main(arguments: list[str]) -> int:
    """Be the witness of a rank that lives one start after another."""
    die_with(os.getppid())
    folder, expected = Path(arguments[0]), int(arguments[1])

    def rank(tell: Tell) -> int:
        from hpcens.scoring.rank import Seat
        from hpcens.scoring.rank import main as live

        seat = None
        for epoch in orders(folder, lambda: tell("")):
            seat = seat or Seat(tell)
            live(epoch.folder.parents[1], epoch.number, expected, "mpiexec", tell, seat=seat)
            gc.collect()  # what the start before held on its devices
        return 0

    return witnessed(rank, epoch=next(orders(folder, lambda: None)).folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
