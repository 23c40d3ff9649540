"""The relaxation: a bound that knows of memory, for ensembles with too many patterns to list.

Devices of a pool are taken together, by the room their largest workspace leaves: level v has the
memory less v for weights, and hosts what needs no more workspace than v. Over fractions of devices

    Σ weights · hosted ≤ Σ room at the level,   Σ ⌈(j+1) · weights / room⌉ − 1 ≤ j a device, j = 1, 2, 3

hold of every placement (the second is how many large members fit beside each other), a member is
hosted at least once as it is chosen to run, and an instance makes no more rows than the bound so
far; with each better bound the program is solved again. Workspaces are rounded down to a level.
"""

from __future__ import annotations

from math import ceil, inf

from hpcens.planners.menu import Menu
from hpcens.planners.model import Choice
from hpcens.planners.program import Columns, Effort, Rows, maximise_first

# Levels of one device; many devices share fewer, since their differences even out.
_MOST_LEVELS, _LEAST_LEVELS = 32, 6
_COLUMNS = 12_000
_ROUNDS = 6
_GAIN = 2e-3
_FRACTIONS = (1, 2, 3)


def relaxed_bound(menu: Menu, most: float, *, seconds: float, enough: float) -> float:
    """Rows/s that no placement exceeds: `most`, which is known to be one, or less.

    The menu is that of the largest devices of each pool. Ends early at a bound of `enough`.
    """
    for _ in range(_ROUNDS):
        bound = _solved(menu, most, seconds / 2)
        gain = 1 - bound / most
        most = min(most, bound)
        if gain < _GAIN or most <= enough:
            break
    return most


def _solved(menu: Menu, most: float, seconds: float) -> float:
    columns, rows = Columns(), Rows()
    throughput = columns.add(1.0)  # in units of `most`
    chosen = {(m, c): columns.add(1) for m in menu.members for c in menu.of(m)}
    made = {m: [(throughput, -1.0)] for m in menu.members}
    capped = {key: [(column, -1.0)] for key, column in chosen.items()}
    present = {key: [(column, -1.0)] for key, column in chosen.items()}
    for member in menu.members:
        rows.add([(chosen[member, c], 1.0) for c in menu.of(member)], 1, 1)
    share = _COLUMNS // (2 * max(1, len(chosen)) * len(menu.pools))
    for i, pool in enumerate(menu.pools):
        count = len(pool.devices)
        offers = [(m, c, option) for m, of in menu.offers[i].items() for c, option in of.items()]
        if not offers:
            continue
        levels = _levels(
            [option.workspace for *_, option in offers], max(_LEAST_LEVELS, min(share, _MOST_LEVELS // count))
        )
        context = min(option.context for *_, option in offers)
        hosting: dict[tuple[str, Choice], list[tuple[int, float]]] = {}
        devices = [columns.add(count) for _ in levels]
        rows.add([(column, 1.0) for column in devices], 0, count)
        for device, level in zip(devices, levels, strict=True):
            room = menu.room[i] - context - level
            times, loads = [], []
            beside: dict[int, list[tuple[int, float]]] = {j: [] for j in _FRACTIONS}
            for member, choice, option in offers:
                lowest = max(v for v in levels if v <= option.workspace)
                if lowest > level or option.weights > room:
                    continue
                hosted, time = columns.add(count), columns.add(count)
                speed = option.speed / most
                rows.add([(time, 1.0), (hosted, -min(1.0, 1 / speed))], -inf, 0)
                rows.add([(hosted, 1.0), (device, -1.0)], -inf, 0)
                times.append((time, 1.0))
                loads.append((hosted, option.weights / max(1, room)))
                for j in _FRACTIONS:
                    if part := ceil((j + 1) * option.weights / max(1, room) - 1e-9) - 1:
                        beside[j].append((hosted, part))
                made[member].append((time, speed))
                capped[member, choice].append((time, speed))
                present[member, choice].append((hosted, 1.0))
                hosting.setdefault((member, choice), []).append((hosted, 1.0))
            rows.add([*times, (device, -1.0)], -inf, 0)
            rows.add([*loads, (device, -1.0)], -inf, 0)
            for j, parts in beside.items():
                rows.add([*parts, (device, -float(j))], -inf, 0)
        for key, entries in hosting.items():
            rows.add([*entries, (chosen[key], -float(count))], -inf, 0)
    for entries in (*made.values(), *present.values()):
        rows.add(entries, 0, inf)
    for entries in capped.values():
        rows.add(entries, -inf, 0)
    return most * maximise_first(columns, rows, effort=Effort(1, seconds), gap=0.0).bound


def _levels(workspaces: list[int], most: int) -> list[int]:
    """At most so many of the workspaces, the smallest among them, evenly spread over what occurs."""
    rising = sorted(set(workspaces))
    step = ceil(len(rising) / most)
    return rising[::step]
