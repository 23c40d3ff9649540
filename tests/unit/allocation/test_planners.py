"""Planners: feasible, near a bound that nothing beats, and said in words where nothing fits."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import product
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from support.instances import drawn

from hpcens.allocation import PLANNERS, plan
from hpcens.allocation.bound import pools, upper_bound
from hpcens.allocation.cells import solve_cells
from hpcens.allocation.composition import holds, sharing_of
from hpcens.allocation.menu import make_menu
from hpcens.allocation.packing import place_packed
from hpcens.allocation.partition import partition
from hpcens.allocation.problem import Problem
from hpcens.allocation.program import Effort
from hpcens.allocation.regions import replan
from hpcens.errors import UsageError
from hpcens.vocabulary import BatchProfile, Device, IoRates, Plan, Profile

SIZES = (8, 16, 32, 64, 128)
ROW = {"row_bytes": 10_000, "output_bytes": 40}
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
    names = tuple(f"m{i}" for i in range(members))
    return Problem(devices=found, members=names, profiles=profiles, **ROW, seconds=0.8)


def planned(of, planner="optimal", sizes=SIZES, rows=10**6):
    return plan(of, planner=planner, batch_sizes=sizes, rows=rows, torch="2.0")


def used_memory(of, device, here):
    if not here:
        return 0
    profiles = [of.profiles[device.kind, i.member, i.runtime] for i in here]
    workspace = max(p.batches[i.batch].workspace for p, i in zip(profiles, here, strict=True))
    return max(p.context for p in profiles) + sum(p.weights for p in profiles) + workspace + of.held


def check(of, made):
    """What must hold of any plan, recomputed from the profiles."""
    phases = range(len(made.groups))
    speeds = {}
    for device in made.devices:
        here = [[i for i in made.on(device.name) if i.phase == phase] for phase in phases]
        for instances in here:
            assert sum(i.share / i.speed for i in instances) <= 1 + 1e-6, "a device has more work than time"
            assert used_memory(of, device, instances) <= device.memory
            for i in instances:
                assert i.speed == of.profiles[device.kind, i.member, i.runtime].batches[i.batch].rows_per_second
        assert made.memory[device.name] == max(used_memory(of, device, instances) for instances in here)
    for member in of.members:
        instances = [i for i in made.instances if i.member == member]
        (phase,) = {i.phase for i in instances}
        assert member in made.groups[phase]
        speeds.setdefault(phase, []).append(sum(i.share for i in instances))
        assert {(i.batch, i.runtime) for i in instances} == {
            (made.numerics.members[member].batch, made.numerics.members[member].runtime)
        }
    for found in speeds.values():
        assert found == pytest.approx([found[0]] * len(found))
    assert sorted(m for group in made.groups for m in group) == sorted(of.members)
    assert 1 / sum(1 / found[0] for found in speeds.values()) == pytest.approx(made.throughput)
    assert made.throughput <= made.bound and 0 <= made.gap < 1
    assert made.numerics.segment_rows % max(m.batch for m in made.numerics.members.values()) == 0
    assert Plan.from_json(made.to_json()) == made


@settings(max_examples=40, deadline=None)
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


def mixed(seed, memories=(20, 40, 80)):
    """A small instance without any order in it: families, memories, runtimes and batches that are missing."""
    draw = random.Random(seed)
    count, kinds = draw.randint(1, 3), draw.randint(1, 2)
    memory, runtimes = draw.choice(memories), draw.choice((("eager",), ("compiled", "eager")))
    members = tuple(f"m{m}" for m in range(draw.randint(1, 2 if count == 3 else 3)))
    found = tuple(
        Device(f"h/{i}", draw.choice(("cpu", "cuda")), f"kind{i % kinds}", int(memory * draw.uniform(0.6, 1.2)))
        for i in range(count)
    )
    profiles = {}
    for kind, member, runtime in product((f"kind{k}" for k in range(kinds)), members, runtimes):
        if draw.random() < 0.9:
            sizes = [b for b in (4, 16) if draw.random() < 0.9]
            batches = {b: BatchProfile(b, draw.uniform(1, 100), int(b * draw.uniform(0.1, 1.5)), 0.0) for b in sizes}
            profiles[kind, member, runtime] = Profile(draw.randint(1, 20), draw.randint(1, 6), 0.1, (2,), batches)
    return Problem(devices=found, members=members, profiles=profiles, **ROW, held=draw.randint(0, 4), seconds=0.8)


def throughput_of(of, hosted, runs):
    """The linear program of a placement, written out again: rows/s of the slowest member at best."""
    cells = [(d, m) for d, members in enumerate(hosted) for m in members]
    speed = {(d, m): measured(of, of.devices[d], m, runs)[1].rows_per_second for d, m in cells}
    rows, limits = [], []
    for d in range(len(of.devices)):
        rows.append([1 / speed[cell] if cell[0] == d else 0 for cell in cells] + [0])
        limits.append(1)
    for m in of.members:
        rows.append([-1 if cell[1] == m else 0 for cell in cells] + [1])
        limits.append(0)
    answer = linprog([0] * len(cells) + [-1], A_ub=rows, b_ub=limits)
    return -answer.fun if answer.status == 0 else 0.0


def measured(of, device, member, runs):
    batch, runtime = runs[member]
    profile = of.profiles.get((device.kind, member, runtime))
    return profile and batch in profile.batches and (profile, profile.batches[batch])


def fits(of, device, members, runs):
    found = [measured(of, device, m, runs) for m in members]
    if not all(found):
        return False
    needed = sum(p.weights for p, _ in found) + max((b.workspace for _, b in found), default=0)
    return not found or max(p.context for p, _ in found) + needed + of.held <= device.memory


def all_placements(of):
    """Every choice of batches and runtimes, with every placement of it that can take no further instance."""
    subsets = [{m for m, keep in zip(of.members, bits, strict=True) if keep}
               for bits in product((0, 1), repeat=len(of.members))]  # fmt: skip
    options = [
        sorted({(b, v) for (_, name, v), profile in of.profiles.items() if name == m for b in profile.batches})
        for m in of.members
    ]
    for chosen in product(*options):
        runs = dict(zip(of.members, chosen, strict=True))
        room = [[some for some in subsets if fits(of, device, some, runs)] for device in of.devices]
        fullest = [[some for some in here if not any(some < more for more in here)] for here in room]
        for hosted in product(*fullest):
            if set().union(*hosted) == set(of.members):
                yield hosted, runs


def all_fit_alone(of):
    """Whether each member, run in some way, fits some device that hosts nothing else."""
    hows = {(b, v) for (_, _, v), profile in of.profiles.items() for b in profile.batches}
    return all(any(fits(of, d, {m}, {m: how}) for d in of.devices for how in hows) for m in of.members)


def check_by_brute_force(of, sizes):
    """Planned wherever a placement exists, below a bound that none beats; plan's throughput over the best."""
    best = max((throughput_of(of, *placement) for placement in all_placements(of)), default=0.0)
    if best == 0.0:
        if all_fit_alone(of):
            made = planned(of, sizes=sizes)
            check(of, made)
            assert made.phases, "what no placement holds takes phases"
        else:
            with pytest.raises(UsageError, match="fits no device"):
                planned(of, sizes=sizes)
        return 1.0
    made = planned(of, sizes=sizes)
    check(of, made)
    assert not made.phases
    assert best <= made.bound * (1 + 1e-6)
    assert made.throughput <= best * (1 + 1e-6)
    return made.throughput / best


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


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(sorted(PLANNERS)))
def test_any_plan_of_instances_without_order_is_feasible(seed, planner):
    of = mixed(seed)
    try:
        made = planned(of, planner, (4, 16))
    except UsageError:
        return
    check(of, made)


def test_a_packing_is_found_exactly_where_there_is_one():
    both = [0, 0]
    for seed in range(60):
        of = mixed(seed, memories=(20, 30))
        if all_fit_alone(of):
            packed = place_packed(of)
            exists = any(True for _ in all_placements(of))
            assert (packed is not None) == exists
            if packed is not None:
                runs = {m: (choice.batch, choice.runtime) for m, choice in packed.runs.items()}
                assert all(fits(of, d, packed.hosted.get(d.name, ()), runs) for d in of.devices)
            both[exists] += 1
    assert min(both) > 3


@pytest.mark.parametrize("seed", [248, 653])
def test_an_ensemble_that_only_a_packing_places_is_planned(seed):
    of = mixed(seed, memories=(20, 30))
    with pytest.raises(UsageError, match="do not fit the devices together"):
        planned(of, "greedy", (4, 16))
    check(of, planned(of, sizes=(4, 16)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_optimal_beats_greedy_over_several_kinds_and_runtimes(seed):
    of = mixed(seed, memories=(10**6,))
    try:
        optimal, greedy, worst = (planned(of, name, (4, 16)).throughput for name in ("optimal", "greedy", "worst-fit"))
    except UsageError:
        return
    assert optimal >= greedy * (1 - 1e-9) and greedy >= worst * (1 - 1e-9)


@pytest.mark.parametrize(("devices", "members", "kinds"), [(4, 12, 1), (16, 1, 1), (16, 12, 2), (16, 36, 2)])
def test_the_table_of_the_design(devices, members, kinds):
    """Throughput over the bound: worst-fit uses few devices, greedy stops after ten steps, optimal arrives."""
    of = problem(3, devices=devices, members=members, kinds=kinds)
    worst, greedy, optimal = (1 - planned(of, name).gap for name in ("worst-fit", "greedy", "optimal"))
    assert worst < 0.4 and worst * 1.5 < greedy < 0.9 and optimal > 0.999


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


def with_workspace(of, row_bytes):
    """The problem with activations of this many bytes a row."""
    profiles = {
        key: replace(p, batches={b: replace(q, workspace=b * row_bytes) for b, q in p.batches.items()})
        for key, p in of.profiles.items()
    }
    return replace(of, profiles=profiles)


def given_problem(rows, *, devices, weights=1, workspace=0, context=0, load_seconds=0.0, **more):
    """A problem in numbers one can follow: (kind, member) → {batch: rows/s}."""
    profiles = {
        (kind, member, "eager"): Profile(
            weights, context, load_seconds, (1,), {b: BatchProfile(b, s, b * workspace, 0.0) for b, s in of.items()}
        )
        for (kind, member), of in rows.items()
    }
    members = tuple(dict.fromkeys(member for _, member in rows))
    return Problem(devices=devices, members=members, profiles=profiles, **ROW, **more)


def on(*kinds, memory=1000, family="cuda"):
    return tuple(Device(f"h/{family}{i}", family, kind, memory) for i, kind in enumerate(kinds))


def test_memory_is_the_sum_of_weights_but_one_workspace():
    rows = {("k", "a"): {8: 10.0}, ("k", "b"): {8: 10.0}}
    of = given_problem(rows, devices=on("k"), weights=100, workspace=10, context=7, held=3)
    assert planned(of, sizes=(8,)).memory == {"h/cuda0": 7 + 2 * 100 + 80 + 3}
    for short, memory in enumerate((290, 289)):
        tight = replace(of, devices=on("k", memory=memory))
        made = planned(tight, sizes=(8,))
        assert made.gap == pytest.approx(0) and made.phases == ((("a",), ("b",)) if short else ())
        if short:
            with pytest.raises(UsageError, match="member b in batches of 8 needs 1 bytes more"):
                planned(tight, "greedy", sizes=(8,))


def test_a_member_has_one_batch_size_over_kinds_that_prefer_different_ones():
    rows = {("p", "a"): {8: 90.0, 64: 100.0}, ("q", "a"): {8: 50.0, 64: 20.0}}
    made = planned(given_problem(rows, devices=on("p", "q")), sizes=(8, 64))
    assert made.throughput == pytest.approx(140) and made.bound == pytest.approx(140, rel=1e-5)
    assert made.numerics.members["a"].batch == 8 and made.numerics.kinds == ("p", "q")


def test_the_limit_names_the_member_and_the_kind_that_answer_for_the_bound():
    rows = {(k, m): {8: s} for k in ("p", "q") for m, s in (("quick", 1000.0), ("slow", 10.0 if k == "p" else 5.0))}
    assert planned(given_problem(rows, devices=on("p", "q", "q")), sizes=(8,)).limit.startswith("member slow on ")


def test_members_are_on_all_devices_where_loading_is_cheap_or_the_run_long():
    rows = {("k", m): {8: 100.0} for m in "abcd"}
    quick, slow = (given_problem(rows, devices=on(*"kkkk"), load_seconds=s) for s in (1.0, 60.0))
    assert len(planned(quick, sizes=(8,)).instances) == 16
    assert len(planned(slow, sizes=(8,)).instances) == 4
    assert len(planned(slow, sizes=(8,), rows=10**7).instances) == 16


def test_the_bound_is_not_raised_by_batches_that_do_not_fit():
    of = given_problem({("k", "a"): {8: 50.0, 64: 100.0}}, devices=on("k", memory=500), weights=100, workspace=10)
    assert planned(of, sizes=(8, 64)).bound == pytest.approx(50)


def test_devices_of_one_kind_may_differ_in_memory():
    profiles = {
        ("k", member, "eager"): Profile(weights, 0, 0.0, (1,), {8: BatchProfile(8, 10.0, 0, 0.0)})
        for member, weights in {"large": 700, "small": 200}.items()
    }
    devices = tuple(replace(device, memory=m) for device, m in zip(on(*"kkkk"), (300, 950, 310, 305), strict=True))
    made = planned(Problem(devices=devices, members=("large", "small"), profiles=profiles, **ROW), sizes=(8,))
    assert made.throughput == pytest.approx(10) and made.gap == pytest.approx(0)


def test_worst_fit_prefers_gpus_and_the_device_with_most_memory_left():
    rows = {(kind, m): {8: 10.0} for kind in ("gpu", "cpu") for m in "abc"}
    devices = (*on("cpu", memory=10**6, family="cpu"), *on("gpu", memory=250), *on("gpu", memory=260))
    devices = tuple(replace(device, name=str(i)) for i, device in enumerate(devices))
    made = planned(given_problem(rows, devices=devices, weights=200), "worst-fit", (8,))
    assert {i.member: i.device for i in made.instances} == {"a": "2", "b": "1", "c": "0"}


def test_greedy_leaves_a_tie_of_the_slowest():
    """With one more device than members, the first step speeds up one of two equals: no step by the minimum."""
    rows = {("k", m): {8: 100.0} for m in "ab"}
    made = planned(given_problem(rows, devices=on(*"kkkk")), "greedy", (8,))
    assert made.throughput == pytest.approx(200)


def test_the_window_follows_the_devices_but_not_beyond_the_segments():
    rows = {("k", "a"): {8: 1e6}}
    of = given_problem(rows, devices=on(*"kkkk"))
    assert (planned(of, sizes=(8,)).window, planned(of, sizes=(8,)).read_ahead) == (24, 12)
    assert (planned(of, sizes=(8,), rows=9).window, planned(of, sizes=(8,), rows=9).read_ahead) == (2, 2)


def test_reading_limits():
    of = replace(problem(1), rates=IoRates(reading=7.0))
    made = planned(of)
    check(of, made)
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


def test_of_batches_larger_than_the_dataset_the_smallest_stays():
    assert {m.batch for m in planned(problem(1), rows=3).numerics.members.values()} == {8}


def test_planners_are_imported_without_scipy():
    code = "import hpcens.allocation, sys; print(*(m for m in sys.modules if m in ('scipy', 'numpy')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == ""


def test_a_plan_is_the_same_in_every_process():
    """Numbers depend on the plan: no set may decide an order."""
    code = f"""if True:
        import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from unit.allocation.test_planners import GIB, planned, problem
        print(planned(problem(5, devices=4, members=4, kinds=2, memory=3 * GIB)).to_json())"""
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONHASHSEED": s})
        for s in "12"
    ]
    assert len({run.communicate()[0] for run in runs}) == 1 and runs[0].returncode == 0


def test_the_program_over_cells_finds_the_best_placement_and_proves_it():
    """Against brute force; where pools differ in memory or members in size, what it proves is still no less."""
    reached = 0
    for seed in range(24):
        of = mixed(seed, memories=(20, 40)).within((4, 16), 10**6)
        best = max((throughput_of(of, *placement) for placement in all_placements(of)), default=0.0)
        if best == 0.0:
            continue
        bound = upper_bound(of)
        menu = make_menu(of, pools(of), largest=True)
        most = bound.sharing.bound
        answer = solve_cells(menu, most=most, least=0.0, effort=Effort(10_000, 60.0))
        assert best <= answer.bound * (1 + 1e-6) and not answer.late
        if menu.exact and answer.composition is not None and holds(menu, answer.composition):
            assert sharing_of(menu, answer.composition).throughput == pytest.approx(best, rel=1e-3)
            reached += 1
        above = solve_cells(menu, most=most, least=min(most, answer.bound * 1.01), effort=Effort(10_000, 60.0))
        assert above.bound >= best * (1 - 1e-6), "no answer above what is wanted proves no less than that"
    assert reached > 5


@pytest.mark.parametrize("seed", [5, 27, 55])
def test_planning_part_by_part_only_improves(seed):
    of = drawn(seed, tight=True).within(SIZES, 10**7)
    menu = make_menu(of, pools(of))
    start = partition(menu, dict.fromkeys(of.members, 0.5), seed=0)
    assert start is not None and holds(menu, start)
    before = sharing_of(menu, start).throughput
    found, _ = replan(menu, start, most=upper_bound(of).sharing.bound, enough=1.2 * before, seconds=30.0)
    assert holds(menu, found) and sharing_of(menu, found).throughput > 1.05 * before


@pytest.mark.parametrize(("devices", "members"), [(1, 12), (2, 12), (3, 14)])
def test_what_no_placement_holds_is_planned_in_few_phases(devices, members):
    """Of members of 1 GiB a device of 4.6 GiB holds four in small batches, fewer in large ones."""
    of = problem(devices, devices=devices, members=members, memory=int(4.6 * GIB), load_seconds=5.0)
    of = replace(of, profiles={key: replace(p, weights=GIB) for key, p in of.profiles.items()}, held=GIB // 32)
    with pytest.raises(UsageError, match="do not fit the devices together"):
        planned(of, "worst-fit")
    for rows in (10**4, 10**7):
        made = planned(of, rows=rows)
        check(of, made)
        assert -(-members // (4 * devices)) <= len(made.phases) <= -(-members // (2 * devices))
        loads = sum(max(len(h.speeds) * 5.0 for h in made.hostings if h.phase == k) for k in range(len(made.phases)))
        assert made.loading == pytest.approx(loads)
        assert made.gap < 0.05 and "memory of the 4.94 GB kind0 devices: no placement holds all" in made.limit


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_only_a_member_that_fits_nowhere_is_refused(seed):
    of = mixed(seed, memories=(15, 25))
    if all_fit_alone(of):
        check(of, planned(of, sizes=(4, 16)))
    else:
        with pytest.raises(UsageError, match="fits no device"):
            planned(of, sizes=(4, 16))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(1.0, 1e4), st.floats(1.0, 1e4), st.floats(1.0, 1e4), st.integers(1, 8))
def test_readers_and_reducers_are_as_few_as_pass_the_rows(seed, reading, sending, writing, most):
    rates = IoRates(reading=reading, link=sending * ROW["row_bytes"], disk=writing * ROW["output_bytes"])
    of = replace(problem(seed, devices=6), rates=rates, readers=most, reducers=most)
    made = planned(of)
    check(of, made)
    sent = sum(len(h.devices) * max(h.shares.values()) for h in made.hostings) / made.throughput

    def passed(readers, reducers):
        return min(readers * reading, readers * sending / max(1.0, sent), reducers * writing) * (1 + 1e-6)

    assert 1 <= made.readers <= most and 1 <= made.reducers <= most
    assert made.throughput <= passed(made.readers, made.reducers)
    possible = planned(replace(of, rates=IoRates())).throughput
    assert made.throughput == pytest.approx(min(possible, passed(made.readers, made.reducers)), rel=1e-5)
    for fewer in ((made.readers - 1, made.reducers), (made.readers, made.reducers - 1)):
        assert 0 in fewer or passed(*fewer) < min(possible, passed(most, most)) * (1 + 1e-5)
    if made.throughput < possible * (1 - 1e-6):
        assert made.limit.split(":")[0] in ("reading", "sending", "writing")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(1.0, 1e3), st.floats(1.0, 8.0), st.integers(2, 8))
def test_readers_that_share_a_disk_do_not_read_as_many_times_one(seed, reading, times, most):
    together = min(times, most) * reading
    rates = IoRates(reading=reading, reading_together=together, readers_together=most)
    of = replace(problem(seed, devices=6), rates=rates, readers=most)
    made = planned(of)
    check(of, made)
    assert made.throughput <= rates.read_by(made.readers) * (1 + 1e-9) <= together * (1 + 2e-9)
    possible = planned(replace(of, rates=IoRates())).throughput
    assert made.throughput == pytest.approx(min(possible, together), rel=1e-6)
    if made.throughput < possible * (1 - 1e-6):
        gigabytes = f"{together * 10_000 / 1e9:.3g}"
        assert made.limit.startswith(f"reading: {gigabytes} of {gigabytes} GB/s by")
    assert made.readers == 1 or rates.read_by(made.readers - 1) < made.throughput * (1 + 1e-6)


def test_where_sending_is_dear_each_row_goes_to_one_device():
    """Loading takes too long to replicate for nothing; with a slow link it pays."""
    rows = {("k", m): {8: 100.0} for m in "abcd"}
    of = given_problem(rows, devices=on(*"kkkk"), load_seconds=60.0)

    def sending(rows, **more):
        return replace(of, rates=IoRates(link=rows * ROW["row_bytes"]), **more)

    wrapped, whole = planned(of, sizes=(8,)), planned(sending(120.0), sizes=(8,))
    assert len(wrapped.instances) == 4 and len(whole.instances) == 16
    assert whole.throughput == wrapped.throughput == 100.0 and whole.readers == 1
    assert planned(sending(80.0, readers=3), sizes=(8,)).readers == 2
    slow = planned(sending(80.0), sizes=(8,))
    assert slow.throughput == 80.0 and slow.limit == "sending: 0.0008 of 0.0008 GB/s"
