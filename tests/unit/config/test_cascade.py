"""The cascade in a YAML: what a stage may accept rows by, and how its stages divide the members."""

from __future__ import annotations

import json

import pytest
from support.configuration import loaded

from hpcens.errors import UsageError

ENTROPY = {"entropy": {"below": 0.5}}


def read(file, cascade, names="abc", **more):
    members = [{"name": name, "torchscript": f"{name}.pt"} for name in names]
    return loaded(file, json.dumps({"members": members, "task": "multiclass", "cascade": cascade} | more))


def test_stages_are_read_in_the_order_of_the_members(file):
    spec = read(file, [{"members": "c", "accept": ENTROPY}, {"members": ["b", "a"]}])
    assert [stage.members for stage in spec.cascade] == [("c",), ("a", "b")] and spec.partial
    assert [spec.stage_of(name) for name in "abc"] == [1, 1, 0]
    assert spec.sets(()) == (("c",), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("cascade", "more", "said"),
    [
        (
            [{"members": ["a", "b", "c"]}],
            {},
            "cascade: has one stage, so that no row is spared a member; write a second",
        ),
        (
            [{"members": ["a"], "accept": ENTROPY}, {"members": ["b"]}],
            {},
            'members[2].name: "c" is in no stage of the cascade; add it to one',
        ),
        (
            [{"members": ["a", "b"], "accept": ENTROPY}, {"members": ["c", "b"]}],
            {},
            'cascade[1].members[1]: "b" is already cascade[0].members[1]; keep one of them',
        ),
        (
            [{"members": ["a", "bb"], "accept": ENTROPY}, {"members": ["c", "b"]}],
            {},
            'cascade[0].members[1]: "bb" is no member; did you mean "b"?',
        ),
        (
            [{"members": ["a"]}, {"members": ["b", "c"]}],
            {},
            "cascade[0].accept: is missing: the stages after it would score no row, or all; for example",
        ),
        (
            [{"members": ["a"], "accept": ENTROPY}, {"members": ["b", "c"], "accept": ENTROPY}],
            {},
            "cascade[1].accept: accepts rows, and no stage comes after it that they could be spared; remove it",
        ),
        (
            [{"members": ["a"], "accept": {"entrpy": {"below": 1}}}, {"members": ["b", "c"]}],
            {},
            'cascade[0].accept.entrpy: is nothing that a row is accepted by; did you mean "entropy"?',
        ),
        (
            [{"members": ["a"], "accept": {"margin": {"below": 0.5}}}, {"members": ["b", "c"]}],
            {},
            "cascade[0].accept.margin: accepts rows that are above a number; for example margin: {above: 0.9}",
        ),
        (
            [{"members": ["a"], "accept": {"variance": {"below": 0.5}}}, {"members": ["b", "c"]}],
            {},
            "cascade[0].accept.variance: is how far members are apart, and one member has scored by then",
        ),
        (
            [{"members": ["a"], "accept": ENTROPY}, {"members": ["b", "c"]}],
            {"task": "regression"},
            "cascade[0].accept.entropy: needs members that classify, and some give values; write variance",
        ),
        (
            [{"members": ["a", "b"], "accept": {"disagreement": {"below": 0.5}}}, {"members": ["c"]}],
            {"task": "multilabel"},
            "cascade[0].accept.disagreement: is of classes that exclude one another, and the task is multilabel",
        ),
        (
            [{"members": ["a"], "accept": ENTROPY}, {"members": ["b", "c"]}],
            {"output": {"dtype": "uint8"}},
            "output.dtype: uint8 has no NaN for the rows that a member does not score (cascade)",
        ),
        (
            [{"members": ["a"], "accept": ENTROPY}, {"members": ["b", "c"]}],
            {"rule": {"name": "stack", "factory": "m:s", "weights": "s.pt"}},
            "rule.name: stack is fed with all members, and cascade leaves some out of a row; write rule: mean",
        ),
        ([{"members": ["a"], "accept": []}, {"members": ["b", "c"]}], {}, "cascade[0].accept: expected a mapping"),
        ("a, b", {}, "cascade: expected a list"),
        ([{"member": ["a"]}], {}, 'cascade[0].member: unknown key; did you mean "members"?'),
    ],
)
def test_what_cannot_work_is_told_with_its_place_and_a_remedy(file, cascade, more, said):
    with pytest.raises(UsageError) as caught:
        read(file, cascade, **more)
    assert said in str(caught.value)
