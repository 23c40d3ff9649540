"""Pricing: the members that make most of one device, where a row of each is worth so much.

    max Σ worth · made   s.t.  Σ made / speed ≤ 1,   made ≤ most,   Σ weights of those that make any + level ≤ room

The level is the largest workspace; it decides how fast each member may run. For every level the two constraints
have prices (of the device's time, and of its bytes) that bound what it comes to. Levels are searched in the order
of that bound, the members of each in the order of what their time yields, and a choice of members is followed as
long as it may still come to more than the best known. What is followed no further counts in the bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpcens.allocation.menu import Option, Pattern
from hpcens.allocation.model import Choice

# Choices of members followed at once; the search of a level goes no wider.
_WIDEST = 3000
# Halvings of the range in which a price lies.
_HALVINGS = 14


@dataclass(frozen=True, slots=True)
class Column:
    """What one device may host: member → rows/s, beside the largest workspace that is allowed there."""

    speeds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Priced:
    """What a device may come to: a bound, and columns that come near it, the best first."""

    bound: float
    columns: tuple[Column, ...]


class Pricing:
    """One pool's members, prepared for being priced again and again.

    offer  member → choice → option
    room   bytes of its largest device
    """

    def __init__(self, offer: Mapping[str, Mapping[Choice, Option]], room: int) -> None:
        import numpy as np

        self.members = tuple(offer)
        options = [option for by_choice in offer.values() for option in by_choice.values()]
        levels = sorted({option.workspace for option in options})
        self._speeds = np.zeros((len(levels), len(offer)))
        self._weights = np.full((len(levels), len(offer)), np.inf)
        for m, by_choice in enumerate(offer.values()):
            for option in by_choice.values():
                first = levels.index(option.workspace)
                self._speeds[first:, m] = np.maximum(self._speeds[first:, m], option.speed)
                self._weights[first:, m] = np.minimum(self._weights[first:, m], option.weights)
        context = min((option.context for option in options), default=0)
        spare = room - context - np.array(levels, float)
        useful = spare > 0
        # Bytes stay whole: sums of parts would be rounded, and what fits to the byte might not.
        self._spare, self._speeds, self._weights = spare[useful], self._speeds[useful], self._weights[useful]
        self._speeds[self._weights > self._spare[:, None]] = 0.0

    def column(self, pattern: Pattern) -> Column | None:
        """Return what a device makes of the members at the largest workspace they leave; None where they do not fit."""
        import numpy as np

        at = [self.members.index(m) for m in pattern if m in self.members]
        fit = np.flatnonzero(
            (self._weights[:, at].sum(1) <= self._spare) & (self._speeds[:, at] > 0).all(1) & (len(at) == len(pattern))
        )
        return self._column(int(fit[-1]), at) if len(fit) else None

    def _column(self, level: int, members: Iterable[int]) -> Column:
        return Column({self.members[m]: float(self._speeds[level, m]) for m in sorted(members)})

    def best(self, worth: Mapping[str, float], most: float, precision: float) -> Priced:
        """Search for the columns that make most of a device.

        worth      of a row of each member
        most       rows/s that no member need make more of
        precision  the part by which the bound may be above the best found; more where a search grew too wide
        """
        import numpy as np

        prices = np.array([worth[m] for m in self.members])
        value = prices * np.minimum(self._speeds, most)
        time = np.divide(most, self._speeds, out=np.ones_like(value), where=self._speeds > most)
        weights = np.where(value > 0, self._weights, 0.0)
        seconds, bytes_, bounds = _prices(value, time, weights, self._spare)
        best_found = _Found(precision)
        for level in np.argsort(-bounds, kind="stable"):
            if bounds[level] <= best_found.enough:
                break
            before = best_found.value
            search = _Level(value[level], time[level], weights[level], self._spare[level])
            search.search(best_found, float(seconds[level]), float(bytes_[level]), float(bounds[level]))
            if best_found.value > before:
                best_found.levels.append((int(level), best_found.members))
        columns = tuple(self._column(level, members) for level, members in reversed(best_found.levels))
        return Priced(max(best_found.enough, best_found.dropped), columns)


class _Found:
    """The best so far, over all levels; and the most that something no longer followed might have come to."""

    def __init__(self, precision: float) -> None:
        self._precision = precision
        self.value = 0.0
        self.members: tuple[int, ...] = ()
        self.dropped = 0.0
        self.levels: list[tuple[int, tuple[int, ...]]] = []

    @property
    def enough(self) -> float:
        return self.value * (1 + self._precision)


def _prices(value: Any, time: Any, weights: Any, spare: Any) -> tuple[Any, Any, Any]:
    """Return of every level the price of its time and of its bytes at which their bound is least, and that bound.

    Any prices are good for a bound; these are found by halving within halving.
    """
    import numpy as np

    def bound(second: Any, byte: Any) -> Any:
        left = value - second[:, None] * time - byte[:, None] * weights
        return second + byte * spare + np.maximum(left, 0.0).sum(1)

    def byte_for(second: Any) -> Any:
        """Return the best price of a byte beside this price of time."""
        left = value - second[:, None] * time
        ratio = np.divide(left, weights, out=np.zeros_like(left), where=weights > 0)
        low, high = np.zeros(len(spare)), ratio.max(1, initial=0.0)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            over = np.where(ratio > middle[:, None], weights, 0.0).sum(1) > spare
            low, high = np.where(over, middle, low), np.where(over, high, middle)
        return high

    yields = np.divide(value, time, out=np.zeros_like(value), where=time > 0)
    low, high = np.zeros(len(spare)), yields.max(1, initial=0.0)
    step = (high - low) * 1e-3
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        falls = bound(middle + step, byte_for(middle + step)) < bound(middle, byte_for(middle))
        low, high = np.where(falls, middle, low), np.where(falls, high, middle)
    second = (low + high) / 2
    byte = byte_for(second)
    return second, byte, bound(second, byte)


class _Level:
    """The members of one device at one level: value, time and weights where one makes all its rows there."""

    def __init__(self, value: Any, time: Any, weights: Any, spare: float) -> None:
        self._value = value
        self._time = time
        self._weights = weights
        self._spare = spare

    def search(self, best_found: _Found, second: float, byte: float, bound: float) -> None:
        """Follow every choice of members that may come to more than what is found, under these prices.

        second  price of a second of a device's time
        byte    price of a byte of its memory
        bound   no choice comes to more
        """
        import numpy as np

        gained, paid = self._value - second * self._time, byte * self._weights
        left = gained - paid
        # One that makes few rows costs its bytes all the same, and little time.
        joining = bound + np.minimum(np.maximum(gained, 0.0) - paid, 0.0)
        able = np.flatnonzero((self._value > 0) & (joining > best_found.enough))
        order = able[np.argsort(-(self._value[able] / self._time[able]), kind="stable")]
        rest = np.r_[np.cumsum(np.maximum(left[order], 0.0)[::-1])[::-1], 0.0]
        spare, free, value = np.array([self._spare]), np.ones(1), np.zeros(1)
        taken = np.zeros((1, len(order)), bool)
        for k, m in enumerate(order):
            fits = spare >= self._weights[m]
            whole = fits & (free >= self._time[m])
            if (partly := np.flatnonzero(fits & ~whole)).size:
                filled = value[partly] + self._value[m] / self._time[m] * free[partly]
                self._note(best_found, filled, taken[partly], order, k)
            into = np.flatnonzero(whole)
            joined = taken[into]
            joined[:, k] = True
            more = value[into] + self._value[m]
            if more.size:
                self._note(best_found, more, joined, order, k)
            spare = np.r_[spare, spare[into] - self._weights[m]]
            free = np.r_[free, free[into] - self._time[m]]
            value = np.r_[value, more]
            taken = np.concatenate([taken, joined])
            may = value + second * free + byte * spare + rest[k + 1]
            kept = np.flatnonzero(may > best_found.enough)
            if len(kept) > _WIDEST:
                kept = kept[np.argsort(-may[kept], kind="stable")]
                best_found.dropped = max(best_found.dropped, float(may[kept[_WIDEST]]))
                kept = kept[:_WIDEST]
            spare, free, value, taken = spare[kept], free[kept], value[kept], taken[kept]
            if not len(kept):
                return

    @staticmethod
    def _note(best_found: _Found, values: Any, taken: Any, order: Any, last: int) -> None:
        best = int(values.argmax())
        if values[best] > best_found.value:
            best_found.value = float(values[best])
            best_found.members = tuple(int(m) for m in {*order[taken[best]], order[last]})
