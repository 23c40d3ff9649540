"""Report: plans, reports and verifications as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcens.planning.nodes import Allocation, knee, spell
from hpcens.result.verify import Verification
from hpcens.vocabulary import Hosting, Plan

if TYPE_CHECKING:
    from hpcens.planning.comparison import Compared
    from hpcens.planning.simulation import Simulated

# Of a terminal of 256 colours, from no part of a device's time to all of it.
_SHADES = (254, 195, 153, 117, 75, 39, 33)

# What a rank's thread is asked to do, as what it did.
_DONE = {
    "Predict": "computed",
    "Read": "read",
    "Write": "combined and wrote",
    "Flush": "synced",
    "Progress": "told of it",
    "wait for input": "waited for input",
    "wait to hand over": "waited to hand over",
}
# Events of a start → what has been done by then.
_PARTS = {
    "world": "to launch the ranks",
    "profiling": "to see what is not measured yet",
    "profiled": "to profile members and prepare their runtimes",
    "planned": "to plan",
    "progress": "to import torch and load members",
}


def plan_lines(plan: Plan, *, shaded: bool = False) -> Iterator[str]:
    """The matrix, a row for devices that nothing tells apart, memory and load of each; and the summary.

    shaded  colour a cell by its part of the device's time, for a terminal
    """
    columns = {member: max(len(member), 4) for member in plan.members}
    memory = {device.name: device.memory for device in plan.devices}
    rows = [(devices_phrase(hosting.devices), hosting) for hosting in plan.hostings]
    unused = tuple(name for name, used in plan.memory.items() if not used)
    idle = [devices_phrase(unused)] if unused else []
    wide = max(len("device"), *(len(phrase) for phrase, _ in rows), *map(len, idle))
    heads = "  ".join(member.rjust(width) for member, width in columns.items())
    yield f"{'device'.ljust(wide)}  {heads}  {'memory':>21}  {'busy':>5}"
    for phrase, hosting in rows:
        cells = "  ".join(_cell(plan, hosting, m, width, shaded=shaded) for m, width in columns.items())
        used = f"{amount(hosting.memory)} of {amount(min(memory[name] for name in hosting.devices))}"
        yield f"{phrase.ljust(wide)}  {cells}  {used:>21}  {100 * load_of(hosting):>3.0f} %"
    for phrase in idle:
        yield f"{phrase.ljust(wide)}  {'  '.join('·'.rjust(width) for width in columns.values())}"
    yield from summary_lines(plan)


def summary_lines(plan: Plan) -> Iterator[str]:
    """Rows/s, the bound and the gap; time and device-hours; what limits."""
    yield f"planner {plan.planner}: {plan.throughput:,.0f} rows/s, bound {plan.bound:,.0f}, gap {100 * plan.gap:.1f} %"
    yield from _runtime_lines(plan)
    hours = f"{plan.device_hours:,.3g} device-hours on {len(plan.devices):,} devices"
    yield f"{plan.rows:,} rows in {spell(plan.seconds)}, {hours}"
    yield f"limited by {plan.limit}; segments of {plan.numerics.segment_rows:,} rows, window {plan.window}"
    if plan.phases:
        yield "in phases, over all rows each: " + "; ".join(", ".join(members) for members in plan.phases)
    if plan.readers + plan.reducers > 2:
        yield f"{plan.readers} readers, {plan.reducers} reducers"
    if plan.rates.link is None:
        yield "what a reader can send is not measured: a run on such devices measures it"
    if plan.readers > 1 and plan.rates.reading_together is None:
        yield f"what {plan.readers} readers read at once is not measured: counted as that many times one"
    if plan.remark:
        yield plan.remark


def _runtime_lines(plan: Plan) -> Iterator[str]:
    """Which members run otherwise than in eager, and how far their numbers are from eager's."""
    others = {m: of.runtime for m, of in plan.numerics.members.items() if of.runtime != "eager"}
    for runtime in sorted(set(others.values())):
        members = [f"{m} (within {plan.differences.get(m, 0.0):.1g})" for m, of in others.items() if of == runtime]
        yield f"in {runtime}: {', '.join(members)} of eager"


def _cell(plan: Plan, hosting: Hosting, member: str, width: int, *, shaded: bool) -> str:
    if member not in hosting.speeds:
        return "·".rjust(width)
    text = str(plan.numerics.members[member].batch).rjust(width)
    part = min(1.0, hosting.shares[member] / hosting.speeds[member])
    return f"\x1b[48;5;{_SHADES[int(part * (len(_SHADES) - 1))]}m{text}\x1b[0m" if shaded else text


def load_of(hosting: Hosting) -> float:
    """Part of its time that each of the devices computes, by the plan."""
    return sum(hosting.shares[member] / speed for member, speed in hosting.speeds.items())


def devices_phrase(names: Sequence[str]) -> str:
    """Few names as they are, many as the first, the last and their number."""
    return ", ".join(names) if len(names) < 3 else f"{names[0]} … {names[-1]} ({len(names)})"


def allocation_lines(found: Sequence[Allocation]) -> Iterator[str]:
    """The curve over numbers of nodes, the knee marked."""
    best = knee(found)
    yield f"{'nodes':>5}  {'time':>12}  {'device-hours':>12}  {'efficiency':>10}  limited by"
    for of in found:
        mark = "  ← the knee" if of is best and len(found) > 2 else ""
        hours = f"{of.plan.device_hours:,.3g}"
        taken = f" ({', '.join(f'{count} {name}' for name, count in of.taken)})" if len(of.taken) > 1 else ""
        yield (
            f"{of.nodes:>5}  {spell(of.plan.seconds):>12}  {hours:>12}  {100 * of.efficiency:>8.0f} %"
            f"  {of.plan.limit}{taken}{mark}"
        )


def comparison_lines(found: Sequence[Compared]) -> Iterator[str]:
    """All planners side by side."""
    bound = min((of.plan.bound for of in found if of.plan), default=0.0)
    heads = f"{'rows/s':>12}  {'of the bound':>12}  {'instances':>9}  {'measured':>8}  {'planned in':>10}"
    yield f"{'planner':<10}  {heads}"
    for of in found:
        if of.plan is None:
            yield f"{of.planner:<10}  {of.refused}"
            continue
        cells = sum(len(hosting.devices) * len(hosting.speeds) for hosting in of.plan.hostings)
        yield (
            f"{of.planner:<10}  {of.plan.throughput:>12,.0f}  {100 * of.plan.throughput / bound:>10.1f} %"
            f"  {cells:>9,}  {of.measured:>8,}  {of.seconds:>8.2f} s"
        )
    yield "measured: short profiles of one member, for optimal and worst-fit; placements benchmarked whole, for greedy"


def simulation_lines(plan: Plan, found: Simulated) -> Iterator[str]:
    """Rows/s beside the plan's, what each hosting's devices, the reader and the reducer did."""
    part = found.rows_per_second / plan.throughput
    yield (
        f"{found.rows:,} rows in {spell(found.seconds)}: {found.rows_per_second:,.0f} rows/s,"
        f" {100 * part:.1f} % of the plan's {plan.throughput:,.0f}; {found.deliveries:,} messages"
    )
    planned = {of.devices: f", planned {100 * load_of(of):.0f} %" * (not plan.phases) for of in plan.hostings}
    for devices, phrase in planned.items():
        busy = sorted(found.devices[name] / found.seconds for name in devices)
        yield f"  {devices_phrase(devices)}: busy {100 * busy[0]:.0f}–{100 * busy[-1]:.0f} %{phrase}"
    roles = {"reading": (found.reading, plan.readers), "sending": (found.sending, plan.readers)}
    for role, (seconds, ranks) in (roles | {"writing": (found.writing, plan.reducers)}).items():
        yield f"  {role}: {100 * seconds / found.seconds / ranks:.0f} % of the time"


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    """Predicted beside measured, for the run and for every instance."""
    predicted, measured = report["predicted_rows_per_second"], report["rows_per_second"]
    yield f"{report['rows']:,} rows in {report['seconds']:.2f} s: {measured:,.0f} rows/s, {predicted:,.0f} predicted"
    for instance in (of for of in report["instances"] if "measured_speed" in of):
        yield (
            f"  {instance['device']}  {instance['member']}  batch {instance['batch']}  {instance['rows']:,} rows"
            f"  {instance['measured_speed']:,.0f} rows/s while it ran, {instance['speed']:,.0f} planned"
        )
    yield f"  {100 * report['syncing_share']:.1f} % of the time the reducer waited for the disk"
    if report["idle"]:
        yield f"  idle: {', '.join(report['idle'])}, seen by nobody but the reader and the reducer"
    yield f"  bottleneck: {report['bottleneck']}"
    for rank in report["ranks"]:
        spent = sorted(rank["spent"].items(), key=lambda item: -item[1])
        shares = ", ".join(f"{_DONE.get(name, name)} {100 * of / report['seconds']:.0f} %" for name, of in spent)
        used = f"{rank['cpu_seconds']:.1f} s of CPU, peak {amount(rank['peak_bytes'])}"
        yield f"  {rank['role']}: " + "; ".join(filter(None, (used, shares)))


def start_lines(began: float, events: Iterable[Mapping[str, Any]], report: Mapping[str, Any]) -> Iterator[str]:
    """What a start took until its first batch, by part; nothing where it came to none.

    began  seconds since 1970, as the times of its events are
    """
    moments: dict[str, float] = {}
    for event in events:
        moments.setdefault(event["event"], event["time"])
        if event["event"] == "progress":
            break
    else:
        return
    parts, last = [], began
    for name, part in _PARTS.items():
        if name in moments:
            parts.append(f"{moments[name] - last:.1f} s {part}")
            last = moments[name]
    if {"profiling", "profiled"} <= moments.keys() and report["predicted_rows_per_second"]:
        seconds = report["rows"] / report["predicted_rows_per_second"]
        share = (moments["profiled"] - moments["profiling"]) / seconds if seconds else 0.0
        parts.append(f"profiling is {100 * share:.1f} % of the {seconds:,.0f} s predicted")
    yield f"ready {last - began:.1f} s after it began: {'; '.join(parts)}"


def verification_lines(found: Verification) -> Iterator[str]:
    yield f"{found.rows:,} rows in {found.segments:,} segments; journal: {found.journal}"
    for name, state in found.members.items():
        yield f"member {name}: weights {state}"
    for fault in found.faults[:20]:
        yield f"fault: {fault}"
    if len(found.faults) > 20:
        yield f"and {len(found.faults) - 20} more"


def amount(number: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
