"""How many nodes to ask for: the fastest first, as few as meet a deadline, and no more than pay."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.placements import planner_for

from hpcens.errors import UsageError
from hpcens.planning.nodes import Nodes, allocations, knee, named, smallest, smallest_of_a_kind, spell
from hpcens.vocabulary import Device, IoRates


def nodes(name, count, kind, devices, memory=1000):
    return Nodes(name, count, tuple(Device(f"cuda{i}", "cuda", kind, memory, 1, i) for i in range(devices)))


def test_an_allocation_takes_the_fastest_nodes_first():
    rows = {("slow", "a"): {8: 10.0}, ("quick", "a"): {8: 100.0}}
    kinds = [nodes("old", 4, "slow", 4), nodes("new", 2, "quick", 2)]
    found = allocations(kinds, [1, 2, 3, 6], planner_for(rows))
    assert [of.taken for of in found] == [(("new", n),) for n in (1, 2)] + [(("new", 2), ("old", n)) for n in (1, 4)]
    assert [of.plan.throughput for of in found] == pytest.approx([200, 400, 440, 560])
    assert len({device.name for device in found[-1].plan.devices}) == 20
    assert found[0].efficiency == found[1].efficiency == 1 and found[-1].efficiency == pytest.approx(560 / 20 / 100)


@settings(max_examples=20, deadline=None)
@given(st.floats(100.0, 1e6))
@example(100.0)  # no number of nodes is enough
@example(1e4)
def test_a_deadline_is_met_by_as_few_nodes_as_can(deadline):
    kinds = [nodes("n", 64, "k", 2)]
    plans = planner_for({("k", "a"): {8: 50.0}, ("k", "b"): {8: 80.0}}, load_seconds=3.0)
    alone = [plans(named(kinds[0], n)).seconds for n in (1, 64)]
    if alone[1] > deadline:
        with pytest.raises(UsageError, match=r"all 64 nodes need .*, limited by member"):
            smallest(kinds, deadline, plans)
        return
    chosen = smallest(kinds, deadline, plans)
    assert chosen.plan.seconds <= deadline
    assert chosen.nodes == 1 or plans(named(kinds[0], chosen.nodes - 1)).seconds > deadline


def test_what_too_few_nodes_hold_at_once_is_planned_there_in_phases():
    rows = {("k", m): {8: 10.0} for m in "abc"}
    found = allocations([nodes("n", 8, "k", 1)], range(1, 7), planner_for(rows, weights=900))
    assert [len(of.plan.phases) for of in found] == [3, 2, 0, 0, 0, 0]
    assert [of.plan.throughput for of in found] == pytest.approx([10 / 3, 20 / 3, 10, 10, 10, 20])
    with pytest.raises(UsageError, match=r"on 2 nodes: member a fits no device: in batches of 8 it needs 100 bytes"):
        allocations([nodes("n", 8, "k", 1)], [1, 2], planner_for(rows, weights=1100))
    with pytest.raises(UsageError, match="9 nodes are asked for, there are 8"):
        allocations([nodes("n", 8, "k", 1)], [9], planner_for(rows))


def test_one_kind_of_node_is_chosen_for_a_deadline():
    rows = {("slow", "a"): {8: 10.0}, ("quick", "a"): {8: 100.0}}
    kinds = [nodes("old", 40, "slow", 4), nodes("new", 2, "quick", 2)]
    plans = planner_for(rows)
    assert smallest_of_a_kind(kinds, 1e6 / 400, plans)[1].taken == (("new", 2),)
    assert smallest_of_a_kind(kinds, 1e6 / 800, plans)[1].taken == (("old", 20),)
    with pytest.raises(UsageError, match=r"no kind of node alone meets .*; new: no allocation meets a deadline"):
        smallest_of_a_kind(kinds, 1.0, plans)


def test_the_knee_is_where_reading_begins_to_limit():
    plans = planner_for({("k", "a"): {8: 100.0}}, rates=IoRates(reading=400.0))
    found = allocations([nodes("n", 16, "k", 1)], range(1, 17), plans)
    assert knee(found).nodes == 4 and found[-1].plan.limit == "reading: 0.004 GB/s is the most that one reader reads"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (59.0, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_times_are_spelled(seconds, words):
    assert spell(seconds) == words
