"""A resume's shares follow the speeds that earlier starts measured; its numbers do not change."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.instances import problem
from support.placements import planned

from hpcens.allocation.model import Choice
from hpcens.planning.experience import corrected, experience, reached, tells
from hpcens.planning.interference import interference
from hpcens.runs import InstanceReport, Report, RunDirectory


def with_one_choice(of, made):
    """The problem in which batches and runtimes are fixed as planned."""
    runs = {m: Choice(how.batch, how.runtime) for m, how in made.numerics.members.items()}
    profiles = {
        (kind, m, runtime): replace(
            p, batches={b: q for b, q in p.batches.items() if (b, runtime) == (runs[m].batch, runs[m].runtime)}
        )
        for (kind, m, runtime), p in of.profiles.items()
    }
    return replace(of, profiles=profiles)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 4), st.lists(st.floats(0.3, 2.0), min_size=2, max_size=2)
)
def test_new_shares_reach_at_least_what_the_earlier_ones_do(seed, devices, members, factors):
    of = problem(seed, devices=devices, members=members, kinds=2)
    made = planned(of)
    of = with_one_choice(of, made)
    speeds = {
        (kind, m): factors[int(kind[-1])] * p.best for (kind, m, _), p in of.profiles.items() if p.best and m != "m1"
    }
    now = planned(corrected(of, speeds))
    assert {m: h.batch for m, h in now.numerics.members.items()} == {
        m: h.batch for m, h in made.numerics.members.items()
    }
    for instance in now.instances:
        kind = next(d.kind for d in of.devices if d.name == instance.device)
        known = of.profiles[kind, instance.member, instance.runtime].best
        if instance.member != "m1" or any(key[0] == kind for key in speeds):
            assert instance.speed == pytest.approx(known * factors[int(kind[-1])])
    assert {instance.member for instance in now.instances} == set(of.members)
    all_speeds = {(d.kind, i.member): i.speed for d in of.devices for i in now.instances if i.device == d.name}
    if all((next(d.kind for d in of.devices if d.name == i.device), i.member) in all_speeds for i in made.instances):
        assert now.throughput >= reached(made, all_speeds) * (1 - 1e-6)
    assert reached(made, {}) >= made.throughput * (1 - 1e-6) and not tells(made, {})


def reporting(instances):
    """A report of which only the instances matter."""
    return Report(
        rows=0,
        seconds=0.0,
        rows_per_second=0.0,
        predicted_rows_per_second=0.0,
        instances=tuple(instances),
        bottleneck="",
        syncing_share=0.0,
        idle=(),
        ranks=(),
        masked=(),
    )


def test_experience_is_of_all_starts_by_what_they_scored_without_those_that_scored_little(tmp_path):
    run = RunDirectory(tmp_path / "x.run")
    made = planned(problem(3, devices=2, members=2))
    kinds = {device.name: device.kind for device in made.devices}
    for number, (rows, speed) in enumerate([(10**4, 50.0), (3 * 10**4, 100.0), (3, 1.0), (10**4, 7.0)], 1):
        folder = tmp_path / "x.run" / "epochs" / f"{number:04d}"
        folder.mkdir(parents=True)
        instances = [InstanceReport(**asdict(i), rows=rows, measured_speed=speed) for i in made.instances]
        (folder / "report.json").write_text(reporting(instances).to_json())
        if number < 4:
            (folder / "plan.json").write_text(made.to_json())
    found = experience(run)
    assert set(found) == {(kinds[i.device], i.member) for i in made.instances}
    assert list(found.values()) == pytest.approx([40000 / (10000 / 50 + 30000 / 100)] * len(found))
    assert tells(made, found) and experience(RunDirectory(tmp_path / "none.run")) == {}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.floats(0.3, 1.2), min_size=2, max_size=2), st.floats(0.5, 2))
def test_interference_is_what_a_run_reached_of_its_profiles_whatever_was_planned(seed, factors, planned_with):
    made = planned(problem(seed, devices=4, members=3, kinds=2))
    kinds = {device.name: device.kind for device in made.devices}
    profiled = {(kinds[i.device], i.member): i.speed / planned_with for i in made.instances}
    instances = [
        InstanceReport(**asdict(i), rows=10**4, measured_speed=profiled[key] * factors[int(key[0][-1])])
        for i in made.instances
        if (key := (kinds[i.device], i.member))
    ]
    instances.append(replace(instances[0], rows=3, measured_speed=1e-9))  # too few to tell
    instances.append(InstanceReport(**asdict(made.instances[0])))  # had nothing to do
    found = interference(made, reporting(instances), profiled)
    assert found == pytest.approx({kind: factors[int(kind[-1])] for kind in {key[0] for key in profiled}})
