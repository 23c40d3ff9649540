"""Members whose rows are prepared alike, run together on a device: what is common to them is computed once a batch.

The same operations run on the same rows in the same batches, so that each gives the bits that it gives alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from hpcens.engine.hardware import Hardware
from hpcens.engine.outputs import Outputs
from hpcens.members import Forward, Prepared, PreprocessingFailed, cause_of
from hpcens.vocabulary import batch_bounds

Rows = Sequence[torch.Tensor]
"""(rows, *row shape) of each input."""


@dataclass(slots=True)
class Launched:
    """A segment of a member, every batch of it begun.

    batch    rows of a batch that fitted
    raised   rows on which its preprocessing raised
    seconds  that it took to begin, its part of what it shares with others included
    """

    name: str
    outputs: Outputs
    batch: int = 0
    raised: list[int] = field(default_factory=list)
    seconds: float = 0.0


class Hosted(Protocol):
    """A member on its device."""

    @property
    def forward(self) -> Forward:
        """As it is run."""
        ...

    @property
    def batch(self) -> int:
        """Its planned batch size."""
        ...


def grouped(names: Iterable[str], members: Mapping[str, Hosted], ceilings: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Group members that prepare their rows alike, in batches of one size; others are alone.

    ceilings  of members that ran out of memory, the batch size they have used since
    """
    groups: list[list[str]] = []
    firsts: dict[tuple[str, int], list[list[str]]] = {}
    for name in names:
        forward = members[name].forward
        key = forward.preparation, min(members[name].batch, ceilings.get(name, members[name].batch))
        alike = firsts.setdefault(key, []) if forward.preparation and forward.replayed is None else []
        for group in alike:
            if _alike(members[group[0]].forward, forward):
                group.append(name)
                break
        else:
            groups.append([name])
            alike.append(groups[-1])
    return [tuple(group) for group in groups]


def _alike(first: Forward, second: Forward) -> bool:
    """Tell whether what is computed in the surroundings of the first is what it would be in those of the second."""
    return first.featuriser is not None or first.surroundings.like(second.surroundings)


def run_batches(
    launched: Sequence[Launched],
    forwards: Sequence[Forward],
    rows: Rows,
    batch: int,
    run: Callable[[Launched, Forward, Rows, int], None],
    hardware: Hardware,
) -> None:
    """Run members on all rows in batches of this size, each batch by all of them in turn.

    launched  of each of them; takes what comes of it
    forwards  of each of them: of several that prepare alike
    run       runs a member on a batch, given the place of its first row
    """
    taken = [rows[place] for place in forwards[0].inputs]
    began = time.perf_counter()
    if len(forwards) == 1 and forwards[0].featuriser is None:
        [forward] = forwards
        with forward.surroundings.around(), forward.grad_mode():
            for start, stop in batch_bounds(len(rows[0]), batch):
                run(launched[0], forward, [x[start:stop] for x in taken], start)
        launched[0].seconds = time.perf_counter() - began
        return
    for start, stop in batch_bounds(len(rows[0]), batch):
        piece = [x[start:stop] for x in taken]
        began = time.perf_counter()
        prepared = _prepared(forwards[0], piece, hardware) if stop - start > 1 else None  # one row is run as two
        common = (time.perf_counter() - began) / len(forwards)
        for each, forward in zip(launched, forwards, strict=True):
            began = time.perf_counter()
            forward.prepared = prepared
            try:
                with forward.surroundings.around(), forward.grad_mode():
                    run(each, forward, piece, start)
            finally:
                forward.prepared = None
            each.seconds += common + time.perf_counter() - began


def _prepared(forward: Forward, piece: Rows, hardware: Hardware) -> Prepared | None:
    """Prepare a batch; where that fails on some rows, also the batch in which a good one stands for each of them.

    None where what is wrong is each member's own to say.
    """
    prepared = Prepared()
    try:
        prepared.keep(piece, forward.prepare(piece))
    except PreprocessingFailed as failure:
        if hardware.out_of_memory(cause_of(failure)):
            raise
        prepared.keep(piece, failure)
        if not isinstance(failure.error, SystemExit):
            good = [row for row in range(len(piece[0])) if _is_good(forward, [x[row : row + 1] for x in piece])]
            stand_ins = in_place_of_bad(piece, good)
            prepared.keep_good(piece, good, stand_ins)
            if 0 < len(good) < len(piece[0]):
                prepared.keep(stand_ins, forward.prepare(stand_ins))
    except Exception as error:
        if hardware.out_of_memory(error):
            raise
        return None
    return prepared


def _is_good(forward: Forward, row: Rows) -> bool:
    try:
        forward.prepare(row)
    except Exception:  # whatever the code of the user's own raises
        return False
    return True


def good_rows(forward: Forward, piece: Rows) -> tuple[list[int], Rows]:
    """Return the rows of a batch that can be prepared, and the batch in which one of them stands for each other."""
    if forward.prepared is not None and (kept := forward.prepared.good(piece)) is not None:
        return kept
    good = [row for row in range(len(piece[0])) if forward.accepts([x[row : row + 1] for x in piece])]
    return good, in_place_of_bad(piece, good)


def in_place_of_bad(piece: Rows, good: Sequence[int]) -> Rows:
    """Return the batch with the first good row in place of each that is not good; as it is where none is."""
    if not good or len(good) == len(piece[0]):
        return piece
    order = [row if row in good else good[0] for row in range(len(piece[0]))]
    return [x[order] for x in piece]
