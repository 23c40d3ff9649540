"""Say of equal members why they run one after another, where one batched network of them was tried."""

from __future__ import annotations

from collections.abc import Iterator

from hpcens.allocation import Problem, gain
from hpcens.profiling import Needs
from hpcens.vocabulary import Plan


def apart_lines(needs: Needs, problem: Problem, plan: Plan) -> Iterator[str]:
    """Yield a line for each group that the plan does not run as one."""
    taken = {how.group for how in plan.numerics.members.values()}
    kinds = dict.fromkeys(device.kind for device in problem.devices)
    grouping = needs.grouping
    for group in problem.groups:
        if group in taken:
            continue
        times = gain(problem, group)
        if times > 0:
            why = f"as one batched network they make {times:.2f} × the rows/s that they make so"
        else:
            whys = (grouping.why_apart(group, kind) for kind in kinds)
            why = next(filter(None, whys), "as one they are not measured")
        yield f"{group} are equal and run one after another: {why}"
