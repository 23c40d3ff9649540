"""Dispatch: which reader and reducer a segment has, and from the plan's shares, which device runs a member on it.

Each member's segments are dealt out in proportion to its shares by one low-discrepancy sequence,
the same for every member: members with equal shares meet on the same device, so that a row
travels to as few devices as the plan allows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

_GOLDEN = 0.6180339887498949


def turn(segment: int, ranks: Sequence[int]) -> int:
    """The reader, or the reducer, of a segment: they take turns."""
    return ranks[segment % len(ranks)]


class Shares:
    """shares: member → {device rank: rows/s}; every member has at least one positive share."""

    def __init__(self, shares: Mapping[str, Mapping[int, float]]) -> None:
        self.hosts = {member: frozenset(of) for member, of in shares.items()}
        self._edges: dict[str, tuple[tuple[int, ...], list[float]]] = {}
        for member, of in shares.items():
            ranks = tuple(rank for rank in sorted(of) if of[rank] > 0)
            total = sum(of[rank] for rank in ranks)
            self._edges[member] = ranks, [edge / total for edge in accumulate(of[rank] for rank in ranks)]

    def owner(self, segment: int, member: str) -> int:
        """The rank that should run the member on this segment, unless it falls behind."""
        ranks, edges = self._edges[member]
        if len(ranks) == 1:
            return ranks[0]
        position = (segment + 1) * _GOLDEN % 1.0
        return ranks[min(bisect_right(edges, position), len(ranks) - 1)]
