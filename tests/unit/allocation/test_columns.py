"""Columns: a group of equal members is one where that is better, and the bound is over the choice."""

from dataclasses import replace

import pytest
from support.instances import given_problem
from support.placements import planned

from hpcens.allocation import gain
from hpcens.reports.plans import plan_lines
from hpcens.vocabulary import Device, Plan

GROUP = "a … c (3)"


def grouped(speed, alone=(30.0, 30.0, 30.0), devices=2, weights=3, memory=1 << 30, kinds=("k",), **more):
    """Members a, b, c that may run as one at so many rows/s, and x. speed: None where they cannot."""
    members = dict(zip("abc", alone, strict=True)) | {"x": 60.0}
    rows = {(kind, m): {8: rate} for kind in kinds for m, rate in members.items() if rate}
    listed = tuple(Device(f"h/{i}", "cpu", kinds[i % len(kinds)], memory, 1, i, "h") for i in range(devices))
    stated = given_problem(rows | {("k", GROUP): {8: speed or 1.0}}, devices=listed)
    profiles = {(k, m, "stacked" if m == GROUP else how): p for (k, m, how), p in stated.profiles.items()}
    profiles = {key: replace(p, weights=weights if key[1] == GROUP else 1) for key, p in profiles.items()}
    if speed is None:
        del profiles["k", GROUP, "stacked"]
    return replace(stated, members=("a", "x", "b", "c"), profiles=profiles, groups={GROUP: ("a", "b", "c")}, **more)


def check(of, made):
    """Of a plan of members: its load, its shares, the same for all of a group."""
    for hosting in made.hostings:
        assert sum(hosting.shares[m] / hosting.speeds[m] for m in hosting.speeds) <= 1 + 1e-9
    for member in of.members:
        assert sum(i.share for i in made.instances if i.member == member) == pytest.approx(made.throughput)
    assert made.members == of.members and made.throughput <= made.bound * (1 + 1e-12)
    assert Plan.from_json(made.to_json()) == made


@pytest.mark.parametrize("planner", ["optimal", "greedy", "worst-fit"])
def test_it_is_one_column_where_it_is_faster(planner):
    of = grouped(20.0)  # where one after another make 10
    made = planned(of, planner, sizes=(8,))
    check(of, made)
    assert {made.numerics.members[m].group for m in "abc"} == {GROUP} and made.numerics.members["x"].group == ""
    assert {how.runtime for m, how in made.numerics.members.items() if m != "x"} == {"stacked"}
    assert made.throughput == pytest.approx(2 / (1 / 20 + 1 / 60) if planner == "optimal" else 20.0)
    hosting = next(h for h in made.hostings if "a" in h.speeds)
    assert [hosting.speeds[m] for m in "abc"] == [60.0] * 3, "each takes an equal part of the time of all"
    assert made.bound == pytest.approx(2 / (1 / 20 + 1 / 60)) and "member a … c (3)" in made.limit
    assert gain(of, GROUP) == pytest.approx(2.0)
    text = "\n".join(plan_lines(made))
    assert "a … c (3)     x" in text and "in stacked: a … c (3) (within" in text


def test_they_run_one_after_another_where_that_is_faster_or_as_fast():
    for speed in (5.0, 10.8, None):
        of = grouped(speed)
        made = planned(of, sizes=(8,))
        check(of, made)
        assert {how.group for how in made.numerics.members.values()} == {""}
        assert made == planned(replace(of, groups={}, profiles={k: p for k, p in of.profiles.items() if k[1] != GROUP}))
        assert gain(of, GROUP) == pytest.approx((speed or 0.0) / 10)


def test_the_bound_is_over_the_choice():
    """As one they are faster and fit no device: the plan has them apart, below its bound."""
    of = grouped(20.0, weights=1 << 31)
    made = planned(of, sizes=(8,))
    check(of, made)
    assert {how.group for how in made.numerics.members.values()} == {""} and made.throughput == pytest.approx(
        2 * 60 / 7
    )
    worse = planned(grouped(11.5), "worst-fit", sizes=(8,))  # it would put them on one device, and x on the other
    assert worse.throughput == pytest.approx(15.0) and worse.numerics.members["a"].group == ""
    assert worse.bound == pytest.approx(2 / (1 / 11.5 + 1 / 60)), "no plan exceeds it, as one or apart"
    tight = grouped(11.5, devices=3)
    as_one, apart = planned(tight, sizes=(8,)), planned(replace(tight, groups={}), sizes=(8,))
    assert as_one.bound >= as_one.throughput >= apart.throughput


def test_it_must_be_one_where_its_members_have_no_profiles():
    of = grouped(5.0, alone=(0.0, 0.0, 0.0))
    made = planned(of, sizes=(8,))
    check(of, made)
    assert made.numerics.members["b"].group == GROUP and gain(of, GROUP) == float("inf")


def test_on_a_kind_on_which_they_cannot_run_as_one_they_do_not():
    of = grouped(200.0, devices=2, kinds=("k", "other"))
    made = planned(of, sizes=(8,))
    check(of, made)
    assert made.numerics.members["a"].group == GROUP
    assert [set(h.speeds) for h in made.hostings if h.devices == ("h/1",)] == [{"x"}]


def test_in_phases_where_not_all_fit_at_once():
    room = (1 << 30) + 8
    of = grouped(20.0, weights=room - 3, memory=room, devices=1)
    profiles = {
        k: replace(p, context=0, weights=room - 3 if k[1] == "x" else p.weights) for k, p in of.profiles.items()
    }
    of = replace(of, profiles=profiles, held=0)
    made = planned(of, sizes=(8,))
    assert made.phases in ((("a", "b", "c"), ("x",)), (("x",), ("a", "b", "c"))), made.phases
    assert made.numerics.members["a"].group == GROUP and Plan.from_json(made.to_json()) == made


def test_a_plan_without_groups_names_none():
    assert "group" not in planned(replace(grouped(None), groups={}), sizes=(8,)).to_json()
