"""The menu: what each pool of devices offers each member, and what sets of members one of its devices holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from hpcens.allocation.bound import Pool
from hpcens.allocation.model import Choice, choices, measured
from hpcens.allocation.problem import Problem

Pattern = tuple[str, ...]
"""Members that one device hosts, in member order."""


@dataclass(frozen=True, slots=True)
class Option:
    """A member run in one way on the devices of one pool: rows/s alone, and bytes."""

    speed: float
    weights: int
    workspace: int
    context: int


@dataclass(frozen=True, slots=True)
class Menu:
    """All that is measured, by pool, member and choice; choices that cannot win are left out.

    offers  for each pool: member → choice → option, of those that fit its smallest device alone
    room    for each pool: bytes of its smallest device that segments in flight leave
    """

    members: tuple[str, ...]
    pools: tuple[Pool, ...]
    offers: tuple[Mapping[str, Mapping[Choice, Option]], ...]
    room: tuple[int, ...]

    def of(self, member: str) -> tuple[Choice, ...]:
        """Return the choices for the member on any pool."""
        return tuple(dict.fromkeys(choice for offer in self.offers for choice in offer.get(member, ())))

    def spare(self, pool: int, pattern: Iterable[str], runs: Mapping[str, Choice]) -> float:
        """Return the bytes left on a device of the pool that hosts the pattern; -inf where a member cannot run so."""
        offer = self.offers[pool]
        weights = workspace = context = 0
        for member in pattern:
            option = offer.get(member, {}).get(runs[member])
            if option is None:
                return -inf
            weights += option.weights
            workspace = max(workspace, option.workspace)
            context = max(context, option.context)
        return self.room[pool] - weights - workspace - context

    def in_runtime(self, runtime: str) -> Menu:
        """Return the menu with members in this runtime alone, but for those that have no such choice."""
        offers = []
        for offer in self.offers:
            options = {
                m: {c: o for c, o in options.items() if c.runtime == runtime} or options for m, options in offer.items()
            }
            offers.append(options)
        return Menu(self.members, self.pools, tuple(offers), self.room)

    @property
    def exact(self) -> bool:
        """Whether a member is as large however it runs, its workspace left out, and pools are of equal devices."""
        same = all(
            len({(option.weights, option.context) for option in options.values()}) == 1
            for offer in self.offers
            for options in offer.values()
        )
        return same and all(pool.most == pool.least for pool in self.pools)

    def only(self, runs: Mapping[str, Choice]) -> Menu:
        """Return the menu without any other way to run the members."""
        offers = tuple(
            {m: {runs[m]: options[runs[m]]} for m, options in offer.items() if runs[m] in options}
            for offer in self.offers
        )
        return Menu(self.members, self.pools, offers, self.room)


def make_menu(problem: Problem, pools: Sequence[Pool], *, largest: bool = False) -> Menu:
    """Make the menu of the problem on these pools, by their smallest devices, or for a bound by their largest."""
    room = tuple((pool.most if largest else pool.least) - problem.held for pool in pools)
    offers: list[dict[str, dict[Choice, Option]]] = [{} for _ in pools]
    for member in problem.members:
        rows = {}
        for choice in choices(problem, member):
            row = tuple(_option(problem, pool, member, choice, room[i]) for i, pool in enumerate(pools))
            if any(row):
                rows[choice] = row
        for choice, row in rows.items():
            if not any(_beats(other, rows[other], choice, row) for other in rows if other != choice):
                for i, option in enumerate(row):
                    if option:
                        offers[i].setdefault(member, {})[choice] = option
    return Menu(problem.members, tuple(pools), tuple(offers), room)


def _option(problem: Problem, pool: Pool, member: str, choice: Choice, room: int) -> Option | None:
    profiled = measured(problem, pool.kind, member, choice)
    if not profiled or profiled[1].rows_per_second <= 0:
        return None
    option = Option(profiled[1].rows_per_second, profiled[0].weights, profiled[1].workspace, profiled[0].context)
    return option if option.weights + option.workspace + option.context <= room else None


Row = tuple[Option | None, ...]


def _beats(choice: Choice, row: Row, other: Choice, other_row: Row) -> bool:
    """Tell whether one choice is on no pool worse than the other; of equals the first."""
    for a, b in zip(row, other_row, strict=True):
        if b is None:
            continue
        if (
            a is None
            or a.speed < b.speed
            or a.weights > b.weights
            or a.workspace > b.workspace
            or a.context > b.context
        ):
            return False
    return row != other_row or choice < other
