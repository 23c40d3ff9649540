"""Which precision is taken for a member that leaves it open, and what is told of it; figures by hand."""

from dataclasses import replace

import pytest

from hpcens.checks.preflight import Preflight
from hpcens.dataset import Input
from hpcens.dataset.source import Facts
from hpcens.planning.numerics import in_precisions, with_precisions
from hpcens.planning.precisions import chosen_precisions
from hpcens.profiling import Needs, ProfileBook, profile_key
from hpcens.result.fingerprint import make_fingerprint
from hpcens.specs import Job, MemberSpec, PlanSpec, RunSpec
from hpcens.vocabulary import BatchProfile, Device, MemberNumerics, Numerics, Profile

AUTO, PLAIN = (MemberSpec(name=n, factory="nets:Net", precision=p) for n, p in (("a", "auto"), ("b", None)))
CARD = Device("h/cuda0", "cuda", "cuda H100", 1 << 30, 1, 0, "h")
CORE = Device("h/cpu0", "cpu", "cpu×1 x", 1 << 30, 1, 0, "h")


def profile(speed, **of):
    return Profile(1, 1, 0.1, (4,), {8: BatchProfile(8, speed, 1, 0.0)}, (8,), **{"judged": 512} | of)


@pytest.fixture
def needs(tmp_path):
    """Makes the needs of both members. profiles: (kind, precision) → of the first, in eager."""
    facts = Facts(10**6, (Input("x", (4,), "<f4"),), {})
    preflight = Preflight(facts, {name: {"weights": name} for name in "ab"}, {}, "values")
    spec = RunSpec(members=(AUTO, PLAIN), plan=PlanSpec(runtime="eager", batch_sizes=(8,)))

    def made(profiles):
        book = ProfileBook(tmp_path / "book")
        for (kind, precision), of in profiles.items():
            book.put(profile_key(preflight, replace(AUTO, precision=precision), kind, "eager"), of)
        job = Job(datasets=(), output=tmp_path / "out.h5", spec=spec)
        return Needs(job, preflight, book, (AUTO, PLAIN), None)

    return made


def chosen(needs, *devices):
    of, said = chosen_precisions(needs, devices)
    assert of.members[1] is PLAIN
    return of.members[0].precision, said


def test_the_fastest_within_the_tolerance_is_taken_and_told(needs):
    found = {
        (CARD.kind, "float32"): profile(100.0),
        (CARD.kind, "tf32"): profile(300.0, rounding=1e-4),
        (CARD.kind, "bfloat16"): profile(540.0, rounding=2e-3, labels=0.003),
        (CARD.kind, "float16"): profile(900.0, rounding=0.02),
    }
    precision, said = chosen(needs(found), CARD)
    assert precision == "bfloat16"
    assert said == (
        "member a computes in bfloat16 (precision: auto): 5.4 × the rows/s of float32; 0.3 % of labels differ,"
        " largest difference 0.002, on 512 rows"
    )


def test_what_gains_too_little_or_is_off_stays_in_float32_and_says_why(needs):
    found = {
        (CARD.kind, "float32"): profile(100.0),
        (CARD.kind, "tf32"): profile(104.0),
        (CARD.kind, "bfloat16"): profile(900.0, rounding=0.5),
    }
    precision, said = chosen(needs(found), CARD)
    assert precision == "float32" and said == (
        "member a computes in float32 (precision: auto); tf32: 1.04 ×; bfloat16: off by 0.5 from float32;"
        " float16: not measured on cuda H100"
    )


def test_one_precision_is_taken_on_all_kinds_of_device(needs):
    """TF32 is fastest on the card, and no CPU has it; bfloat16 is slow on the CPU, and gains more on the card."""
    found = {
        (CARD.kind, "float32"): profile(100.0),
        (CARD.kind, "tf32"): profile(900.0),
        (CARD.kind, "bfloat16"): profile(300.0, rounding=1e-3),
        (CORE.kind, "float32"): profile(10.0),
        (CORE.kind, "bfloat16"): profile(5.0, rounding=2e-3),
    }
    precision, said = chosen(needs(found), CARD, CORE)
    assert precision == "bfloat16" and "2.77 × the rows/s of float32; largest difference 0.002" in said
    assert chosen(needs(found), CARD)[0] == "tf32"
    assert chosen(needs(found), CORE) == (
        "float32",
        "member a computes in float32 (precision: auto); bfloat16: 0.5 ×",
    )


def test_every_runtime_of_the_precision_is_held_against_float32(needs):
    """Story: within the tolerance of eager in bfloat16 was enough: the fastest runtime was taken, twice as far off."""
    found = {(CARD.kind, "float32"): profile(100.0), (CARD.kind, "bfloat16"): profile(300.0, rounding=6e-3)}
    of = needs(found)
    of = replace(of, job=replace(of.job, spec=replace(of.job.spec, plan=replace(of.job.spec.plan, runtime="auto"))))
    narrow, wide = replace(AUTO, precision="bfloat16"), profile_key(of.preflight, AUTO, CARD.kind, "cuda_graphs")
    near, off, unjudged = (
        profile_key(of.preflight, narrow, CARD.kind, runtime)
        for runtime in ("channels_last", "cuda_graphs", "channels_last_cuda_graphs")
    )
    of.book.put(wide, profile(110.0))
    of.book.put(near, profile(320.0, difference=4e-3, rounding=9e-3))
    of.book.put(off, profile(900.0, difference=6e-3, rounding=0.012))
    of.book.put(unjudged, profile(950.0, judged=0))
    settled, said = chosen_precisions(of, (CARD,))
    assert "computes in bfloat16 (precision: auto): 2.91 ×" in said and "largest difference 0.009" in said
    assert settled.usable(settled.members[0], CARD.kind, "cuda").keys() == {"eager", "channels_last"}
    settled.book.put(off, profile(900.0, difference=0.03, rounding=0.003))  # nor what is off eager, as anywhere
    assert "cuda_graphs" not in settled.usable(settled.members[0], CARD.kind, "cuda")
    # written in the YAML, bfloat16 is what the member is: its eager is the measure
    written = replace(of.job.spec, members=(narrow, PLAIN))
    settled.book.put(off, profile(900.0, difference=6e-3, rounding=0.012))
    of = replace(of, job=replace(of.job, spec=written), members=written.members)
    assert {"cuda_graphs", "channels_last_cuda_graphs"} <= of.usable(narrow, CARD.kind, "cuda").keys()
    # and what is fixed with a run stays, whatever the tolerance is now
    fixed = Numerics(4, {"a": MemberNumerics(8, "cuda_graphs", "bfloat16")}, (CARD.kind,), "2")
    assert settled.usable(settled.members[0], CARD.kind, "cuda").keys() == {"eager", "channels_last"}
    assert "cuda_graphs" in replace(settled, fixed=fixed).usable(settled.members[0], CARD.kind, "cuda")


def test_nothing_is_said_where_nothing_is_left_open(needs):
    of = replace(needs({}), members=(PLAIN,))
    assert chosen_precisions(of, (CARD,)) == (of, "")


def test_what_was_chosen_is_as_if_it_were_written(tmp_path):
    """The numerics have it: a start that goes on, and the fingerprint, do not choose again."""
    numerics = Numerics(4, {"a": MemberNumerics(8, "eager", "bfloat16"), "b": MemberNumerics(8, "eager")}, ("k",), "2")
    spec = RunSpec(members=(AUTO, PLAIN))
    job = Job(datasets=(), output=tmp_path / "out.h5", spec=spec)
    settled = in_precisions(job, numerics)
    assert [member.precision for member in settled.spec.members] == ["bfloat16", None]
    assert with_precisions(numerics, spec.members) == numerics == with_precisions(numerics, settled.spec.members)
    digests = {"a": {}, "b": {}}
    of = {"data": {}, "members": digests, "rule": {}, "space": "values", "numerics": numerics}
    assert make_fingerprint(spec, **of) == make_fingerprint(settled.spec, **of)
    written = replace(spec, members=(replace(AUTO, precision="float16"), PLAIN))
    assert make_fingerprint(written, **of)["members"]["a"]["numerics"]["precision"] == "float16"
