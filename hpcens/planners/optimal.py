"""The optimal planner: the best division of device time, then a placement that reaches it.

Placements, in the order tried; the first two reach the throughput of the linear program:

1. replicated: every member of a kind on all its devices. Any device can then take any work, so a
   slow one never stalls a member, and a row travels to one device only. Wanted where loading is cheap.
2. wrapped (McNaughton's wrap-around): the members' times laid end to end over the devices. Only
   members at a border share a device, so it needs the least memory and loading.
3. wrapped with smaller workspaces, hence batches, and without the instances that do not fit.
4. the bounded greedy, and where nothing else fits a packing by integer program.

Where memory kept 1 and 2 from fitting, 3 and 4 are improved by climbing, and the best is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hpcens.errors import UsageError
from hpcens.planners.bound import Bound, Pool, memory_limit, pools, upper_bound
from hpcens.planners.choice import ceilings, choose, rates
from hpcens.planners.climb import climb
from hpcens.planners.greedy import place_greedy
from hpcens.planners.layout import lay
from hpcens.planners.model import Choice, Placement, best_shares, device_memory, place
from hpcens.planners.packing import place_packed
from hpcens.planners.problem import Problem
from hpcens.planners.sharing import Sharing
from hpcens.planners.worst_fit import place_worst_fit

# This near to the bound, nothing else is tried.
_NEAR = 1 - 1e-6


def place_optimal(problem: Problem) -> Placement:
    """The placement of most throughput among those above. Raises UsageError where none fits."""
    bound = upper_bound(problem)
    enough = bound.rows_per_second * _NEAR
    wrapped, forced = _wrapped(problem, bound)
    if wrapped and best_shares(problem, wrapped)[0] >= enough:
        return wrapped
    starts = [start for start in (wrapped, _greedy(problem)) if start]
    if not wrapped and (packed := place_packed(problem)):
        starts.append(packed)
    if not starts:
        return place_worst_fit(problem)  # raises, naming a member that finds no room
    if forced:
        starts = [climb(problem, start, enough) for start in starts]
    reached, best = max(((best_shares(problem, start)[0], start) for start in starts), key=lambda pair: pair[0])
    return best if reached >= enough else replace(best, forced=forced)


def _greedy(problem: Problem) -> Placement | None:
    try:
        return place_greedy(problem)
    except UsageError:
        return None


def _wrapped(problem: Problem, bound: Bound) -> tuple[Placement | None, str]:
    """The fastest replicated or wrapped placement, under falling ceilings on the workspaces until all
    of it fits; and the memory that forced a ceiling below the first, as a phrase."""
    found = pools(problem)
    best: Placement | None = None
    reached, forced = 0.0, ""
    for ceiling in ceilings(problem, found):
        rated = rates(problem, found, ceiling)
        if not all(rated.values()):
            break
        runs, sharing = choose(found, rated, bound.sharing)
        if sharing.throughput <= reached:
            break
        hosted, full = _laid(problem, found, sharing, runs)
        placement = _trimmed(problem, hosted, runs) if full else place(problem, hosted, runs)
        if placement and (throughput := best_shares(problem, placement)[0]) > reached:
            best, reached = placement, throughput
        if full is None:
            break
        forced = forced or memory_limit(full.devices[0])
    return best, forced


def _laid(
    problem: Problem, found: Sequence[Pool], sharing: Sharing, runs: Mapping[str, Choice]
) -> tuple[dict[str, tuple[str, ...]], Pool | None]:
    """Device → members, from a layout of every pool; and the pool whose memory it exceeds the most, if any."""
    hosted: dict[str, tuple[str, ...]] = {}
    full, most = None, 0.0
    for pool, times in zip(found, sharing.times, strict=True):
        layout, excess = lay(problem, pool, times, runs, problem.rows / sharing.throughput)
        hosted |= {device.name: members for device, members in zip(pool.devices, layout, strict=True)}
        if excess > most:
            full, most = pool, excess
    return hosted, full


def _trimmed(problem: Problem, hosted: Mapping[str, tuple[str, ...]], runs: Mapping[str, Choice]) -> Placement | None:
    """Without the instances that exceed the memory, the largest first; None where a member would have no other."""
    left = {device: list(members) for device, members in hosted.items()}
    for device in problem.devices:
        members = left.get(device.name, [])
        while device_memory(problem, device.kind, members, runs) > device.memory:
            spare = [m for m in members if sum(m in others for others in left.values()) > 1]
            if not spare:
                return None
            members.remove(max(spare, key=lambda m: device_memory(problem, device.kind, (m,), runs)))
    return place(problem, left, runs)
