"""Groups: which members are equal, what is measured of them as one, and what is decided from it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.groups import equal_members
from support.project import ENSEMBLE

import hpcens.members.stacked
from hpcens.checks.preflight import Preflight
from hpcens.dataset import Input
from hpcens.dataset.source import Facts
from hpcens.engine.engine import Engine
from hpcens.errors import UsageError
from hpcens.members import member_digests
from hpcens.planning.experience import corrected
from hpcens.planning.groups import apart_lines
from hpcens.planning.interference import learn
from hpcens.planning.job_problem import state_problem
from hpcens.planning.unsteady import unsteady_outputs
from hpcens.profiling import Needs, ProfileBook, group_key, profile_key, reasons
from hpcens.profiling.group_bench import measure_group
from hpcens.profiling.groups import beside
from hpcens.runs import InstanceReport
from hpcens.runs.void import Finding
from hpcens.specs import Job, MemberSpec, PassesSpec, RowsSpec, RunSpec, StageSpec, StepSpec, ViewsSpec, WeightsSpec
from hpcens.vocabulary import (
    OUTPUTS_HELD,
    SEGMENT_BYTES,
    BatchProfile,
    Device,
    IoRates,
    Measurement,
    MemberNumerics,
    Numerics,
    Profile,
    ProfileKey,
    cpu_devices,
)

pytestmark = pytest.mark.usefixtures("one_thread", "weights")
GROUP = "m0 … m2 (3)"
DEVICE = Device("h/cpu0", "cpu", "cpu k", 1 << 30, 1, 0, "h")
FACTS = Facts(1000, (Input("images", (3, 8, 8), "<f4"),), {})


def needs(tmp_path, members, *, fixed=None, plan=None, unsteady=None, **spec):
    (tmp_path / "out.run").mkdir(exist_ok=True)
    made = RunSpec(members=members, search_path=ENSEMBLE, **spec)
    made = replace(made, plan=replace(made.plan, batch_sizes=(4, 8), **plan or {}))
    digests = {member.name: member_digests(member, ENSEMBLE) for member in members}
    preflight = Preflight(FACTS, digests, {}, "probabilities", unsteady=unsteady or {})
    job = Job(datasets=(), output=tmp_path / "out.h5", spec=made)
    return Needs(job, preflight, ProfileBook(tmp_path / "book"), members, fixed)


def named(groups):
    return {name: [member.name for member in members] for name, members in groups.items()}


def noted(asked, speed, alone=30.0, **group):
    """Profiles of all members by themselves, and of the group as one: at so many rows/s."""
    for member in asked.members:
        batches = {size: BatchProfile(size, alone, 0, 0.1, 5) for size in (4, 8)}
        key = profile_key(asked.preflight, member, "cpu k", "eager")
        asked.book.put(key, Profile(1, 0, 1.0, (4,), batches, (4, 8)))
    batches = {size: BatchProfile(size, speed, 0, 0.1, 5) for size in (4, 8)} if speed else {}
    made = Profile(3, 0, 1.0, (4,), batches, (4, 8), **group)
    asked.book.put(group_key(asked.preflight, asked.grouping.groups[GROUP], "cpu k"), made)
    return asked


def test_equal_members_differ_in_their_weights_alone(tmp_path):
    a, b, c = equal_members(tmp_path)
    others = {
        "select": "0",
        "output": "probabilities",
        "precision": "float64",
        "preprocess": (StepSpec(scale=2.0),),
        "arguments": {"width": 8},
        "factory": "nets:Linear",
        "bad_rows": "pass",
        "gradients": True,
        "passes": PassesSpec(count=2),
        "rows": RowsSpec(path="mask"),
        "views": ViewsSpec(apply=()),
        "weights": WeightsSpec(),
    }
    for key, value in others.items():
        if key == "views":
            continue
        assert named(needs(tmp_path, (a, b, replace(c, **{key: value}))).grouping.groups) == {
            "m0 … m1 (2)": ["m0", "m1"]
        }, key
        alone = replace(b, **{key: value}), replace(c, **{key: value})
        again = named(needs(tmp_path, (a, *alone)).grouping.groups)
        by_themselves = key in ("gradients", "passes", "rows", "weights")
        assert again == ({} if by_themselves else {"m1 … m2 (2)": ["m1", "m2"]}), key
    weighed = replace(c, weight=2.0, weights=WeightsSpec(path=c.weights.path, key="ema", ignore=("x",)))
    assert named(needs(tmp_path, (a, b, weighed)).grouping.groups) == {GROUP: ["m0", "m1", "m2"]}
    file = MemberSpec(name="m3", exported=c.weights.path)
    assert named(needs(tmp_path, (a, file, replace(file, name="m4"))).grouping.groups) == {}
    assert named(needs(tmp_path, (a, b, c), unsteady={"m1": {"alone": 0.1}}).grouping.groups) == {
        "m0 … m2 (2)": ["m0", "m2"]
    }
    assert (
        needs(
            tmp_path, (a, b, c), cascade=(StageSpec(members=("m0",)), StageSpec(members=("m1", "m2")))
        ).grouping.groups
        == {}
    )


def test_a_runtime_by_name_forbids_them_or_asks_for_them(tmp_path):
    members = equal_members(tmp_path)
    for runtime in ("eager", "channels_last"):
        assert needs(tmp_path, members, plan={"runtime": runtime}).grouping.groups == {}
    asked = needs(tmp_path, members, plan={"runtime": "stacked"})
    assert named(asked.grouping.settled) == {GROUP: ["m0", "m1", "m2"]}
    [measured] = asked.unmeasured({2: DEVICE})[2]
    assert measured.members == members and [*measured.keys] == ["stacked"] and measured.thorough
    assert reasons([measured]) == (f"{GROUP}: not measured before",)
    other = replace(members[2], name="x", factory="nets:Linear")
    with pytest.raises(UsageError, match="member x is equal to no other member that is scored with it, and cannot run"):
        _ = needs(tmp_path, (*members, other), plan={"runtime": "stacked"}).grouping.groups


def test_they_are_measured_by_themselves_and_as_one(tmp_path):
    asked = needs(tmp_path, equal_members(tmp_path))
    todo = asked.unmeasured({2: DEVICE})[2]
    assert [(m.member.name, len(m.members)) for m in todo] == [("m0", 0), ("m1", 0), ("m2", 0), (GROUP, 3)]
    assert all(not {"stacked"} & {*m.keys} for m in todo[:3])
    known = noted(asked, 20.0)
    assert all("stacked" not in {*m.keys} for m in known.unmeasured({2: DEVICE}).get(2, ()))
    stated = state_problem(known, [DEVICE], IoRates())
    assert stated.groups == {GROUP: ("m0", "m1", "m2")} and stated.profiles["cpu k", GROUP, "stacked"].best == 20.0


def test_what_was_fixed_stays_and_a_member_that_is_added_runs_by_itself(tmp_path, monkeypatch):
    for reads_the_result in ("_stored_shapes", "require_same_axis"):
        monkeypatch.setattr(f"hpcens.planning.job_problem.{reads_the_result}", lambda *_: {})
    members = equal_members(tmp_path, count=4)
    how = MemberNumerics(8, "stacked", group=GROUP)
    fixed = Numerics(8, dict.fromkeys(("m0", "m1", "m2"), how), ("cpu k",), "2.0")
    asked = needs(tmp_path, members, fixed=fixed)
    asked = replace(asked, preflight=replace(asked.preflight, stored=("other",)))
    assert named(asked.grouping.groups) == named(asked.grouping.settled) == {GROUP: ["m0", "m1", "m2"]}
    todo = asked.unmeasured({2: DEVICE})[2]
    assert [m.member.name for m in todo] == ["m3", GROUP] and todo[1].batch_sizes == (8,)
    known = noted(asked, 20.0)
    stated = state_problem(known, [DEVICE], IoRates())
    assert {member for _, member, _ in stated.profiles} == {"m3", GROUP}
    assert [*stated.profiles["cpu k", GROUP, "stacked"].batches] == [8]
    measured = {("cpu k", member): 3 * 10.0 for member in ("m0", "m1", "m2")}
    assert corrected(stated, measured).profiles["cpu k", GROUP, "stacked"].best == pytest.approx(10.0)
    other_plan = replace(needs(tmp_path, members[1:], fixed=fixed).job, plan=tmp_path / "plan.json")
    with pytest.raises(
        UsageError, match=r"the plan has m0 … m2 \(3\) run as one batched network, and not all of these"
    ):
        _ = replace(needs(tmp_path, members[1:], fixed=fixed), job=other_plan).grouping.groups


def test_a_member_that_was_wrong_as_one_of_them_runs_by_itself(tmp_path):
    asked = needs(tmp_path, equal_members(tmp_path))
    Finding("m1", "stacked", "fingerprint", 0.5).save(tmp_path / "out.run")
    assert named(asked.grouping.groups) == {"m0 … m2 (2)": ["m0", "m2"]}
    how = MemberNumerics(8, "stacked", group=GROUP)
    fixed = Numerics(8, dict.fromkeys(("m0", "m1", "m2"), how), ("cpu k",), "2.0")
    for settled in (replace(asked, fixed=fixed), needs(tmp_path, asked.members, plan={"runtime": "stacked"})):
        with pytest.raises(UsageError, match="member m1 gave wrong values in stacked in this run, and is to run in it"):
            _ = settled.grouping.settled


@pytest.mark.parametrize(
    ("speed", "profile", "line"),
    [
        (9.0, {}, "as one batched network they make 0.90 × the rows/s that they make so"),
        (0.0, {"refused": "stacked: no rule for aten::gru"}, "stacked: no rule for aten::gru"),
        (0.0, {"difference": 0.5}, "it differs from eager by 0.5, more than plan.tolerance"),
        (20.0, {}, None),
    ],
)
def test_where_they_are_not_one_the_plan_says_why(tmp_path, speed, profile, line, monkeypatch):
    from hpcens.planning.job_planner import JobPlanner

    asked = noted(needs(tmp_path, equal_members(tmp_path)), speed, **profile)
    monkeypatch.setattr(Needs, "runtimes", lambda self, member, family: ("eager",))
    planner = JobPlanner(asked.job, asked.preflight, asked.book)
    plan = planner.plan([DEVICE], IoRates(reading=1e9))
    said = [text for text in plan.remark.splitlines() if "batched" in text or "equal" in text]
    assert said == ([f"{GROUP} are equal and run one after another: {line}"] if line else [])
    assert plan.throughput == pytest.approx(speed if line is None else 10.0)
    assert [*apart_lines(planner.needs, state_problem(planner.needs, [DEVICE], IoRates()), plan)] == said


def test_what_it_gives_each_time_is_told_of_each_of_its_members(tmp_path):
    asked = noted(needs(tmp_path, equal_members(tmp_path, count=3)), 20.0, same_bits=False)
    how = MemberNumerics(8, "stacked", group=GROUP)
    numerics = Numerics(8, dict.fromkeys(("m0", "m1", "m2"), how), ("cpu k",), "2.0")
    plan = SimpleNamespace(numerics=numerics)
    told = unsteady_outputs(asked.job, asked.preflight, asked.book, plan)
    assert told == {name: {"reproducible": False} for name in ("m0", "m1", "m2")}


def test_what_a_run_reached_is_of_the_profile_as_one(tmp_path, monkeypatch):
    """Of rows/s that each of three members made beside the two others: three times those of all at once."""
    asked = noted(needs(tmp_path, equal_members(tmp_path, count=3)), 20.0)
    how = MemberNumerics(8, "stacked", group=GROUP)
    numerics = Numerics(8, dict.fromkeys(("m0", "m1", "m2"), how), ("cpu k",), "2.0")
    asked = replace(asked, fixed=numerics)
    monkeypatch.setattr("hpcens.planning.interference.JobPlanner", lambda *_: SimpleNamespace(needs=asked))
    instances = [
        InstanceReport(DEVICE.name, member, 8, "stacked", 60.0, 20.0, 0, 10**4, 30.0, GROUP)
        for member in numerics.members
    ]
    plan = SimpleNamespace(numerics=numerics, devices=(DEVICE,))
    learn(asked.job, asked.preflight, plan, SimpleNamespace(instances=instances))
    assert asked.book.reached("cpu k") == [pytest.approx(0.5)]


def test_its_speed_is_at_the_level_of_its_members(tmp_path):
    """Measured on a busy machine, or an idle one, it is as many times as fast as they were beside it."""
    asked = noted(needs(tmp_path, equal_members(tmp_path)), 20.0, alone=60.0)
    assert asked.grouping.profiles("cpu k", "cpu")[GROUP].best == 20.0, "it does not say how many times"
    batches = {4: BatchProfile(4, 5.0, 0, 0.1, 5, times=2.0), 16: BatchProfile(16, 7.0, 0, 0.1, 5, times=2.0)}
    own = Profile(3, 0, 1.0, (4,), batches, (4, 8, 16))
    key = group_key(asked.preflight, asked.grouping.groups[GROUP], "cpu k")
    asked.book.put(key, own)
    assert asked.book.get(key).batches[4].times == 2.0
    speeds = {size: batch.rows_per_second for size, batch in beside(own, [], 3).batches.items()}
    assert speeds == {4: 5.0, 16: 7.0}
    eager = [Profile(1, 0, 1.0, (4,), {4: BatchProfile(4, rate, 0, 0.1, 5)}, (4,)) for rate in (50.0, 60.0, 90.0)]
    level = beside(own, eager, 3)
    assert {size: batch.rows_per_second for size, batch in level.batches.items()} == {4: 40.0, 16: 7.0}
    assert asked.grouping.profiles("cpu k", "cpu")[GROUP].batches[4].rows_per_second == 40.0


def test_outputs_on_their_way_are_planned_for(tmp_path):
    """Story: outputs that a busy reducer had not taken were three times what was planned of a device's memory."""
    asked = noted(needs(tmp_path, equal_members(tmp_path)), 0.0, refused="no")
    rates = IoRates()
    assert state_problem(asked, (DEVICE,), rates).held == 3 * SEGMENT_BYTES + OUTPUTS_HELD
    for member in asked.members:
        key = profile_key(asked.preflight, member, "cpu k", "eager")
        asked.book.put(key, replace(asked.book.get(key), output_shape=(1_000_000,)))
    assert state_problem(asked, (DEVICE,), rates).held == 3 * 8 * 4_000_000 + OUTPUTS_HELD, "of the largest batch"


ROWS = np.random.default_rng(1).random((24, 3, 8, 8), np.float32)


def measured(members, folder, tolerance=1e-4, seconds=2.0, thorough=True):
    [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
    keys = {"stacked": ProfileKey("cpu×1 model", "digest", "stacked", "<f4[3, 8, 8]", "2.13")}
    asked = Measurement(
        replace(members[0], name=GROUP), keys, (4, 8), seconds, 10**6, tolerance, thorough, members=members
    )
    options = dict(inputs=("images",), device=device, space="probabilities", rows=(ROWS,), cache=folder)
    [(_, profile)] = measure_group(
        asked, spec=RunSpec(members=members, search_path=ENSEMBLE), others=(ROWS[::-1].copy(),), **options
    )
    return profile


class TestMeasured:
    def test_as_one_held_against_each(self, tmp_path, monkeypatch):
        monkeypatch.setattr("hpcens.profiling.bench._WORTH_GOING_ON", 0.0)
        monkeypatch.setattr("hpcens.profiling.timing.precise", lambda speeds: True)
        profile = measured(equal_members(tmp_path), tmp_path)
        assert profile.output_shape == (4,) and profile.difference < 1e-6 and profile.same_bits
        assert [*profile.batches] == [4, 8] and profile.tried == (4, 8) and not profile.refused
        assert all(batch.times > 0 for batch in profile.batches.values())
        assert profile.weights >= 3 * 4 * (3 * 8 * 9 + 8 + 4 * 32 + 4)

    def test_short_passes_are_timed_as_a_run_makes_them(self, tmp_path, monkeypatch):
        """Story: members whose first calls take longer were timed in those: the group was planned twice as fast."""
        now, calls = [0.0], {}

        class Clocked(Engine):
            def run(self, name, rows):
                calls[name] = calls.get(name, 0) + 1
                batches = len(rows[0]) / self._members[name].batch
                each = 150e-6 if name == GROUP else 100e-6
                now[0] += 300e-6 * (calls[name] <= 16) + 10e-6 + each * batches
                return super().run(name, rows)

        clock = SimpleNamespace(perf_counter=lambda: now[0])
        for module in ("timing", "passes", "bench", "group_bench"):
            monkeypatch.setattr(f"hpcens.profiling.{module}.time", clock)
        for module in ("bench", "group_bench"):
            monkeypatch.setattr(f"hpcens.profiling.{module}.Engine", Clocked)
        profile = measured(equal_members(tmp_path), tmp_path, seconds=1.0)
        assert {size: batch.times for size, batch in profile.batches.items()} == pytest.approx(
            {4: 2.0, 8: 2.0}, rel=0.02
        )

    def test_what_cannot_be_batched_is_refused(self, tmp_path):
        profile = measured(equal_members(tmp_path, "nets:Recurrent"), tmp_path)
        assert "Batching rule not implemented" in profile.refused and not profile.batches

    def test_one_that_disagrees_ends_the_group(self, tmp_path, monkeypatch):
        """Of one member alone the outputs are other ones: the group is not timed, and nothing is raised."""
        state = hpcens.members.stacked._state

        def wrong(module):
            return ((name, numbers * 1.5) for name, numbers in state(module))

        monkeypatch.setattr("hpcens.members.stacked._state", wrong)
        profile = measured(equal_members(tmp_path), tmp_path)
        assert profile.difference > 1e-3 and not profile.batches

    def test_what_takes_too_long_is_not_tried(self, tmp_path):
        profile = measured(equal_members(tmp_path), tmp_path, seconds=1e-9, thorough=False)
        assert "too long to gain much" in profile.refused
