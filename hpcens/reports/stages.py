"""Write what a cascade is expected to spare, and what it has spared."""

from __future__ import annotations

from collections.abc import Iterator

from hpcens.runs import Report
from hpcens.vocabulary import Plan


def expected_lines(plan: Plan) -> Iterator[str]:
    """Say which part of the rows is to come to each stage, and how sure that is; nothing where there is no cascade."""
    if not plan.expected:
        return
    stages = [f"{', '.join(plan.expected[0].members)} score all rows"]
    for stage in plan.expected[1:]:
        if stage.sampled:
            known = f"{_percent(stage.low)} to {_percent(stage.high)} %, by {stage.sampled:,} rows of the dataset"
            stages.append(f"{', '.join(stage.members)} {_percent(stage.part)} % of them ({known})")
        else:
            stages.append(f"{', '.join(stage.members)} those that are left: how many is not known, planned for all")
    yield f"cascade: {'; '.join(stages)}"
    yield f"expected: {_percent(plan.work)} % of the work of all members on all rows"


def reached_lines(plan: Plan, report: Report | None) -> Iterator[str]:
    """Say how many rows came to each stage, beside what was expected, and what of the work was spared."""
    if report is None or not report.stages:
        return
    rows = report.stages[0].rows or 1
    stages = [f"{', '.join(report.stages[0].members)} scored {report.stages[0].rows:,} rows"]
    for stage in report.stages[1:]:
        part = f"{_percent(stage.rows / rows)} %; {_percent(stage.expected)} % expected"
        stages.append(f"{', '.join(stage.members)} {stage.rows:,} of them ({part})")
    yield f"cascade: {'; '.join(stages)}"
    done = plan.work_of({member: stage.rows / rows for stage in report.stages for member in stage.members})
    yield f"{_percent(done)} % of the work of all members on all rows was done, {_percent(1 - done)} % spared"


def _percent(part: float) -> str:
    return f"{100 * part:.3g}"
