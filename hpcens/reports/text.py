"""Write reports of starts and verifications as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hpcens.result import Verification
from hpcens.runs import Event, PlanMade, ProfilingBegan, ProfilingEnded, ProgressMade, Report, WorldFormed

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
# Events of a start, in their order → what the time since the one before was needed for.
_PARTS: dict[type[Event], str] = {
    WorldFormed: "to launch the ranks",
    ProfilingBegan: "to see what is not measured yet",
    ProfilingEnded: "to profile members and prepare their runtimes",
    PlanMade: "to plan",
    ProgressMade: "to import torch and load members",
}


def report_lines(report: Report) -> Iterator[str]:
    """Show what was predicted beside what was measured, for the run and for every instance."""
    measured, predicted = report.rows_per_second, report.predicted_rows_per_second
    yield f"{report.rows:,} rows in {report.seconds:.2f} s: {measured:,.0f} rows/s, {predicted:,.0f} predicted"
    for instance in report.instances:
        if instance.measured_speed is not None:
            yield (
                f"  {instance.device}  {instance.member}  batch {instance.batch}  {instance.rows:,} rows"
                f"  {instance.measured_speed:,.0f} rows/s while it ran, {instance.speed:,.0f} planned"
            )
    yield f"  {100 * report.syncing_share:.1f} % of the time the reducer waited for the disk"
    if report.idle:
        yield f"  idle: {', '.join(report.idle)}: only the ranks of the reader and of the reducer see them"
    for check in report.spot_checks:
        beyond = f", {check.beyond} beyond plan.tolerance" if check.beyond else ""
        yield f"  {check.member} in {check.runtime}: {check.rows} rows within {check.worst:.1g} of eager{beyond}"
    yield f"  bottleneck: {report.bottleneck}"
    for rank in report.ranks:
        spent = sorted(rank.spent.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{_DONE.get(name, name)} {100 * took / report.seconds:.0f} %" for name, took in spent)
        used = f"{rank.cpu_seconds:.1f} s of CPU, peak {amount(rank.peak_bytes)}"
        yield f"  {rank.role}: " + "; ".join(filter(None, (used, shares)))


def start_lines(began: float, events: Iterable[Event], report: Report) -> Iterator[str]:
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
    if {ProfilingBegan, ProfilingEnded} <= moments.keys() and report.rows and report.predicted_rows_per_second:
        profiling = moments[ProfilingEnded] - moments[ProfilingBegan]
        parts.append(_profiling_phrase(profiling, report.rows / report.predicted_rows_per_second))
    yield f"ready {last - began:.1f} s after it began: {'; '.join(parts)}"


def _profiling_phrase(seconds: float, predicted: float) -> str:
    """Seconds of profiling beside those predicted for scoring: as a share of them where it is the smaller."""
    if seconds <= predicted:
        return f"profiling is {100 * seconds / predicted:.1f} % of the {predicted:,.0f} s predicted"
    return f"profiling took longer than the {predicted:,.1f} s predicted for scoring"


def verification_lines(found: Verification) -> Iterator[str]:
    yield f"{found.rows:,} rows in {found.segments:,} segments; journal: {found.journal}"
    for name, state in found.members.items():
        yield f"member {name}: weights {state}"
    for fault in found.faults[:20]:
        yield f"fault: {fault}"
    if len(found.faults) > 20:
        yield f"and {len(found.faults) - 20} more"


def amount(number: int) -> str:
    """Write a number of bytes in the largest unit of which there is one."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
