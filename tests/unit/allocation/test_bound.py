"""The bound: no placement beats it, plans come near it, and what answers for it is named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.instances import GIB, given_problem, mixed, on, problem, with_workspace
from support.placements import check, check_by_brute_force, planned


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 32), st.integers(1, 16))
def test_with_loose_memory_and_one_kind_the_bound_is_reached(seed, devices, members):
    made = planned(problem(seed, devices=devices, members=members))
    assert made.gap <= 1e-6


@pytest.mark.parametrize("seed", range(12))
def test_no_placement_beats_the_bound_and_none_beats_the_plan_by_more_than_its_gap(seed):
    """Brute force over every placement and every batch size of small instances, tight and loose."""
    memory = (3 * GIB, 5 * GIB, 64 * GIB)[seed % 3]
    of = problem(seed, devices=2, members=2, kinds=1 + seed % 2, memory=memory, sizes=(8, 64))
    assert check_by_brute_force(of, (8, 64)) > 0.95


def test_one_choice_for_all_kinds_is_the_best_one_where_memory_is_loose():
    """Seeds 63 and 80 need a second look at the choices that are best at the first prices."""
    assert min(check_by_brute_force(mixed(seed, memories=(10**6,)), (4, 16)) for seed in range(60, 84)) > 1 - 1e-6


def test_brute_force_over_instances_without_order():
    reached = sorted(check_by_brute_force(mixed(seed), (4, 16)) for seed in range(30))
    assert reached[0] > 0.8 and sum(part > 1 - 1e-6 for part in reached) >= 28


@pytest.mark.parametrize(
    ("devices", "members", "kinds", "memory", "floor"), [(3, 8, 1, 5.0, 0.85), (6, 9, 2, 3.5, 0.78)]
)
def test_where_memory_binds_the_plan_stays_near_the_bound(devices, members, kinds, memory, floor):
    """The floors are a little below what the planner reaches and above what it does without any part of it."""
    reached = []
    for seed in range(4):
        of = problem(seed, devices=devices, members=members, kinds=kinds, memory=int(memory * GIB))
        of = with_workspace(of, 12 << 20)
        made = planned(of)
        check(of, made)
        assert made.throughput > 1.1 * planned(of, "greedy").throughput
        assert made.gap <= 1e-6 or made.limit.startswith(f"memory of the {memory * GIB / 1e9:.3g} GB kind")
        reached.append(1 - made.gap)
    assert sum(reached) / 4 > floor


def test_the_limit_names_the_member_and_the_kind_that_answer_for_the_bound():
    rows = {(k, m): {8: s} for k in ("p", "q") for m, s in (("quick", 1000.0), ("slow", 10.0 if k == "p" else 5.0))}
    assert planned(given_problem(rows, devices=on("p", "q", "q")), sizes=(8,)).limit.startswith("member slow on ")


def test_the_bound_is_not_raised_by_batches_that_do_not_fit():
    of = given_problem({("k", "a"): {8: 50.0, 64: 100.0}}, devices=on("k", memory=500), weights=100, workspace=10)
    assert planned(of, sizes=(8, 64)).bound == pytest.approx(50)
