"""Write reports of starts and verifications as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isinf, log10
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from hpcens.runs import (
    Event,
    InstanceReport,
    PlanMade,
    ProfilingBegan,
    ProfilingEnded,
    ProgressMade,
    RankReport,
    Report,
    WorldFormed,
)
from hpcens.runs.cost import Cost
from hpcens.shell import amount as amount
from hpcens.shell import counted

if TYPE_CHECKING:
    from hpcens.result import Verification

Item = TypeVar("Item")
Number = TypeVar("Number", int, float)

# Of equal instances the slowest is named where it reached less than this part of the median.
_SLOW = 0.8

# Names of what a rank's thread spends its time on → what it did, in words.
_DONE = {
    "Predict": "computed",
    "Read": "read",
    "Write": "combined and wrote",
    "Flush": "synced",
    "Progress": "recorded progress",
    "wait for input": "waited for input",
    "wait to hand over": "waited to hand over",
}
# What a verification found of a member's weights → in words.
_WEIGHTS = {
    "as scored": "its weights are those that scored these rows",
    "changed": "its weights have changed since",
    "weights are gone": "its weights are gone",
    "loaded by its factory, not looked at": "its factory loads its weights, which are not checked",
}
# Events of a start, in their order → what the time since the one before was needed for.
_PARTS: dict[type[Event], str] = {
    WorldFormed: "to launch the ranks",
    ProfilingBegan: "to see what is not measured yet",
    ProfilingEnded: "to profile members and prepare their runtimes",
    PlanMade: "to plan",
    ProgressMade: "to import torch and load members",
}


def report_lines(report: Report) -> Iterator[str]:
    """Show what was predicted beside what was measured, for the run and for every instance, equal ones in one line."""
    measured, predicted = report.rows_per_second, report.predicted_rows_per_second
    yield f"scored {report.rows:,} rows in {report.seconds:.2f} s: {rate(measured)}, {figures(predicted)} predicted"
    if report.instances:
        yield "  device  member  batch size  rows scored  rows/s while it computed them, and as planned"
    for alike in grouped(that_ran(report), lambda i: (i.member, i.batch, i.runtime, i.phase, i.speed)):
        yield f"  {_instances_phrase(alike)}"
    yield f"  reducers waited for the disk {100 * report.syncing_share:.1f} % of the time"
    if report.sharing is not None:
        devices = sum(rank.role.startswith("device ") for rank in report.ranks)
        yield f"  rows in shared memory: {report.sharing} of {counted(devices, 'device')}"
    for why in report.unregistered:
        yield f"  rows were copied once more on their way to {why}"
    if report.idle:
        yield f"  not used: {devices_phrase(report.idle)}: no rank that computes is on their node"
    yield from (f"  {line}" for line in spot_check_lines(report))
    if report.bottleneck:
        yield f"  busiest role: {report.bottleneck.replace(': ', ', ', 1)}"
    if report.ranks:
        yield "  ranks, by role: time of the CPU, most memory in use, what share of the scoring time went into what"
    for ranks in grouped(report.ranks, lambda rank: rank.role.partition(" ")[0]):
        yield f"  {_ranks_phrase(ranks, report.seconds)}"


def that_ran(report: Report) -> list[InstanceReport]:
    """Return the instances that scored something; one of all members of a group, which ran as one on their device."""
    units: dict[object, list[InstanceReport]] = {}
    for instance in report.instances:
        if instance.measured_speed is not None:
            unit = (instance.group or (instance.member,), instance.device, instance.phase)
            units.setdefault(unit, []).append(instance)
    return [_as_one(alike) for alike in units.values()]


def _as_one(members: Sequence[InstanceReport]) -> InstanceReport:
    """Return what members did that ran as one on a device, each for an equal part of the time."""
    first, count = members[0], len(members)
    if not first.group:
        return first
    measured = first.measured_speed and first.measured_speed / count
    return replace(first, member=first.group, speed=first.speed / count, measured_speed=measured)


def spot_check_lines(report: Report) -> Iterator[str]:
    """Say how far runtimes were from eager in the same precision, on the rows that were computed in both."""
    for check in report.spot_checks:
        plain = check.precision in ("float32", "float64")
        limit = "plan.tolerance" if plain else f"what rounding in {check.precision} explains"
        beyond = f", {check.beyond} beyond {limit}" if check.beyond else ""
        eager = "eager" if plain else f"eager in {check.precision}"
        yield f"{check.member} in {check.runtime}: {check.rows} rows within {check.worst:.1g} of {eager}{beyond}"


def broken_lines(failures: Sequence[str], taken: int) -> Iterator[str]:
    """Name the devices that broke, and say how much others did in their place.

    taken  rows, each counted once for each member
    """
    if failures:
        yield f"warning: {'; '.join(failures)}; others took over {counted(taken, 'row')}, counted once for each member"


def grouped(items: Iterable[Item], alike: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Put together what is alike, in the order of the first of each; fewer than three stay apart."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(alike(item), []).append(item)
    return [part for group in groups.values() for part in ([group] if len(group) > 2 else [[item] for item in group])]


def _instances_phrase(alike: Sequence[InstanceReport]) -> str:
    """Write what equal instances were to do and did; of many also which was the slowest, where it stands out."""
    first = alike[0]
    speeds = {instance.device: instance.measured_speed or 0.0 for instance in alike}
    rows = f"{sum(instance.rows for instance in alike):,} rows"
    head = f"{devices_phrase(list(speeds))}  {first.member}  batch {first.batch}  {rows}"
    each, they = (" each", "they") if len(alike) > 1 else ("", "it")
    slowest = min(speeds, key=speeds.__getitem__)
    tail = f"; slowest: {slowest}" if speeds[slowest] < _SLOW * median(speeds.values()) else ""
    measured = span(list(speeds.values()), figures)
    return f"{head}  {measured} rows/s{each} while {they} ran, {figures(first.speed)} planned{tail}"


def _ranks_phrase(ranks: Sequence[RankReport], seconds: float) -> str:
    """Write what ranks of one role took: CPU time, memory, and shares of the scoring time."""
    if len(ranks) == 1:
        who, each = ranks[0].role, ""
    else:
        who, each = f"{len(ranks)} × {ranks[0].role.partition(' ')[0]}", ", each"
    cpu = span([rank.cpu_seconds for rank in ranks], lambda took: f"{took:.1f}")
    peak = span([rank.peak_bytes for rank in ranks], amount)
    sums: dict[str, float] = {}
    for rank in ranks:
        for name, took in rank.spent.items():
            sums[name] = sums.get(name, 0.0) + took
    shares = []
    for name in sorted(sums, key=lambda name: -sums[name]):
        parts = [100 * rank.spent.get(name, 0.0) / seconds for rank in ranks]
        shares.append(f"{_DONE.get(name, name)} {span(parts, lambda part: f'{part:.0f}')} %")
    return f"{who}: " + "; ".join(filter(None, (f"{cpu} s of CPU, peak {peak}{each}", ", ".join(shares))))


def span(values: Sequence[Number], write: Callable[[Number], str]) -> str:
    """Write the least and the largest, once where they read alike."""
    least, most = write(min(values)), write(max(values))
    return least if least == most else f"{least}–{most}"


def devices_phrase(names: Sequence[str]) -> str:
    """Write few names as they are, many as the first, the last and their number."""
    return ", ".join(names) if len(names) < 3 else f"{names[0]} … {names[-1]} ({len(names)})"


def nodes_phrase(nodes: Mapping[str, int]) -> str:
    """Write how many ranks each node has, nodes that have as many together."""
    names: dict[int, list[str]] = {}
    for node, ranks in nodes.items():
        names.setdefault(ranks, []).append(node)
    return ", ".join(
        f"{ranks} on {phrase}"
        for ranks, alike in names.items()
        for phrase in (alike if len(alike) < 3 else [f"each of {devices_phrase(alike)}"])
    )


def cost_line(this: Cost, every: Cost) -> str:
    """Write what a start cost, and all starts of its run."""
    more = f"; all starts of the run: {cost_phrase(every)}" if every.node_seconds > this.node_seconds else ""
    return f"cost: {cost_phrase(this)}{more}"


def cost_phrase(cost: Cost) -> str:
    """Write node-hours, and GPU-hours where there are GPUs."""
    gpus = f", {cost.gpu_seconds / 3600:,.3g} GPU-hours" if cost.gpu_seconds else ""
    return f"{cost.node_seconds / 3600:,.3g} node-hours{gpus}"


def start_lines(began: float, events: Iterable[Event]) -> Iterator[str]:
    """Show what a start took until its first batch, by part; nothing where it came to none.

    began   seconds since 1970 at which the start began
    events  of the start, in their order
    """
    moments: dict[type[Event], float] = {}
    for event in events:
        moments.setdefault(type(event), event.time)
        if isinstance(event, ProgressMade):
            break
    else:
        return
    parts, last = [], began
    for kind, part in _PARTS.items():
        if kind in moments:
            parts.append(f"{moments[kind] - last:.1f} s {part}")
            last = moments[kind]
    yield f"ready {last - began:.1f} s after it began: {'; '.join(parts)}"


def verification_lines(verification: Verification) -> Iterator[str]:
    """Show what was compared, what became of each member's weights, and up to 20 faults."""
    segments = counted(verification.segments, "segment")
    yield f"{counted(verification.rows, 'row')} in {segments}; journal: {verification.journal}"
    for name, state in verification.members.items():
        yield f"member {name}: {_WEIGHTS.get(state, state)}"
    for fault in verification.faults[:20]:
        yield f"fault: {fault}"
    if len(verification.faults) > 20:
        yield f"and {len(verification.faults) - 20} more"


def figures(number: float) -> str:
    """Write a number with three significant digits, thousands apart."""
    if not abs(number) >= 1000 or isinf(number):
        return f"{round(number):,}" if 999.5 <= abs(number) < 1000 else f"{number:.3g}"
    unit = 10 ** (int(log10(abs(number))) - 2)
    return f"{round(number / unit) * unit:,.0f}"


def rate(rows_per_second: float) -> str:
    """Write rows/s."""
    return f"{figures(rows_per_second)} rows/s"
