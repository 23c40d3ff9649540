"""Report: plans, reports and verifications as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcens.matrix import Plan
from hpcens.rundir import RunDirectory
from hpcens.specs import Job
from hpcens.store.verify import Verification


def plan_lines(plan: Plan) -> Iterator[str]:
    """The matrix, memory per device, predicted rows/s, the bound and what limits it."""
    matrix = plan.matrix
    wide = max(len(device.name) for device in plan.devices)
    columns = [max(len(member), 4) for member in plan.members]
    heads = "  ".join(member.rjust(width) for member, width in zip(plan.members, columns, strict=True))
    yield f"{'device'.ljust(wide)}  {heads}  {'memory':>19}"
    for device in plan.devices:
        cells = (
            str(matrix[device.name, member] or "·").rjust(w) for member, w in zip(plan.members, columns, strict=True)
        )
        used = f"{_bytes(plan.memory.get(device.name, 0))} of {_bytes(device.memory)}"
        yield f"{device.name.ljust(wide)}  {'  '.join(cells)}  {used:>19}"
    yield f"planner {plan.planner}: {plan.throughput:,.0f} rows/s, bound {plan.bound:,.0f}, gap {100 * plan.gap:.1f} %"
    yield f"limited by {plan.limit}; segments of {plan.numerics.segment_rows:,} rows, window {plan.window}"


def expected_lines(job: Job, run: RunDirectory) -> Iterator[str]:
    """The plan a submission would keep, where one is known; devices are known only where the job runs."""
    known = [job.plan] if job.plan else [epoch.plan for epoch in run.epochs() if epoch.plan.exists()]
    if known:
        yield from plan_lines(Plan.load(known[0]))
    else:
        yield "no plan yet: the job takes profiles and plans at its start, for the devices its ranks find"


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    """Predicted beside measured, for the run and for every instance."""
    predicted, measured = report["predicted_rows_per_second"], report["rows_per_second"]
    yield f"{report['rows']:,} rows in {report['seconds']:.2f} s: {measured:,.0f} rows/s, {predicted:,.0f} predicted"
    for instance in (of for of in report["instances"] if "measured_speed" in of):
        yield (
            f"  {instance['device']}  {instance['member']}  batch {instance['batch']}  {instance['rows']:,} rows"
            f"  {instance['measured_speed']:,.0f} rows/s while it ran, {instance['speed']:,.0f} profiled"
        )
    yield f"  {100 * report['syncing_share']:.1f} % of the time the reducer waited for the disk"
    if report["idle"]:
        yield f"  idle: {', '.join(report['idle'])}, seen by nobody but the reader and the reducer"
    for rank in report["ranks"]:
        yield f"  {rank['role']}: {rank['cpu_seconds']:.1f} s of CPU, peak {_bytes(rank['peak_bytes'])}"


def verification_lines(found: Verification) -> Iterator[str]:
    yield f"{found.rows:,} rows in {found.segments:,} segments; journal: {found.journal}"
    for name, state in found.members.items():
        yield f"member {name}: weights {state}"
    for fault in found.faults[:20]:
        yield f"fault: {fault}"
    if len(found.faults) > 20:
        yield f"and {len(found.faults) - 20} more"


def _bytes(number: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
