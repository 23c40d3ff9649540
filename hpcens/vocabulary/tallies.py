"""Tallies: what devices did over a round, by member."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MemberTally:
    """What one instance did: rows scored and seconds spent computing them."""

    rows: int = 0
    seconds: float = 0.0

    def __add__(self, other: MemberTally) -> MemberTally:
        return MemberTally(self.rows + other.rows, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one device rank did over a round, or over several, by member."""

    members: dict[str, MemberTally] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        both = self.members.keys() | other.members.keys()
        none = MemberTally()
        return Tally({m: self.members.get(m, none) + other.members.get(m, none) for m in sorted(both)})
