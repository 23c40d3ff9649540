"""Parts of segments: towards the end a member's rows of one are divided among devices, at the bounds of its batches.

All devices then end within a batch of each other, where one would have had a whole segment left. The bytes stay: what
a row gives hangs on its batch, and the batches are those of the whole segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hpcens.roles.dispatch import Shares
from hpcens.roles.pipeline import Cut, OpenSegment
from hpcens.vocabulary import Bad, Cause, Prediction

# A shorter part would not hide what it takes to hand it out: 20 ms, in attoseconds.
_LEAST = 20 * 10**15
# Of what is left of a member's segment, each of its devices gets about so many parts.
_PARTS_A_DEVICE = 2
# As they are judged: a row is bad for the first of them.
_CAUSES: tuple[Cause, ...] = ("raised", "input", "cast", "output")


class Cuts:
    """Cut what is left of a segment: the less is left, the shorter the parts.

    batches  member → rows of its batches; members that are absent are not cut
    """

    def __init__(self, shares: Shares, batches: Mapping[str, int]) -> None:
        self._shares = shares
        self._batches = {m: rows for m, rows in batches.items() if len(shares.hosts[m]) > 1}

    def next(self, work: OpenSegment, members: Sequence[str], device: int, *, whole: bool) -> Cut:
        """Return what the device is to have next.

        members  that it may have, and that score the same rows
        whole    whether it is to have all of that; else the least that is worth a message
        """
        rows = len(work.rows_of(members[0])[0])
        solid = tuple(m for m in members if whole or work.divided or m not in self._batches)
        if solid:
            return Cut(solid, 0, rows, rows)
        takes = {member: max(1, self._shares.takes[member][device]) for member in members}
        longest = max(members, key=lambda member: takes[member] * (rows - work.begun.get(member, 0)))
        start, batch = work.begun.get(longest, 0), self._batches[longest]
        alike = [m for m in members if (work.begun.get(m, 0), self._batches[m]) == (start, batch)]
        beside = self._shares.beside(longest, alike)  # what they share would be computed again
        takes_a_row = sum(takes[member] for member in beside)
        chosen, seconds = {*beside}, takes_a_row * (rows - start)
        for member in members:  # those that take less than is worth a message come together
            if seconds < _LEAST and member not in chosen and work.begun.get(member, 0) == start:
                chosen.add(member)
                seconds += takes[member] * (rows - start)
        stop = rows
        if len(chosen) == len(beside):
            fair = -(-(rows - start) // (batch * len(self._shares.hosts[longest]) * _PARTS_A_DEVICE))
            stop = min(rows, start + batch * max(fair, -(-_LEAST // (batch * takes_a_row))))
        return Cut(tuple(member for member in members if member in chosen), start, stop, rows)


class Assembly:
    """Put a member's parts of a segment together."""

    def __init__(self) -> None:
        self._parts: dict[tuple[int, str], dict[int, Prediction]] = {}

    def add(self, prediction: Prediction) -> Prediction | None:
        """Take in a prediction; return the whole once all is there. Raises RuntimeError where some comes twice."""
        if (part := prediction.part) is None:
            return prediction
        key = prediction.segment, prediction.member
        parts = self._parts.setdefault(key, {})
        if part.start in parts:
            raise RuntimeError(f"row {part.start} of segment {key[0]} of member {key[1]} came twice")
        parts[part.start] = prediction
        if sum(len(of.values) for of in parts.values()) < part.whole:
            return None
        del self._parts[key]
        return _whole([parts[start] for start in sorted(parts)])

    def drop(self, dropped: Callable[[int], bool]) -> None:
        """Let go of segments that will not be finished."""
        self._parts = {key: parts for key, parts in self._parts.items() if not dropped(key[0])}


def _whole(parts: list[Prediction]) -> Prediction:
    """Return the prediction that these, in the order of their rows, are of."""
    import numpy as np

    rows: dict[Cause, list[int]] = {}
    start = 0
    for prediction in parts:
        for bad in prediction.bad:
            rows.setdefault(bad.cause, []).extend(start + row for row in bad.rows)
        start += len(prediction.values)
    return replace(
        parts[0],
        values=np.concatenate([prediction.values for prediction in parts]),
        batch=min(prediction.batch for prediction in parts),  # where one had no room for those that were planned
        bad=tuple(Bad(cause, tuple(rows[cause])) for cause in _CAUSES if cause in rows),
        part=None,
    )
