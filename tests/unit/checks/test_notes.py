"""What is no fault of a job, and said before it starts: once, in a line, and only where it is so."""

from dataclasses import replace
from pathlib import Path

from hpcens.checks.notes import notes
from hpcens.checks.preflight import Preflight
from hpcens.dataset import Facts, Input
from hpcens.specs import Job, MemberSpec, NormalizeSpec, RunSpec, StepSpec

MEMBERS = tuple(MemberSpec(name=name, factory="m:f", weights=Path(f"{name}.pt")) for name in "abcde")
JOB = Job(datasets=(Path("x.h5"),), output=Path("out.h5"), spec=RunSpec(members=MEMBERS))


def preflight(digests, **more):
    return Preflight(
        Facts(3, (), {}), {name: {"weights": digest} for name, digest in digests.items()}, {}, "logits", **more
    )


def test_members_that_are_one_network_are_named_once():
    assert list(notes(JOB, preflight(dict(zip("abcde", "12345", strict=True))))) == []
    assert list(notes(JOB, preflight(dict(zip("abcde", "12213", strict=True))))) == [
        "a and d are the same network: its weights, code, arguments and inputs are the same",
        "b and c are the same network: its weights, code, arguments and inputs are the same",
    ]
    [line] = notes(JOB, preflight(dict.fromkeys("abcde", "1")))
    assert line.startswith("a, b, c, d and e are the same network")
    used = replace(JOB.spec, members=(MEMBERS[0], replace(MEMBERS[1], precision="float64")))
    assert list(notes(replace(JOB, spec=used), preflight(dict.fromkeys("ab", "1")))) == []


def test_a_complete_result_is_not_replaced_without_a_word():
    [line] = notes(JOB, preflight(dict(zip("abcde", "12345", strict=True)), stored=("a", "b", "c", "d")))
    assert line == (
        "out.h5 is complete with a and 3 more: e alone will be scored and added;"
        " the file is replaced once the new one is whole"
    )


def unscaled(*steps, inputs=("images", "aux"), pixels=("images",)):
    """The note on one member that takes pixels through these steps; empty where there is none."""
    facts = Facts(3, tuple(Input(name, (8, 8), "|u1") for name in inputs), {}, pixels=pixels)
    member = MemberSpec(name="a", factory="m:f", weights=Path("a.pt"), preprocess=steps)
    job = replace(JOB, spec=replace(JOB.spec, members=(member,)))
    found = replace(preflight({"a": "1"}), facts=facts)
    assert Preflight.from_json(found.to_json()).facts.pixels == pixels
    return "".join(notes(job, found))


def test_pixels_that_nothing_scales_are_pointed_out():
    said = (
        "input images holds whole numbers from 0 to 255, and a takes them as they are; if the network was trained on"
        " scaled ones, write preprocess: [{scale: 1/255}]"
    )
    flat = NormalizeSpec(mean=(0.5,), std=(0.5,))
    assert unscaled() == unscaled(StepSpec(layout="NHWC->NCHW"), StepSpec(cast="float32")) == said
    assert unscaled(StepSpec(scale=1 / 255, input="aux")) == said
    assert unscaled(pixels=()) == ""
    for step in (
        StepSpec(scale=1 / 255),
        StepSpec(normalize=flat),
        StepSpec(call="m:f"),
        StepSpec(call="m:f", input="images"),
        StepSpec(cast="int64"),
        StepSpec(scale=1 / 255, input="images"),
    ):
        assert unscaled(StepSpec(crop=(4, 4)), step) == ""
    second = unscaled(StepSpec(scale=1 / 255), pixels=("aux",))
    assert second.startswith("input aux holds"), "a step is for the first input unless it names one"
