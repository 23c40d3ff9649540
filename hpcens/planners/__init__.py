"""Planners: from what was measured to the plan of a run. Each is a function from a Problem to a Placement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf

from hpcens.devices import Device
from hpcens.errors import UsageError
from hpcens.matrix import Hosting, MemberNumerics, Numerics, Plan
from hpcens.planners.bound import Bound, upper_bound
from hpcens.planners.greedy import place_greedy
from hpcens.planners.model import Placement, device_memory, divide, shares_of
from hpcens.planners.optimal import place_optimal
from hpcens.planners.problem import Problem
from hpcens.planners.worst_fit import place_worst_fit
from hpcens.segments import Segmentation, choose_segment_rows
from hpcens.specs import PlannerName

__all__ = ["PLANNERS", "Problem", "plan"]

PLANNERS: Mapping[PlannerName, Callable[[Problem], Placement]] = {
    "optimal": place_optimal,
    "greedy": place_greedy,
    "worst-fit": place_worst_fit,
}


def plan(
    problem: Problem,
    *,
    planner: PlannerName,
    batch_sizes: Iterable[int],
    rows: int,
    row_bytes: int,
    output_bytes: int,
    torch: str,
) -> Plan:
    """The whole plan of scoring `rows` rows, by the planner of that name.

    batch_sizes   what the planner may choose from; those larger than the dataset are left out
    row_bytes     bytes of one row of input
    output_bytes  bytes of one row of a member's output, the largest among the members
    torch         version of torch, which is part of the numerics

    The throughput never exceeds the bound, which is that of devices, members and reading alone; the
    optimal planner may prove a lower one. Raises UsageError where there is no device, a name occurs
    twice, or the members do not fit the devices.
    """
    _check_devices(problem)
    problem = problem.within(batch_sizes, rows)
    bound = upper_bound(problem)
    placement = PLANNERS[planner](problem)
    if placement.proven < bound.rows_per_second:
        bound = replace(bound, rows_per_second=placement.proven)
    division = divide(problem, placement)
    # Both are exact up to rounding, and a bound that is reached may round to either side.
    throughput = min(division.sharing.throughput, problem.reading, bound.rows_per_second)
    hostings = tuple(
        Hosting(
            tuple(device.name for device in devices),
            int(device_memory(problem, devices[0].kind, group.speeds, placement.runs)),
            group.speeds,
            shares,
        )
        for devices, group, shares in zip(
            division.devices, division.groups, shares_of(division, throughput), strict=True
        )
    )
    used = [device for devices in division.devices for device in devices]
    runs = {m: MemberNumerics(placement.runs[m].batch, placement.runs[m].runtime) for m in problem.members}
    segment_rows = choose_segment_rows(
        rows=rows,
        # A segment is also sent as a member's output, and that may be the larger of the two.
        row_bytes=max(row_bytes, output_bytes),
        rows_per_second=throughput,
        devices=len(used),
        batches=tuple(numerics.batch for numerics in runs.values()),
    )
    segments = len(Segmentation(rows, segment_rows))
    return Plan(
        planner=planner,
        devices=problem.devices,
        hostings=hostings,
        numerics=Numerics(segment_rows, runs, tuple(dict.fromkeys(device.kind for device in used)), torch),
        rows=rows,
        row_bytes=row_bytes,
        output_bytes=output_bytes,
        reading=None if problem.reading == inf else problem.reading,
        differences={m: _difference(problem, m, placement.runs[m].runtime) for m in problem.members},
        loading=max(_load_seconds(problem, placement, of) for of in division.devices),
        throughput=throughput,
        bound=bound.rows_per_second,
        limit=placement.forced or _limit(problem, bound, throughput, row_bytes),
        window=max(2, min(segments, max(8, 6 * len(used)))),
        read_ahead=max(2, min(segments, max(4, 3 * len(used)))),
    )


def _difference(problem: Problem, member: str, runtime: str) -> float:
    return max(
        (of.difference for (_, name, how), of in problem.profiles.items() if (name, how) == (member, runtime)),
        default=0.0,
    )


def _load_seconds(problem: Problem, placement: Placement, devices: Sequence[Device]) -> float:
    kind, members = devices[0].kind, placement.hosted[devices[0].name]
    return sum(problem.profiles[kind, m, placement.runs[m].runtime].load_seconds for m in members)


def _limit(problem: Problem, bound: Bound, throughput: float, row_bytes: int) -> str:
    """The bound's phrase; of reading, in bytes."""
    if problem.reading > bound.rows_per_second:
        return bound.limit
    return f"reading: {throughput * row_bytes / 1e9:.3g} of {problem.reading * row_bytes / 1e9:.3g} GB/s"


def _check_devices(problem: Problem) -> None:
    if not problem.devices:
        raise UsageError("there is no device to place members on", "ask for GPUs or CPU cores under devices:")
    twice = [name for name, count in Counter(device.name for device in problem.devices).items() if count > 1]
    if twice:
        raise UsageError(
            f"device {twice[0]} is listed more than once", "give every device of the world its own name (host/cuda0 …)"
        )
