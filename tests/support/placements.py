"""Plans and placements, checked against the profiles and against every placement there is."""

from itertools import product

import pytest
from scipy.optimize import linprog

from hpcens.allocation import plan
from hpcens.errors import UsageError
from hpcens.vocabulary import Plan
from support.instances import SIZES, given_problem


def planned(of, planner="optimal", sizes=SIZES, rows=10**6):
    return plan(of, planner=planner, batch_sizes=sizes, rows=rows, torch="2.0")


def planner_for(rows, rows_to_score=10**6, **more):
    """Makes the plan on devices of whose kinds the rows/s are given: (kind, member) → {batch: rows/s}."""

    def plan_on(devices):
        return planned(given_problem(rows, devices=tuple(devices), **more), sizes=(8,), rows=rows_to_score)

    return plan_on


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
                profile = of.profiles[device.kind, i.member, i.runtime]
                assert i.speed == pytest.approx(profile.batches[i.batch].rows_per_second, rel=1e-12)
        assert made.memory[device.name] == max(used_memory(of, device, instances) for instances in here)
    for member in of.members:
        instances = [i for i in made.instances if i.member == member]
        (phase,) = {i.phase for i in instances}
        assert member in made.groups[phase]
        speeds.setdefault(phase, []).append(sum(i.share for i in instances) / of.parts.get(member, 1.0))
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
