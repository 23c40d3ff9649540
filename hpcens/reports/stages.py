"""Write what a cascade is expected to spare, what it has spared, and what that is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcens.evaluation import Evaluation
    from hpcens.runs import Report
    from hpcens.vocabulary import Plan


def expected_lines(plan: Plan) -> Iterator[str]:
    """Say which part of the rows is to come to each stage, and how sure that is; nothing where there is no cascade."""
    if not plan.expected:
        return
    first = plan.expected[0].members
    stages = [f"{', '.join(first)} {'score' if len(first) > 1 else 'scores'} all rows"]
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


def stage_lines(evaluation: Evaluation) -> Iterator[str]:
    """Show quality against cost, stage by stage, and what other limits would give; nothing without a cascade."""
    if not evaluation.stages:
        return
    quality = "root_mean_squared_error" if evaluation.task == "regression" else "accuracy"
    first = evaluation.stages[0].came or 1
    yield f"cascade: {quality}, and work as a part of that of all members on all rows"
    for number, stage in enumerate(evaluation.stages, 1):
        own = "" if stage.quality is None else f", {quality} {stage.quality:.4f} there"
        whole = f"up to here: {quality} {stage.ended:.4f} of all rows{_work(stage.work)}"
        came = f"{stage.came:,} rows came ({_percent(stage.came / first)} %), {stage.accepted:,} ended here{own}"
        yield f"  stage {number} ({', '.join(stage.members)}): {came}; {whole}"
    for number, stage in enumerate(evaluation.stages, 1):
        for limit in stage.limits:
            left = f"{_percent(limit.left)} % would come to stage {number + 1}"
            said = f"{limit.word} {limit.side} {limit.limit:.3g}"
            yield f"  stage {number}, {said}: {left}, {quality} {limit.quality:.4f}{_work(limit.work)}"


def _work(work: float | None) -> str:
    return "" if work is None else f", {_percent(work)} % of the work"


def _percent(part: float) -> str:
    return f"{100 * part:.3g}"
