"""Plans of a cascade: stage after stage, each by the part of the rows that comes to it."""

from dataclasses import replace

import pytest
from support.instances import problem
from support.placements import check, planned

from hpcens.reports.plans import plan_lines
from hpcens.vocabulary import ExpectedStage, Plan


def of(parts, **more):
    base = problem(4, devices=3, members=4)
    first, *others = base.members
    return replace(base, stages=((first,), tuple(others)), parts=dict.fromkeys(others, parts), **more)


@pytest.mark.parametrize("planner", ["optimal", "greedy", "worst-fit"])
def test_a_plan_takes_the_time_of_its_stages_one_after_another(planner):
    whole = of(0.25)
    made = planned(whole, planner)
    check(whole, made)
    assert made.phases == whole.stages
    alone = [planned(replace(whole, stages=(), members=members), planner).throughput for members in whole.stages]
    assert made.throughput == pytest.approx(1 / sum(1 / each for each in alone), rel=0.05)
    assert made.limit.endswith("of the cascade)") and "(stage " in made.limit


def test_fewer_rows_that_are_left_are_scored_in_less_time():
    few, many = planned(of(0.1)), planned(of(1.0))
    later = of(1.0).stages[1]
    assert few.throughput > 1.5 * many.throughput and few.parts == dict.fromkeys(later, 0.1)
    assert few.work < 0.5 < many.work <= 1


def test_a_plan_tells_what_it_expects_and_how_sure_that_is():
    made = planned(of(0.25))
    first, others = made.phases
    expected = ExpectedStage(first, 1.0, 1.0, 1.0, 512), ExpectedStage(others, 0.25, 0.21, 0.29, 512)
    made = replace(made, expected=expected)
    text = "\n".join(plan_lines(made))
    rest = f"{', '.join(others)} 25 % of them (21 to 29 %, by 512 rows of the dataset)"
    assert f"cascade: {first[0]} scores all rows; {rest}" in text
    assert "in phases" not in text and "their own rows" not in text
    assert Plan.from_json(made.to_json()) == made
    unknown = replace(expected[1], part=1.0, low=0.0, high=1.0, sampled=0)
    assert "how many is not known, planned for all" in "\n".join(
        plan_lines(replace(made, expected=(expected[0], unknown)))
    )
