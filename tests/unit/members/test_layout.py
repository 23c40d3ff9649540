"""The layout of outputs: which axis has the classes, by what is said; what does not decide is refused."""

import pytest

from hpcens.errors import UsageError
from hpcens.members import describe_taken, layout_digests, result_axis, taken
from hpcens.members.layout import Taken
from hpcens.specs import MemberSpec, RunSpec

MAP = {"a": "a", "b": "b", "c": "a", "d": "b", "e": "a"}


def ensemble(task=None, classes=None, class_axis=None, own=(None,), output="logits", mapped=None, assumed=False):
    """Members with these class axes of their own."""
    members = tuple(MemberSpec(name=f"m{i}", output=output, class_axis=a, classes=mapped) for i, a in enumerate(own))
    return RunSpec(members=members, task=task, classes=classes, class_axis=class_axis, assumed=assumed)


def of(spec, shape, space="probabilities"):
    return taken(spec.members[0], spec, shape, space)


@pytest.mark.parametrize(
    ("spec", "shape", "wanted"),
    [
        (ensemble(), (7,), Taken(1, False, "softmax", 1)),
        (ensemble(class_axis=1), (7,), Taken(1, False, "softmax", 1)),
        (ensemble(class_axis=1), (7, 5, 6), Taken(1, False, "softmax", 1)),
        (ensemble(class_axis=-3), (7, 5, 6), Taken(1, False, "softmax", 1)),
        (ensemble(classes=("a", "b")), (5, 2, 6), Taken(2, False, "softmax", 2)),
        (ensemble(classes=("a", "b"), mapped=MAP), (2, 5, 6), Taken(2, False, "softmax", 2)),
        (ensemble(own=(3,)), (7, 5, 6), Taken(3, False, "softmax", 3)),
        (ensemble(own=(1,)), (7, 5, 6), Taken(1, False, "softmax", 3)),  # the ensemble's is the last by default
        (ensemble(class_axis=1, own=(3,)), (7, 5, 6), Taken(3, False, "softmax", 1)),
        (ensemble(own=(None, 1)), (7,), Taken(1, False, "softmax", 1)),
        (ensemble("binary"), (), Taken(1, True, "sigmoid", 1)),
        (ensemble("binary"), (1,), Taken(1, True, "sigmoid", 1)),
        (ensemble("binary"), (2,), Taken(1, False, "softmax", 1)),
        (ensemble("binary"), (1, 8, 9), Taken(1, True, "sigmoid", 1)),
        (ensemble("binary"), (8, 2, 9), Taken(2, False, "softmax", 2)),
        (ensemble("binary", class_axis=1), (1, 1, 9), Taken(1, True, "sigmoid", 1)),
        (ensemble("binary", output="probabilities"), (1,), Taken(1, True, "", 1)),
        (ensemble("multilabel"), (5,), Taken(1, False, "sigmoid", 1)),
        (ensemble("multilabel", output="probabilities"), (5,), Taken(1, False, "", 1)),
    ],
)
def test_what_an_output_is_taken_to_be(spec, shape, wanted):
    assert of(spec, shape) == wanted


@pytest.mark.parametrize(
    ("spec", "shape", "says"),
    [
        (
            ensemble(),
            (7, 5),
            r"m0 gives \[7, 5\] a row: .* which axis .* class_axis: 1 \(7 of them\) or -1 \(the",
        ),
        (ensemble(classes=("a", "b")), (2, 2), "does not say which axis has the classes"),
        (ensemble(classes=("a", "b")), (3, 5), "no axis has the 2 classes of the YAML"),
        (ensemble(class_axis=3), (7, 5), "has no axis 3.*correct class_axis: 1"),
        (ensemble(class_axis=-3), (7, 5), "has no axis -3"),
        (ensemble("binary"), (3,), "3 values on axis 1: task binary has one or two.*multiclass"),
        (ensemble("binary"), (1, 2), "does not say which axis"),
        (ensemble("multilabel"), (4, 5), "does not say which axis"),
        (
            ensemble(assumed=True),
            (3,),
            r"m0 gives \[3\] a row, and the YAML does not .*add a line: task: multi",
        ),
        (ensemble(assumed=True), (3, 4), r"add a line: task.*regression.*class_axis: 1 \(3 of them\)"),
    ],
)
def test_what_does_not_decide_is_refused(spec, shape, says):
    with pytest.raises(UsageError) as caught:
        of(spec, shape)
    assert caught.match(f"(?s){says}") and caught.value.exit_code == 2


def test_values_have_no_axis_of_classes_unless_these_are_named():
    assert of(ensemble(output="values"), (7, 5), "values") == Taken(None)
    assert of(ensemble(output="values", classes=("a", "b")), (7, 2), "values") == Taken(2, to=2)
    assert of(ensemble(assumed=True), (1,)).axis == 1, "one value is refused in other words"


@pytest.mark.parametrize(
    ("spec", "shape", "axis"),
    [
        (ensemble(), (7,), 1),
        (ensemble(class_axis=-1), (7, 5), 2),
        (ensemble(own=(1,)), (5, 7), 2),
        (ensemble(classes=("a", "b")), (2, 5), 1),
        (ensemble("binary"), (2, 5, 9), 1),
        (ensemble(), (), None),
    ],
)
def test_the_axis_of_the_result_follows_from_its_shape(spec, shape, axis):
    assert result_axis(spec, shape, "probabilities") == axis


def test_classes_brought_to_as_many_as_another_axis_has_are_refused():
    """The member's own number decides, the ensemble's no longer does."""
    spec = ensemble(classes=("a", "b"), mapped=MAP)
    assert of(spec, (5, 2)).axis == 1
    with pytest.raises(UsageError, match=r"the members give \[2, 2\] a row: the YAML does not say which axis"):
        result_axis(spec, (2, 2), "probabilities")


def test_what_means_what_format_1_meant_is_no_part_of_a_digest():
    def digests(**more):
        spec = ensemble(**more)
        return layout_digests(spec.members[0], spec)

    for task in (None, "multiclass", "regression"):
        assert digests(task=task) == digests(task=task, class_axis=-1) == digests(task=task, own=(-1,)) == {}
    assert digests(own=(None, -1)) == {}
    assert digests(class_axis=1) == digests(class_axis=1, own=(1,)) == {"class_axis": "1"}
    assert digests(own=(1,)) == {"class_axis": "1 → -1"}
    assert digests(class_axis=1, own=(3,)) == {"class_axis": "3 → 1"}
    assert digests(class_axis=1, own=(-1,)) == {"class_axis": "-1 → 1"}
    assert digests(task="binary") == {"task": "binary"} and digests(task="multilabel") == {"task": "multilabel"}


@pytest.mark.parametrize(
    ("spec", "shape", "says"),
    [
        (ensemble("multiclass"), (1000,), "logits (1000) → softmax over axis 1"),
        (ensemble(class_axis=1), (4, 12, 10), "logits (4, 12, 10) → softmax over axis 1"),
        (ensemble(class_axis=1, own=(3,)), (12, 10, 4), "logits (12, 10, 4) → softmax over axis 3, moved to axis 1"),
        (ensemble("binary"), (1,), "logits (1) → sigmoid p, classes [1 − p, p] on axis 1"),
        (ensemble("binary", output="probabilities"), (), "probabilities () → classes [1 − p, p] on axis 1"),
        (ensemble("multilabel"), (5,), "logits (5) → sigmoid of each label, labels on axis 1"),
        (ensemble(output="probabilities"), (5,), "probabilities (5), classes on axis 1"),
        (
            ensemble(classes=("a", "b"), mapped=MAP),
            (5,),
            "logits (5) → softmax over axis 1, its 5 classes brought to the 2 of the ensemble",
        ),
    ],
)
def test_what_is_taken_is_said(spec, shape, says):
    assert describe_taken(spec.members[0], spec, shape, "probabilities") == says


def test_values_are_said_to_be_values():
    spec = ensemble("regression", output="values")
    assert describe_taken(spec.members[0], spec, (3,), "values") == "values (3)"
