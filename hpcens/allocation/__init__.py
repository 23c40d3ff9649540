"""Compute allocation matrices and their bounds: from what was measured to the plan of a run.

Each planner is a function from a Problem to a Placement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from hpcens.allocation.bound import Bound, beside_readers, memory_limit, upper_bound
from hpcens.allocation.bundles import Bundles, bundle
from hpcens.allocation.columns import best_plan, gain
from hpcens.allocation.greedy import evaluations, place_greedy
from hpcens.allocation.grouping import Phase, load_seconds, place_in_phases
from hpcens.allocation.model import Choice, Placement, best_throughput, device_memory, divide, shares_of
from hpcens.allocation.optimal import place_optimal
from hpcens.allocation.problem import Problem
from hpcens.allocation.segment_size import SEGMENTS_HELD, most_segment_bytes, segment_rows, timely
from hpcens.allocation.streams import Streams, stream, takers
from hpcens.allocation.worst_fit import place_worst_fit
from hpcens.errors import UsageError
from hpcens.specs import PlannerName
from hpcens.vocabulary import Hosting, MemberNumerics, Numerics, Plan, Segmentation

__all__ = ["PLANNERS", "SEGMENTS_HELD", "Problem", "evaluations", "gain", "most_segment_bytes", "plan", "timely"]

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
    torch: str,
    earlier: int | None = None,
) -> Plan:
    """Plan the scoring of `rows` rows, by the planner of that name.

    batch_sizes   what the planner may choose from; those larger than the dataset are left out
    torch         version of torch, which is part of the numerics
    earlier       rows per segment of an earlier plan of the same members; None where there is none

    A group is one column of the matrix where that is better, see `columns`. Where no placement holds the members, the
    optimal planner plans phases. The throughput never exceeds the bound, which is that of devices, members, readers and
    reducers alone; the optimal planner may prove a lower one. Raises UsageError where there is no device, a name occurs
    twice, a member fits no device even alone, or another planner finds no placement.
    """
    _check_devices(problem)
    problem = problem.within(batch_sizes, rows).per_row()
    return best_plan(problem, partial(_plan, planner=planner, rows=rows, torch=torch, earlier=earlier))


def _plan(problem: Problem, *, planner: PlannerName, rows: int, torch: str, earlier: int | None) -> Plan:
    """Plan the members that the problem has, each a column of the matrix."""
    parts = [_bounded(alone, planner) for alone in problem.in_stages]
    phases = [phase for _, _, own, _ in parts for phase in own]
    bundled = [bundles for _, _, own, bundles in parts for _ in own]
    staged = [_stage(phase, number, bundled[number]) for number, phase in enumerate(phases)]
    bounds = [bound.rows_per_second for _, bound, _, _ in parts]
    most = bounds[0] if len(bounds) == 1 else 1 / sum(1 / bound for bound in bounds)
    # Both are exact up to rounding, and a bound that is reached may round to either side.
    throughput = min(1 / sum(1 / stage.streams.throughput for stage in staged), most)
    hostings = tuple(hosting for stage in staged for hosting in stage.hostings)
    runs = {
        m: MemberNumerics(stage.runs[m].batch, stage.runs[m].runtime)
        for m in problem.members
        for stage in staged
        if m in stage.runs
    }
    devices = max(sum(len(hosting.devices) for hosting in stage.hostings) for stage in staged)
    rows_of_one = segment_rows(problem, hostings, runs, devices=devices, earlier=earlier)
    segments = len(Segmentation(rows, rows_of_one))
    used = {name for hosting in hostings for name in hosting.devices}
    return Plan(
        planner=planner,
        devices=problem.devices,
        hostings=hostings,
        numerics=Numerics(
            rows_of_one, runs, tuple(dict.fromkeys(d.kind for d in problem.devices if d.name in used)), torch
        ),
        rows=rows,
        differences={m: _difference(problem, m, numerics.runtime) for m, numerics in runs.items()},
        row_bytes=problem.row_bytes,
        output_bytes=problem.output_bytes,
        rates=problem.rates,
        loading=sum(load_seconds(phase.problem, phase.placement) for phase in phases),
        throughput=throughput,
        bound=most,
        limit=_limit_of([part[:3] for part in parts], staged),
        window=max(2, min(segments, max(8, 6 * devices))),
        read_ahead=max(2, min(segments, max(4, 3 * devices))),
        phases=tuple(stage.members for stage in staged) if len(phases) > 1 else (),
        readers=max(stage.streams.readers for stage in staged),
        reducers=max(stage.streams.reducers for stage in staged),
        remark=_LATE if any(phase.placement.late for phase in phases) else "",
        parts={m: part for m, part in problem.parts.items() if m in runs},
        copied=sum(stage.streams.copied for stage in staged) if problem.shared else None,
    )


def _difference(problem: Problem, member: str, runtime: str) -> float:
    return max(
        (
            profile.difference
            for (_, name, how), profile in problem.profiles.items()
            if (name, how) == (member, runtime)
        ),
        default=0.0,
    )


# A placement in bundles this near the bound is taken without looking for one that parts them.
_NEAR = 0.99
_LATE = "a solver's time was up: a longer search, or a faster machine, may find a better plan or a closer bound"


def _placed(problem: Problem, planner: PlannerName) -> tuple[Phase, ...]:
    """Place all members at once, where any placement holds them; else in phases, by the optimal planner alone."""
    try:
        return (Phase(problem, PLANNERS[planner](problem)),)
    except UsageError:
        if planner != "optimal":
            raise
    return place_in_phases(problem)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What a phase comes to."""

    hostings: tuple[Hosting, ...]
    streams: Streams
    members: tuple[str, ...]
    runs: Mapping[str, Choice]


def _stage(phase: Phase, number: int, bundles: Bundles | None) -> _Stage:
    problem, placement = phase.problem, phase.placement
    members, runs = problem.members, placement.runs
    division = divide(problem, placement)
    possible = division.sharing.throughput
    taken = takers(zip(division.devices, shares_of(division, possible), strict=True), possible, problem.parts)
    streams = stream(problem, min(possible, placement.proven), taken)
    hostings = tuple(
        Hosting(
            tuple(device.name for device in devices),
            int(device_memory(problem, devices[0].kind, group.speeds, placement.runs)),
            _of_own_rows(
                bundles.speeds(devices[0].kind, group.speeds, runs) if bundles else group.speeds,
                bundles.whole.parts if bundles else problem.parts,
            ),
            _of_own_rows(
                bundles.shares(shares) if bundles else shares, bundles.whole.parts if bundles else problem.parts
            ),
            number,
        )
        for devices, group, shares in zip(
            division.devices, division.groups, shares_of(division, streams.throughput), strict=True
        )
    )
    if bundles:
        members, runs = bundles.members_of(members), bundles.runs(runs)
    return _Stage(hostings, streams, members, runs)


def _of_own_rows(rates: Mapping[str, float], parts: Mapping[str, float]) -> dict[str, float]:
    """Return rows/s of each member's own rows, by those of the dataset's."""
    return {member: rate * parts[member] if member in parts else rate for member, rate in rates.items()}


def _bounded(problem: Problem, planner: PlannerName) -> tuple[Problem, Bound, tuple[Phase, ...], Bundles | None]:
    """Place members that are scored side by side where any placement holds them.

    Returns also what none exceeds, and the bundles in which they were placed: None where all are by themselves.
    """
    problem = beside_readers(problem)
    bundles = bundle(problem)
    if bundles is not None:
        charged = beside_readers(bundles.charged())
        bound = upper_bound(charged)
        bundles = replace(bundles, problem=replace(bundles.problem, beside=charged.beside))
        together = _placed_if_possible(bundles.problem, planner)
        if len(together) == 1 and _rows_per_second(together) >= _NEAR * bound.rows_per_second:
            return bundles.problem, bound, together, bundles
        apart = _placed(problem, planner)
        if together and _rows_per_second(together) >= _rows_per_second(apart):
            return bundles.problem, bound, together, bundles
        return problem, bound, apart, None
    bound = upper_bound(problem)
    phases = _placed(problem, planner)
    if len(phases) == 1 and phases[0].placement.proven < bound.rows_per_second:
        bound = replace(bound, rows_per_second=phases[0].placement.proven)
    return problem, bound, phases, None


def _placed_if_possible(problem: Problem, planner: PlannerName) -> tuple[Phase, ...]:
    """Place members in bundles; () where no device holds one."""
    try:
        return _placed(problem, planner)
    except UsageError:
        return ()


def _rows_per_second(phases: Sequence[Phase]) -> float:
    return 1 / sum(1 / best_throughput(phase.problem, phase.placement) for phase in phases)


def _limit_of(parts: Sequence[tuple[Problem, Bound, Sequence[Phase]]], staged: Sequence[_Stage]) -> str:
    """Say what limits; of a cascade, what limits the stage that takes longest."""
    limits: list[tuple[float, str]] = []
    first = 0
    for problem, bound, phases in parts:
        own = staged[first : first + len(phases)]
        first += len(phases)
        limits.append((sum(1 / stage.streams.throughput for stage in own), _limit(problem, bound, phases, own)))
    longest = max(limits)
    where = f" (stage {limits.index(longest) + 1} of {len(limits)} of the cascade)" if len(limits) > 1 else ""
    return f"{longest[1]}{where}"


def _limit(problem: Problem, bound: Bound, phases: Sequence[Phase], staged: Sequence[_Stage]) -> str:
    """Say what limits, as a phrase: readers and reducers with the bytes they pass; memory; or the bound's phrase."""
    slowest = min((stage.streams for stage in staged), key=lambda streams: streams.throughput)
    if slowest.limit == "writing":
        return f"writing: {slowest.throughput:,.4g} rows/s by {_several(slowest.reducers, 'reducer')}"
    if slowest.limit:
        reading = slowest.limit == "reading"
        most = problem.rates.read_by(slowest.readers) if reading else slowest.readers * problem.sending
        done = "read" if reading else "send"
        who = f"{slowest.readers} readers {done}" if slowest.readers > 1 else f"one reader {done}s"
        return f"{slowest.limit}: {most * problem.row_bytes / 1e9:.3g} GB/s is the most that {who}"
    if len(phases) > 1:
        largest = max(problem.devices, key=lambda device: device.memory)
        return f"{memory_limit(largest)}: no placement holds all members, {len(phases)} phases do"
    return phases[0].placement.forced or bound.limit


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count > 1)


def _check_devices(problem: Problem) -> None:
    if not problem.devices:
        raise UsageError("there is no device to place members on", "ask for GPUs or CPU cores under devices:")
    twice = [name for name, count in Counter(device.name for device in problem.devices).items() if count > 1]
    if twice:
        raise UsageError(
            f"device {twice[0]} is listed more than once", "give every device of the world its own name (host/cuda0 …)"
        )
