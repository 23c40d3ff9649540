"""A plan in virtual time: near what is planned and never beyond, and slower by what reading, links and disks take."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.instances import on, problem
from support.placements import planned, planner_for

from hpcens.planning.simulation import simulate
from hpcens.reports.plans import simulation_lines
from hpcens.vocabulary import IoRates

FREE = IoRates(message_seconds=0.0, link=1e18, disk=1e18, sync_seconds=0.0)


def simulated(plan, **rates):
    """A simulation in which nothing but predicting takes time, and what has these rates."""
    return simulate(replace(plan, rates=replace(FREE, **rates)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 5), st.integers(1, 3))
def test_a_simulation_without_costs_comes_near_the_plan_and_never_beyond(seed, devices, members, kinds):
    of = problem(seed, devices=devices, members=members, kinds=kinds)
    plan = planned(of, rows=10**5)
    plan = replace(plan, rows=400 * plan.numerics.segment_rows)
    found = simulated(plan)
    # a device may have two segments when the others are done, and one more than its share of them
    segment = max(sum(plan.numerics.segment_rows / speed for speed in of.speeds.values()) for of in plan.hostings)
    seconds = plan.rows / plan.throughput
    assert seconds * (1 - 1e-9) <= found.seconds <= seconds + 3 * segment
    assert all(busy <= found.seconds * (1 + 1e-9) for busy in found.devices.values())


@pytest.mark.parametrize("segments", [3, 10, 21, 40])
def test_the_last_segments_go_to_whoever_finishes_them_first(segments):
    """A device ten times as slow takes as long for one segment as the other for ten, and may have two at once."""
    plan = planner_for({("quick", "a"): {8: 100.0}, ("slow", "a"): {8: 10.0}})(on("quick", "slow"))
    rows = plan.numerics.segment_rows
    found = simulated(replace(plan, rows=segments * rows))
    assert found.seconds <= segments * rows / plan.throughput + 3 * rows / 100.0
    assert found.seconds <= segments * rows / 100.0 * (1 + 1e-9), "no later than without the slow one"


def test_a_simulation_shows_who_is_too_slow():
    plan = planned(problem(2, devices=4, members=2), rows=10**5)
    plan = replace(plan, rows=200 * plan.numerics.segment_rows)
    starved = simulated(plan, reading=plan.throughput / 4)
    assert starved.reading == pytest.approx(starved.seconds, rel=0.05)
    assert max(starved.devices.values()) < 0.5 * starved.seconds
    narrow = simulated(plan, link=plan.throughput * plan.row_bytes / 4)
    assert narrow.sending == pytest.approx(narrow.seconds, rel=0.05)
    assert narrow.rows_per_second < 0.3 * plan.throughput


def test_a_simulation_has_as_many_readers_and_reducers_as_the_plan():
    """Two pass what one passes in twice the time, and devices that none can feed are as fast as those."""
    plan = planned(problem(2, devices=4, members=2), rows=10**5)
    plan = replace(plan, rows=200 * plan.numerics.segment_rows, window=64, read_ahead=32)
    disk = plan.throughput * plan.output_bytes / 4
    for name, slow in (("reading", {"reading": plan.throughput / 4}), ("writing", {"disk": disk})):
        one, two = simulated(plan, **slow), simulated(replace(plan, readers=2, reducers=2), **slow)
        assert getattr(one, name) == pytest.approx(getattr(two, name)), "the work is the same"
        assert two.rows_per_second == pytest.approx(2 * one.rows_per_second, rel=0.1)


def test_a_simulation_takes_what_was_measured_for_the_plan():
    plan = planned(problem(2, devices=4, members=2), rows=10**5)
    plan = replace(plan, rows=200 * plan.numerics.segment_rows)
    narrow = simulate(replace(plan, rates=replace(FREE, link=plan.throughput * plan.row_bytes / 4)))
    assert narrow.sending == pytest.approx(narrow.seconds, rel=0.05)
    late, soon = (simulated(plan, message_seconds=seconds).seconds for seconds in (1.0, 0.0))
    assert late > soon + 3.0, "a segment is sent, answered and told of, and its device says goodbye"
    two, reading = replace(plan, readers=2), plan.throughput / 2
    both = (
        simulated(two, reading=reading, reading_together=reading, readers_together=2),
        simulated(two, reading=reading),
    )
    assert both[0].seconds == pytest.approx(2 * both[1].seconds, rel=0.1), (
        "two that share a disk read no faster than one"
    )


def test_phases_are_simulated_one_after_another():
    rows = {("k", m): {8: s} for m, s in (("a", 10.0), ("b", 20.0), ("c", 40.0))}
    plan = planner_for(rows, rows_to_score=10**4, weights=900)(on("k"))
    assert len(plan.phases) == 3
    found = simulated(plan)
    assert found.seconds == pytest.approx(plan.rows / plan.throughput, rel=1e-6)
    assert found.devices == {"h/cuda0": pytest.approx(found.seconds)}
    assert "h/cuda0: busy 100 %" in "\n".join(simulation_lines(plan, found))


def test_a_simulation_of_many_devices_looks_at_none_but_those_concerned():
    """Deliveries grow with segments, not with devices: a count, since time is the machine's affair."""
    counts = []
    for devices in (50, 200):
        plan = planned(problem(1, devices=devices, members=2), rows=10**9)
        plan = replace(plan, rows=1000 * plan.numerics.segment_rows)
        counts.append(simulate(plan).deliveries - 5 * devices)
    assert counts[0] == pytest.approx(counts[1], rel=0.25)


def test_of_a_simulation_that_is_killed_what_was_durable_counts():
    """It is whole segments, at most what the devices could do by then, and lacks what was in flight."""
    plan = planned(problem(2, devices=4, members=2), rows=10**5)
    plan = replace(plan, rows=400 * plan.numerics.segment_rows)
    whole = simulated(plan)
    assert whole.rows == plan.rows
    killed = simulate(replace(plan, rates=FREE), until=whole.seconds / 2)
    assert killed.rows % plan.numerics.segment_rows == 0
    assert killed.rows <= plan.throughput * whole.seconds / 2
    between = 2.0 * plan.throughput  # the seconds between two syncs
    assert killed.rows >= whole.rows / 2 - between - plan.window * plan.numerics.segment_rows
    assert simulate(replace(plan, rates=FREE), until=0.0).rows == 0


def test_rows_that_are_read_where_they_lie_take_no_time_on_a_link():
    """A reader sends to the devices of other hosts alone, as the plan prices it."""
    of = problem(2, devices=3, members=2)
    devices = tuple(replace(d, host=host) for d, host in zip(of.devices, "hhi", strict=True))
    of = replace(of, devices=devices, shared=True)
    plan = planned(of, rows=10**5)
    plan = replace(plan, rows=200 * plan.numerics.segment_rows)
    assert plan.copied == pytest.approx(1 / 3)
    enough = simulated(plan, link=plan.throughput * plan.row_bytes * 0.4)
    assert enough.rows_per_second == pytest.approx(plan.throughput, rel=0.05)
    assert enough.sending == pytest.approx(enough.seconds / 3 / 0.4, rel=0.1)
    narrow = simulated(plan, link=plan.throughput * plan.row_bytes * 0.1)
    assert narrow.sending == pytest.approx(narrow.seconds, rel=0.1)
    copying = simulated(replace(plan, copied=None), link=plan.throughput * plan.row_bytes * 0.4)
    assert copying.rows_per_second < 0.5 * plan.throughput
