"""Which reader and reducer a segment has, and from the plan's shares, which device runs a member on it.

Each member's segments are dealt out in proportion to its shares by one low-discrepancy sequence,
the same for every member: members with equal shares meet on the same device, so that a row
travels to as few devices as the plan allows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import ceil

from hpcens.vocabulary import Hosting

# Rows/s of a device without a share whose speed is not known either.
_SLOWEST = 1e-12
_ATTO = 1e18
_GOLDEN = 0.6180339887498949

# Of the places from which segments are read by turns: so many, and so many for the member that scores least.
_MOST_WAYS = 64
_SEGMENTS_OF_EACH = 4

WHOLE = 1 << 20
"""All rows of a segment, as parts of them are counted: whole numbers, so that sums of them are exact."""


def turn(segment: int, ranks: Sequence[int]) -> int:
    """Return the rank, of these readers or reducers, whose segment it is: they take turns."""
    return ranks[segment % len(ranks)]


def interleaved(segments: Sequence[int], parts: Mapping[str, float]) -> list[int]:
    """Return segments in an order in which any few of them are taken from all over the dataset.

    Rows that one member scores may lie together, as those of a fold do: read in their order, they would keep its
    devices busy and all others waiting.

    parts  member → the part of all rows that it scores
    """
    ways = min(_MOST_WAYS, ceil(_SEGMENTS_OF_EACH / min(parts.values(), default=1.0)))
    stretch = -(-len(segments) // ways)
    return [segments[place] for start in range(stretch) for place in range(start, len(segments), stretch)]


class Shares:
    """How the plan divides members among devices.

    shares     member → {device rank: rows/s}; every member has at least one positive share
    speeds     member → {device rank: rows/s it would reach if it ran nothing else}; by default the shares
    parts      member → the part of all rows that it scores, 0 … 1; those that score all may be absent
    takes      member → {device rank: attoseconds a row}, whole so that sums of them are exact
    row_takes  attoseconds that a row takes, all members of it on all devices
    together   member → what is the same for members that run as one, or share what is computed before their networks
    hosts      member → ranks of the devices that host it
    expected   member → the part of a segment's rows that it scores, of `WHOLE`, on average
    """

    def __init__(
        self,
        shares: Mapping[str, Mapping[int, float]],
        speeds: Mapping[str, Mapping[int, float]] | None = None,
        parts: Mapping[str, float] | None = None,
        together: Mapping[str, str] | None = None,
    ) -> None:
        parts, self._together = parts or {}, together or {}
        self.expected = {member: round(WHOLE * part) for member, part in parts.items()}
        self.takes = {
            member: {rank: round(_ATTO / max(speed, _SLOWEST)) for rank, speed in by_rank.items()}
            for member, by_rank in (speeds or shares).items()
        }
        self.row_takes = _ATTO / min(sum(by_rank.values()) / parts.get(m, 1.0) for m, by_rank in shares.items())
        self.hosts = {member: frozenset(by_rank) for member, by_rank in shares.items()}
        self._edges: dict[str, tuple[tuple[int, ...], list[float]]] = {}
        for member, by_rank in shares.items():
            ranks = tuple(rank for rank in sorted(by_rank) if by_rank[rank] > 0)
            total = sum(by_rank[rank] for rank in ranks)
            self._edges[member] = ranks, [edge / total for edge in accumulate(by_rank[rank] for rank in ranks)]

    def beside(self, member: str, owed: Iterable[str]) -> tuple[str, ...]:
        """Return those of the members that are owed that cost least where they run beside this one, and it itself."""
        key = self._together.get(member, "")
        return tuple(each for each in owed if each == member or (key and self._together.get(each) == key))

    def owner(self, segment: int, member: str) -> int:
        """Return the rank that should run the member on this segment, unless it falls behind."""
        ranks, edges = self._edges[member]
        if len(ranks) == 1:
            return ranks[0]
        position = (segment + 1) * _GOLDEN % 1.0
        return ranks[min(bisect_right(edges, position), len(ranks) - 1)]


def shares_by_rank(
    hostings: Iterable[Hosting],
    ranks: Mapping[str, int],
    parts: Mapping[str, float] | None = None,
    together: Mapping[str, str] | None = None,
) -> Shares:
    """Collect shares and speeds of a plan's hostings.

    ranks  device name → rank
    parts, together  see `Shares`
    """
    shares: dict[str, dict[int, float]] = {}
    speeds: dict[str, dict[int, float]] = {}
    for hosting in hostings:
        for device in hosting.devices:
            for member, speed in hosting.speeds.items():
                shares.setdefault(member, {})[ranks[device]] = hosting.shares[member]
                speeds.setdefault(member, {})[ranks[device]] = speed
    return Shares(shares, speeds, parts, together)
