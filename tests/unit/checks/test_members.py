"""The contract: members that break it are refused before anything starts, each by name, whatever they do."""

import json
import re
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from support.contract import Held

from hpcens.checks import members as judging
from hpcens.checks.members import check_members, taken
from hpcens.checks.preflight import check
from hpcens.checks.trials import Trial
from hpcens.config import spec_from_json, spec_to_json
from hpcens.errors import MemberError, UsageError
from hpcens.processes import isolation


@pytest.fixture
def held(project):
    return Held(project.data(5))


@pytest.fixture
def in_process(held, monkeypatch):
    """What the members' code imports is forgotten again."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield held.tried
    for name in ("own", "nets"):
        sys.modules.pop(name, None)


@pytest.fixture
def asked(monkeypatch):
    """Names of members for which a trial was asked for, in place of the trials; each gives what is in `shapes`."""
    names = []

    def tried(job, preflight, members, device, seconds):
        for member in members:
            names.append(member.name)
            yield member.name, Trial(tried.shapes.get(member.name, (4,)))

    tried.names, tried.shapes = names, {}
    monkeypatch.setattr(judging, "try_members", tried)
    return tried


def test_members_that_keep_it_are_tried_once_without_a_trace_on_the_terminal(held, monkeypatch, capfd):
    held.yaml("Linear", "noisy", "leaks", "Probabilities", "factory: own:Probabilities, output: probabilities")
    [warning] = held.hold()
    assert warning.startswith("member m3 says output: logits") and capfd.readouterr() == ("", "")
    preflight = check(held.job)
    monkeypatch.setattr(isolation.subprocess, "Popen", None)
    assert check_members(held.job, preflight, held.book) == (warning,)
    assert not held.project.run.exists()


def test_everything_that_is_wrong_is_told_at_once(held):
    held.yaml("raises", "exits", "exits_hard", "a_tensor", "Linear", "crashes", "Conv", "hangs")
    said = held.refused(MemberError, seconds=4.0)
    for what in (
        "7 members cannot be used",
        r"member m0: own:raises\(\) raised RuntimeError: no such luck",
        r"member m1: own:exits\(\) raised SystemExit: exit\(7\) was called",
        "member m2: the process that tried it ended with exit code 9; it said: farewell",
        "member m3: own:a_tensor returned Tensor, not a torch.nn.Module",
        "member m5: the process that tried it was killed by SIGSEGV",
        r"member m6: .*linear.safetensors does not fit own:Conv \(2 missing, 0 unknown, 1 of another shape\)",
        "member m7 was not loaded and run on the dataset's first rows within 4 s; it said: waiting for you",
    ):
        assert re.search(what, said), what
    assert "member m4" not in said
    assert held.yaml("Linear").hold() == () and len(list(held.book.folder.iterdir())) == 1


def test_a_member_is_tried_again_once_something_about_it_changed(held, asked):
    def count(*members, **options):
        before = len(asked.names)
        held.yaml(*members, **options).hold()
        return len(asked.names) - before

    assert count("Linear") == 1
    assert count("Linear", "Linear") == 0, "another name is no other member"
    for change in ("precision: bfloat16", "preprocess: [{scale: 2.0}]", "output: values", "select: 0"):
        assert count(f"factory: own:Linear, {change}") == 1
        assert count(f"factory: own:Linear, {change}") == 0
    assert count("Linear", extra="rule: {space: logits}") == 1
    with h5py.File(held.project.dataset, "w") as file:
        file["images"] = np.zeros((5, 3, 8, 8), np.uint8)
    assert count("Linear") == 1
    for file in held.book.folder.iterdir():
        file.write_text("{")
    assert count("Linear") == 1


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("factory: own:Linear, output: probabilities", "m0 says output: probabilities, but .* write output: logits if"),
        ("factory: own:Sigmoids, output: probabilities", "with sums like .* task: multilabel if its classes do not"),
        ("factory: own:Single, output: probabilities", r"returned \(2,\): probabilities of 2 rows need an axis"),
        ("Single", r"returned \(2,\): logits of 2 rows need an axis of two classes"),
        ("Pair", r"m0 returned tuple of 0: float32 \(2, 4\), 1: .*not one tensor.*select: 0"),
        ("factory: own:Pair, select: 2", "of which select: 2 is no tensor.*it has: 0, 1"),
        ("Complex", r"m0 returned complex64 \(2, 4\), and members give real floats"),
        ("Tokens", r"m0 raised RuntimeError: .*(Long|Int).*input \(2, 3, 8, 8\).*preprocess against the rows"),
        ("factory: own:Linear, arguments: {inputs: 3}", "does not fit own:Linear"),
        ("factory: own:Linear, preprocess: [{call: own:gone}]", r"preprocess\[0\] .* made \(1, 3, 8, 8\) of 2 rows"),
        (
            "factory: own:Linear, preprocess: [{call: own:bad_row}]",
            r"preprocess\[0\] \(call own:bad_row\) raised ValueError: row is bad \(rows 0–1 of a segment",
        ),
        ("factory: own:Linear, preprocess: [{crop: [9, 9]}]", "9 × 9 cannot be cut from 8 × 8"),
    ],
)
def test_what_a_member_gives_must_be_what_it_says(in_process, member, said):
    with pytest.raises(MemberError) as caught:
        in_process(member)
    assert re.search(f"(?s)member m0.*{said.removeprefix('m0')}", str(caught.value))


@pytest.mark.parametrize(
    ("member", "warnings"),
    [
        ("Linear", []),
        ("Double", []),
        ("factory: own:Double, precision: float32", []),
        ("Probabilities", ["says output: logits, .*write output: probabilities"]),
        ("Twice", ["says output: logits, .*softmax be taken twice"]),
        ("Positive", []),
        ("Squeezed", ["fails where a batch has one row: such a batch is run as two rows"]),
        ("factory: nets:Raising", []),
        ("factory: own:Probabilities, output: probabilities", []),
        ("factory: own:Probabilities, output: values", []),
        ("factory: own:Probabilities, output: probabilities, precision: bfloat16", []),
        ("factory: own:NotNumbers, output: probabilities", []),
    ],
)
def test_what_looks_wrong_but_may_be_right_is_told(in_process, member, warnings):
    got = in_process(member)
    assert got.shape == (4,) and len(got.warnings) == len(warnings)
    assert all(re.match(f"member m0 {what}", said) for what, said in zip(warnings, got.warnings, strict=True))


def test_members_must_agree(held, asked):
    asked.shapes = {"m1": (5,)}
    said = held.yaml("Linear", "factory: own:Linear, arguments: {classes: 5}").refused(UsageError)
    assert "the members' outputs differ in shape: m0 [4], m1 [5]" in said
    said = held.yaml("Linear", extra="classes: [a, b, c]").refused(UsageError)
    assert "3 classes are named, the members give [4] a row" in said


def test_inputs_must_be_those_of_the_dataset(held):
    for member in ("inputs: [meta]", "preprocess: [{scale: 2.0, input: meta}]"):
        said = held.yaml(f"factory: own:Linear, {member}").refused(UsageError)
        assert "member m0 takes the input meta, which the dataset has not" in said and "there are images" in said


def test_nothing_is_left_of_a_trial_that_is_broken_off(held, monkeypatch):
    processes = []
    popen = isolation.subprocess.Popen

    def watched(*of, **how):
        processes.append(popen(*of, **how))
        return processes[-1]

    class Interrupted(BaseException):
        pass

    def interrupt(*_):
        raise Interrupted

    preflight = check(held.yaml("hangs").job)
    monkeypatch.setattr(isolation.subprocess, "Popen", watched)
    monkeypatch.setattr(isolation.Connection, "poll", interrupt)
    with pytest.raises(Interrupted):
        check_members(held.job, preflight, held.book)
    assert processes[0].returncode == -9


def test_several_values_a_row_of_which_nothing_is_said_are_refused(held):
    """Jobs run unattended: a softmax over what may be three energies is not begun."""
    held.yaml("Linear", extra="# no task: here")
    said = held.refused(UsageError)
    assert "member m0 gives [4] a row, and the YAML does not say what these are" in said
    assert "add a line: task: multiclass (softmax over the classes), multilabel" in said
    for line in ("task: regression", "task: multilabel", "classes: 4"):
        assert held.yaml("Linear", extra=line).hold() == ()
    assert held.yaml("factory: own:Linear, output: logits", extra="# no task: here").hold() == ()


def test_one_value_a_row_of_which_nothing_is_said_is_refused_in_the_same_words(held):
    held.yaml("Single", extra="# no task: here")
    said = held.refused(UsageError)
    assert "member m0 gives [] a row, and the YAML does not say what these are" in said
    assert "add a line: task: regression if it is a value as it is, binary if" in said


def test_what_is_wrong_with_many_members_alike_is_said_once_and_images_are_asked_about(held):
    with h5py.File(held.project.dataset, "w") as file:
        file["images"] = np.zeros((5, 8, 8, 3), np.float32)
    held.yaml(*["Images"] * 5, "raises")
    said = held.refused(MemberError)
    assert "6 members cannot be used" in said and said.count("expected 3 channels") == 1
    assert "member m0 (and so 4 more) raised" in said and "member m5: own:raises() raised" in said
    assert "its rows are (8, 8, 3), channels last: did you mean preprocess: [{layout: NHWC->NCHW}]?" in said
    held.yaml(*["Images"] * 2)
    assert held.refused(MemberError).startswith("member m0 (and so m1) raised")


def test_a_stored_configuration_that_says_nothing_goes_on(held):
    """One of earlier code, of a job that waits in a queue: softmax over the last axis, as it was."""
    held.yaml("Linear", extra="# no task: here")
    tree = json.loads(spec_to_json(held.job.spec))
    for key in ("assumed", "task", "class_axis"):
        del tree[key]
    held.job = replace(held.job, spec=spec_from_json(json.dumps(tree)))
    assert held.hold() == ()
    assert taken(held.job, check(held.job), held.book) == {"m0": "logits (4) → softmax over axis 1"}


@pytest.mark.parametrize(
    ("member", "task", "shape"),
    [
        ("factory: own:Sigmoids, output: probabilities", "multilabel", (4,)),
        ("factory: own:Single, output: probabilities", "binary", (2,)),
    ],
)
def test_probabilities_that_need_not_add_up_to_1_are_those_of_a_task(in_process, member, task, shape):
    assert in_process(member, extra=f"task: {task}").shape == shape


@pytest.mark.parametrize("task", ["multilabel", "binary"])
def test_what_is_beyond_1_is_no_probability_of_any_task(in_process, task):
    member = "Positive" if task == "multilabel" else "Large"
    with pytest.raises(MemberError, match=r"(?s)m0 says output: probabilities, but .* write output: logits"):
        in_process(f"factory: own:{member}, output: probabilities", extra=f"task: {task}")
