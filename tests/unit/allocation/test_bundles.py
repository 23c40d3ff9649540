"""Members that share what is computed before their networks: planned together, and no placement beats the bound."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from hpcens.allocation import Problem, plan
from hpcens.vocabulary import BatchProfile, Device, Profile

GB = 1 << 30
SIZES = (8, 16)


def problem(devices, members, together, memory=GB):
    """A problem of members by name: kind → (seconds a row shared, seconds a row of its own), and bytes."""
    profiles = {}
    for name, (seconds, weights) in members.items():
        for kind, (shared, own) in seconds.items():
            alone = shared + own
            batches = {b: BatchProfile(b, 1 / alone, 10, 0.0, shared=shared / alone) for b in SIZES}
            profiles[kind, name, "eager"] = Profile(weights, 0, 1.0, (1,), batches)
    return Problem(
        devices=tuple(Device(f"h/{kind}{i}", "cpu", kind, memory) for i, kind in enumerate(devices)),
        members=tuple(members),
        profiles=profiles,
        row_bytes=4,
        output_bytes=4,
        together=together,
        seconds=0.5,
    )


def planned(stated, planner="optimal"):
    return plan(stated, planner=planner, batch_sizes=SIZES, rows=100_000, torch="2")


def ani(count=8, shared=9e-3, own=1e-3, weights=1000):
    members = {f"m{i}": ({"k": (shared, own)}, weights) for i in range(count)}
    return members, dict.fromkeys(members, "aev")


@pytest.mark.parametrize("planner", ["optimal", "greedy", "worst-fit"])
def test_eight_members_pay_their_features_once(planner):
    members, together = ani()
    made = planned(problem("kk", members, together), planner)
    if planner == "optimal":
        assert math.isclose(made.throughput, 2 / (9e-3 + 8e-3)) and math.isclose(made.bound, made.throughput)
    assert made.throughput <= made.bound * (1 + 1e-9)
    apart = planned(problem("kk", members, {}))
    assert made.throughput > (4 if planner == "optimal" else 1) * apart.throughput
    for hosting in made.hostings:
        assert len({*hosting.shares.values()}) == 1 and hosting.shares.keys() == members.keys()
        assert math.isclose(sum(1 / speed for speed in hosting.speeds.values()), 17e-3)
    assert {numerics.batch for numerics in made.numerics.members.values()} <= {*SIZES}
    assert made.numerics.members.keys() == members.keys()


def test_members_that_do_not_fit_together_are_planned_apart():
    members, together = ani(count=2, weights=600)
    made = planned(problem("kk", members, together, memory=1000))
    assert sorted(len(hosting.shares) for hosting in made.hostings) == [1, 1] and not made.phases
    assert math.isclose(made.throughput, 100) and made.bound >= made.throughput


def test_another_that_shares_nothing_is_planned_beside():
    members, together = ani(count=3)
    members["other"] = ({"k": (0.0, 3e-3)}, 10)
    made = planned(problem("k", members, together))
    assert math.isclose(made.throughput, 1 / (9e-3 + 3e-3 + 3e-3))
    [hosting] = made.hostings
    assert [*hosting.shares] == ["m0", "m1", "m2", "other"]


def test_what_takes_no_time_is_not_planned_by():
    members, together = ani(shared=0.0)
    assert planned(problem("kk", members, together)).hostings == planned(problem("kk", members, {})).hostings


def test_members_run_in_the_runtime_that_is_fastest_among_them():
    """Alone it is the other: what they share hides what their networks take."""
    members, together = ani(count=4)
    stated = problem("k", members, together)
    profiles = dict(stated.profiles)
    for (kind, name, _), profile in stated.profiles.items():
        faster = {b: replace(p, rows_per_second=1 / 9.9e-3, shared=5e-3 / 9.9e-3) for b, p in profile.batches.items()}
        profiles[kind, name, "frozen"] = replace(profile, batches=faster)
    made = planned(replace(stated, profiles=profiles))
    assert {numerics.runtime for numerics in made.numerics.members.values()} == {"eager"}
    assert math.isclose(made.throughput, made.bound)


def reached(seconds, kinds, hosts):
    """The highest rows/s of a placement: what its devices share is paid once for the rows of any member."""
    names, cells = list(seconds), [(d, m) for d, hosted in enumerate(hosts) for m in hosted]
    count = len(cells) + len(hosts) + 1  # rows/s of each instance, of what each device shares, of all
    above, limits = [], []
    for d, kind in enumerate(kinds):
        row = np.zeros(count)
        for i, (device, m) in enumerate(cells):
            if device == d:
                row[i] = seconds[m][kind][1]
        row[len(cells) + d] = max(seconds[m][kind][0] for m in names)
        above.append(row)
        limits.append(1.0)
    for i, (d, _) in enumerate(cells):
        row = np.zeros(count)
        row[i], row[len(cells) + d] = 1, -1
        above.append(row)
        limits.append(0.0)
    for m in names:
        row = np.zeros(count)
        row[-1] = 1
        for i, (_, member) in enumerate(cells):
            if member == m:
                row[i] = -1
        above.append(row)
        limits.append(0.0)
    aim = np.zeros(count)
    aim[-1] = -1
    return -linprog(aim, A_ub=np.array(above), b_ub=limits).fun


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_no_placement_beats_the_bound(data):
    """Those that part a bundle neither, on devices of two kinds."""
    amount = st.floats(0.1, 10)
    kinds = data.draw(st.lists(st.sampled_from("kl"), min_size=1, max_size=3))
    shared = {kind: data.draw(amount) for kind in "kl"}
    seconds = {f"m{i}": {k: (shared[k], data.draw(amount)) for k in "kl"} for i in range(data.draw(st.integers(2, 4)))}
    made = planned(problem(kinds, {m: (s, 10) for m, s in seconds.items()}, dict.fromkeys(seconds, "f")))
    hosts = [data.draw(st.sets(st.sampled_from([*seconds]))) for _ in kinds]
    hosts[0] |= {m for m in seconds if not any(m in hosted for hosted in hosts)}
    assert reached(seconds, kinds, hosts) <= made.bound * (1 + 1e-6)
    own = [{m for h in made.hostings if f"h/{kind}{i}" in h.devices for m in h.shares} for i, kind in enumerate(kinds)]
    assert made.throughput <= reached(seconds, kinds, own) * (1 + 1e-6)


def test_stages_of_a_cascade_share_within_themselves():
    members, together = ani(count=4)
    stated = replace(problem("k", members, together), stages=(("m0", "m1"), ("m2", "m3")))
    made = planned(stated)
    assert math.isclose(made.throughput, 1 / (2 * (9e-3 + 2e-3)))
    assert made.phases == (("m0", "m1"), ("m2", "m3"))
