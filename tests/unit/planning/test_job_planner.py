"""Plans of a job: a stored one is followed, in whichever format it was written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.instances import ROW, problem
from support.placements import planned

from hpcens.checks.preflight import Preflight
from hpcens.dataset import Input
from hpcens.dataset.source import Facts
from hpcens.errors import UsageError
from hpcens.planning.job_planner import JobPlanner
from hpcens.planning.job_problem import rounded_inputs, state_problem
from hpcens.profiling import Needs, ProfileBook, profile_key, reasons
from hpcens.specs import Job, KeepSpec, MemberSpec, OutputSpec, RunSpec, StepSpec
from hpcens.vocabulary import BatchProfile, Device, IoRates, MemberNumerics, Numerics, Plan, Profile

# Written by the version that had no format yet, of the problem below.
EARLIER = Path(__file__).with_name("plan-format-1.json")
RATES = IoRates(
    reading=200.0,
    reading_together=300.0,
    readers_together=2,
    link=5e6,
    message_seconds=2e-5,
    disk=4e6,
    sync_seconds=0.003,
)


def the_problem():
    stated = replace(problem(4, devices=3, members=2, kinds=2), rates=RATES, readers=2, reducers=2)
    return replace(stated, devices=tuple(replace(device, host="h") for device in stated.devices))


@pytest.fixture
def job_planner(tmp_path, monkeypatch):
    """Makes the planner of a job with the members of the problem, all of whose profiles are in the book."""
    monkeypatch.setattr("hpcens.planning.job_planner.torch_version", lambda: "2.0")
    stated = the_problem()
    facts = Facts(10**6, (Input("images", (ROW["row_bytes"] // 4,), "<f4"),), {})
    preflight = Preflight(facts, {name: {"weights": name} for name in stated.members}, {}, "logits")
    members = tuple(MemberSpec(name=name, factory="nets:Net") for name in stated.members)
    book = ProfileBook(tmp_path / "book")
    for (kind, name, runtime), profile in stated.profiles.items():
        member = next(member for member in members if member.name == name)
        book.put(profile_key(preflight, member, kind, runtime), profile)

    def made(plan):
        job = Job(datasets=(), output=tmp_path / "out.h5", spec=RunSpec(members=members), plan=plan)
        return JobPlanner(job, preflight, book)

    return made


def needs(tmp_path, inputs, *members, **output):
    preflight = Preflight(Facts(10, inputs, {}), {m.name: {"weights": "0"} for m in members}, {}, "values")
    job = Job(datasets=(), output=tmp_path / "out.h5", spec=RunSpec(members=members, output=OutputSpec(**output)))
    return Needs(job, preflight, ProfileBook(tmp_path / "book"), members, None)


def test_what_is_measured_again_is_said_with_the_reason(tmp_path, monkeypatch):
    made = [MemberSpec(name=f"m{i}", factory="nets:Net") for i in range(6)]
    asked = needs(tmp_path, (Input("x", (4,), "<f4"),), *made)
    spec = replace(asked.job.spec, plan=replace(asked.job.spec.plan, runtime="eager", batch_sizes=(4, 8)))
    asked = replace(asked, job=replace(asked.job, spec=spec))
    device = Device("h/cpu0", "cpu", "k", 1 << 30, 1, 0, "h")

    def said(needs):
        return reasons(measurement for own in needs.unmeasured({2: device}).values() for measurement in own)

    assert said(asked) == ("m0, m1, m2, m3 and 2 more: not measured before",)
    key = profile_key(asked.preflight, made[0], "k", "eager")  # that of all: their digests are equal
    batches = {size: BatchProfile(size, 10.0, 0, 0.1, 5, 0.4) for size in (4, 8)}
    asked.book.put(key, Profile(1, 0, 1.0, (4,), batches, (4, 8)))
    for idle in (False, True):
        monkeypatch.setattr("hpcens.profiling.needs.is_idle", lambda idle=idle: idle)
        assert said(asked) == ("m0, m1, m2, m3 and 2 more: measured on a loaded machine",) * idle
    numerics = Numerics(4, {member.name: MemberNumerics(4, "eager") for member in made}, ("k",), "2.0")
    assert said(replace(asked, fixed=numerics)) == (), "a run that goes on measures nothing again"


WIDE = (Input("x", (4,), "<f8"), Input("y", (), "<f8"), Input("z", (2,), "<f4"))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([{}], "x for m0; y for m0"),
        ([{"precision": "float64"}], ""),
        ([{"precision": "bfloat16"}, {"precision": "float64"}, {"inputs": ("y", "z")}], "x for m0; y for m0, m2"),
        ([{"inputs": ("z",)}], ""),
        ([{"preprocess": (StepSpec(cast="float64"),)}], "y for m0"),
        ([{"preprocess": (StepSpec(cast="float32"), StepSpec(cast="float32", input="y"))}], ""),
        ([{"preprocess": (StepSpec(scale=2.0), StepSpec(cast="float64"))}], "x for m0; y for m0"),
    ],
)
def test_a_plan_says_which_inputs_of_float64_are_rounded(tmp_path, members, said):
    made = [MemberSpec(name=f"m{i}", factory="nets:Net", **more) for i, more in enumerate(members)]
    line = rounded_inputs(needs(tmp_path, WIDE, *made))
    assert line == (said and f"inputs of float64 are rounded to float32 ({said}); precision: float64 keeps them")


@pytest.mark.parametrize(
    ("precision", "dtype", "output_bytes", "more"),
    [
        (None, "float32", 4 * 10, {}),
        ("float64", "float64", 8 * 10, {}),
        ("float64", "float16", 8 * 10, {}),  # what is sent, where it is more than what is stored
        (None, "float64", 8 * 10, {}),
        (None, "float64", 4 * 10, {"keep": KeepSpec(top=1, by={"class": "3"})}),  # few rows are stored
    ],
)
def test_rows_are_as_wide_as_they_are_sent_or_stored(tmp_path, precision, dtype, output_bytes, more):
    member = MemberSpec(name="m0", factory="nets:Net", output="values", precision=precision)
    known = needs(tmp_path, WIDE, member, datasets=("prediction",), dtype=dtype, **more)
    device = Device("h/0", "cpu", "cpu 1", 1 << 30)
    profile = Profile(1, 1, 0.1, (10,), {8: BatchProfile(8, 100.0, 1, 0.01)}, (8,))
    known.book.put(profile_key(known.preflight, member, device.kind, "eager"), profile)
    assert state_problem(known, [device], IoRates()).output_bytes == output_bytes


def test_a_plan_of_the_earlier_format_is_the_plan_it_was():
    earlier = Plan.load(EARLIER)
    assert "format" not in json.loads(EARLIER.read_text()) and json.loads(earlier.to_json())["format"] == 2
    assert earlier == replace(planned(the_problem()), limit=earlier.limit), "only the phrase differs"
    assert Plan.from_json(earlier.to_json()) == earlier


def test_a_plan_of_the_earlier_format_is_followed(job_planner):
    earlier, stated = Plan.load(EARLIER), the_problem()
    assert job_planner(EARLIER).plan(stated.devices, IoRates(), readers=2) == earlier
    fewer = job_planner(EARLIER).plan(stated.devices[:2], IoRates())
    assert fewer.numerics == earlier.numerics and len(fewer.devices) == 2


def test_a_plan_of_a_later_format_is_refused(tmp_path):
    later = tmp_path / "plan.json"
    later.write_text(json.dumps(json.loads(Plan.load(EARLIER).to_json()) | {"format": 3}))
    with pytest.raises(UsageError, match="cannot be read: it has format 3, and this hpcens reads formats up to 2"):
        Plan.load(later)


def test_what_is_no_text_is_no_plan(tmp_path):
    for name, start, what in (("table.h5", b"\x89HDF\r\n\x1a\n", "HDF5"), ("weights.pt", b"PK\x03\x04\xff", "no text")):
        (tmp_path / name).write_bytes(start + b"\xfe" * 9)
        with pytest.raises(UsageError, match=f"{name} is {what}, and no plan\n"):
            Plan.load(tmp_path / name)


def test_members_that_differ_in_weights_alone_get_equal_shares(tmp_path):
    """Measured one after another on a busy machine they came out apart, and so did their shares of the work."""
    members = [MemberSpec(name=name, factory="nets:Net") for name in ("a", "b", "c", "other", "file")]
    asked = needs(tmp_path, (Input("x", (4,), "<f4"),), *members, datasets=("prediction",))
    digests = {name: {"weights": name, "code": "0", "arguments": "{}"} for name in ("a", "b", "c")}
    digests |= {"other": {"weights": "a", "code": "0", "arguments": '{"deep": true}'}, "file": {"weights": "0"}}
    asked = replace(asked, preflight=replace(asked.preflight, digests=digests))
    for member, speed in zip(members, (100.0, 70.0, 104.0, 50.0, 60.0), strict=True):
        for runtime, faster in (("eager", 1.0), ("frozen", 1.02 if member.name == "a" else 2.0)):
            batches = {size: BatchProfile(size, faster * speed + size, 0, 0.1, 5) for size in (4, 8)}
            if (member.name, runtime) == ("b", "eager"):
                del batches[8]  # what was not measured of a member is not made up
            key = profile_key(asked.preflight, member, "k", runtime)
            asked.book.put(key, Profile(1, 0, 1.0, (4,), batches, (4, 8)))
    found = asked.profiles("k", "cpu")
    speeds = {key: {size: b.rows_per_second for size, b in profile.batches.items()} for key, profile in found.items()}
    assert speeds["a", "eager"] == speeds["c", "eager"] == {4: 104.0, 8: 110.0} and speeds["b", "eager"] == {4: 104.0}
    assert {name for name, runtime in found if runtime == "frozen"} == {"a", "b", "c", "other", "file"}
    assert speeds["a", "frozen"] == speeds["b", "frozen"] == {4: 144.0, 8: 148.0}, (
        "none is left out for its own figures"
    )
    assert speeds["other", "eager"] == {4: 54.0, 8: 58.0} and speeds["file", "eager"] == {4: 64.0, 8: 68.0}
    stated = state_problem(asked, [Device("d", "cpu", "k", 1 << 30, 1, 0, "h")], RATES)
    assert stated.profiles["k", "a", "frozen"].batches == stated.profiles["k", "c", "frozen"].batches
