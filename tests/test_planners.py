"""Planners: feasible, near a bound that nothing beats, and said in words where nothing fits."""

import random
from dataclasses import replace
from itertools import product
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from hpcens.devices import Device
from hpcens.errors import UsageError
from hpcens.matrix import Plan
from hpcens.planners import PLANNERS, plan
from hpcens.planners.problem import Problem
from hpcens.profiles import BatchProfile, Profile

SIZES = (8, 16, 32, 64, 128)
GIB = 1 << 30


def problem(seed, *, devices=4, members=3, kinds=1, memory=64 * GIB, sizes=SIZES, load_seconds=0.1):
    """A random instance as in the prototype: peak rates 50–1000 rows/s, half of them reached at batch 4–24."""
    draw = random.Random(seed)
    found = tuple(Device(f"h/{i}", "cuda", f"kind{i % kinds}", memory, 1, i) for i in range(devices))
    profiles = {}
    for m in range(members):
        weights, half = int(draw.uniform(0.2, 2) * GIB), draw.uniform(4, 24)
        for k in range(min(kinds, devices)):
            peak = draw.uniform(50, 1000)
            batches = {b: BatchProfile(b, peak * b / (b + half), b * (8 << 20), 0.01) for b in sizes}
            profiles[f"kind{k}", f"m{m}", "eager"] = Profile(weights, GIB // 2, load_seconds, (10,), batches, sizes)
    return Problem(devices=found, members=tuple(f"m{i}" for i in range(members)), profiles=profiles)


def planned(of, planner="optimal", sizes=SIZES, rows=10**6):
    return plan(of, planner=planner, batch_sizes=sizes, rows=rows, row_bytes=10_000, output_bytes=40, torch="2.0")


def used_memory(of, made, device):
    here = list(made.on(device.name))
    if not here:
        return 0
    profiles = [of.profiles[device.kind, i.member, i.runtime] for i in here]
    workspace = max(p.batches[i.batch].workspace for p, i in zip(profiles, here, strict=True))
    return max(p.context for p in profiles) + sum(p.weights for p in profiles) + workspace + of.held


def check(of, made):
    """What must hold of any plan, recomputed from the profiles."""
    for device in made.devices:
        here = list(made.on(device.name))
        assert sum(i.share / i.speed for i in here) <= 1 + 1e-6, "a device has more work than time"
        assert used_memory(of, made, device) <= device.memory
        assert made.memory[device.name] == used_memory(of, made, device)
        for i in here:
            assert i.speed == of.profiles[device.kind, i.member, i.runtime].batches[i.batch].rows_per_second
    for member in of.members:
        instances = [i for i in made.instances if i.member == member]
        assert sum(i.share for i in instances) == pytest.approx(made.throughput)
        assert {(i.batch, i.runtime) for i in instances} == {
            (made.numerics.members[member].batch, made.numerics.members[member].runtime)
        }
    assert made.throughput <= made.bound and 0 <= made.gap < 1
    assert made.numerics.segment_rows % max(m.batch for m in made.numerics.members.values()) == 0
    assert Plan.from_json(made.to_json()) == made


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 12),
    st.integers(1, 8),
    st.integers(1, 3),
    st.sampled_from([4 * GIB, 8 * GIB, 64 * GIB]),
    st.sampled_from(sorted(PLANNERS)),
)
def test_any_plan_is_feasible_and_below_its_bound(seed, devices, members, kinds, memory, planner):
    of = problem(seed, devices=devices, members=members, kinds=kinds, memory=memory)
    try:
        made = planned(of, planner)
    except UsageError:
        assert memory < 64 * GIB, "what has room is planned"
        return
    check(of, made)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 32), st.integers(1, 16))
def test_with_loose_memory_and_one_kind_the_bound_is_reached(seed, devices, members):
    made = planned(problem(seed, devices=devices, members=members))
    assert made.gap <= 1e-6


@pytest.mark.parametrize("load_seconds", [0.1, 100.0])
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 10))
def test_optimal_beats_greedy_beats_worst_fit(load_seconds, seed, devices, members):
    of = problem(seed, devices=devices, members=members, load_seconds=load_seconds)
    optimal, greedy, worst = (planned(of, name).throughput for name in ("optimal", "greedy", "worst-fit"))
    assert optimal >= greedy * (1 - 1e-9) and optimal >= worst * (1 - 1e-9)


def throughput_of(of, hosted, batches):
    """The linear program of a placement, written out again: rows/s of the slowest member at best."""
    cells = [(d, m) for d, members in enumerate(hosted) for m in members]
    speed = {(d, m): of.profiles[of.devices[d].kind, m, "eager"].batches[batches[m]].rows_per_second for d, m in cells}
    rows, limits = [], []
    for d in range(len(of.devices)):
        rows.append([1 / speed[cell] if cell[0] == d else 0 for cell in cells] + [0])
        limits.append(1)
    for m in of.members:
        rows.append([-1 if cell[1] == m else 0 for cell in cells] + [1])
        limits.append(0)
    answer = linprog([0] * len(cells) + [-1], A_ub=rows, b_ub=limits)
    return -answer.fun if answer.status == 0 else 0.0


def all_placements(of, sizes):
    subsets = [tuple(m for m, keep in zip(of.members, bits, strict=True) if keep)
               for bits in product((0, 1), repeat=len(of.members))]  # fmt: skip
    for chosen in product(sizes, repeat=len(of.members)):
        batches = dict(zip(of.members, chosen, strict=True))
        for hosted in product(subsets, repeat=len(of.devices)):
            if set().union(*hosted) == set(of.members) and all(
                fits(of, device, members, batches) for device, members in zip(of.devices, hosted, strict=True)
            ):
                yield hosted, batches


def fits(of, device, members, batches):
    profiles = [of.profiles[device.kind, m, "eager"] for m in members]
    if not profiles:
        return True
    workspace = max(p.batches[batches[m]].workspace for p, m in zip(profiles, members, strict=True))
    return max(p.context for p in profiles) + sum(p.weights for p in profiles) + workspace <= device.memory


@pytest.mark.parametrize("seed", range(12))
def test_no_placement_beats_the_bound_and_none_beats_the_plan_by_more_than_its_gap(seed):
    """Brute force over every placement and every batch size of small instances, tight and loose."""
    memory = (3 * GIB, 5 * GIB, 64 * GIB)[seed % 3]
    of = problem(seed, devices=2, members=2, kinds=1 + seed % 2, memory=memory, sizes=(8, 64))
    best = max((throughput_of(of, *placement) for placement in all_placements(of, (8, 64))), default=0.0)
    if best == 0.0:
        with pytest.raises(UsageError, match="fit"):
            planned(of, sizes=(8, 64))
        return
    made = planned(of, sizes=(8, 64))
    assert best <= made.bound * (1 + 1e-6)
    assert made.throughput >= best * (1 - made.gap) * (1 - 1e-6)


def test_reading_limits():
    made = planned(replace(problem(1), reading=7.0))
    assert made.bound == made.throughput == 7.0 and "reading" in made.limit


def test_what_fits_nowhere_is_told_with_the_bytes():
    with pytest.raises(UsageError, match=r"member m\d fits no device: in batches of 8 it needs \d+ bytes more"):
        planned(problem(1, memory=GIB // 2))
    with pytest.raises(UsageError, match="no device"):
        planned(replace(problem(1), devices=()))
    twice = problem(1).devices
    with pytest.raises(UsageError, match="more than once"):
        planned(replace(problem(1), devices=(*twice, twice[0])))
    assert problem(1).reading == inf


def test_batches_larger_than_the_dataset_are_left_out():
    made = planned(problem(1), rows=40)
    assert all(m.batch <= 40 for m in made.numerics.members.values())
