"""Write reports of starts and verifications as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hpcens.result.verify import Verification

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
    """Write a number of bytes in the largest unit of which there is one."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
