"""What a member gives becomes what the ensemble combines: against scipy in float64, on any axis."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.special import softmax as scipy_softmax

from hpcens.errors import MemberError
from hpcens.members.conversion import Conversion
from hpcens.specs import MemberSpec, RunSpec

ROWS = 3


def converted(values, space="probabilities", task=None, classes=None, class_axis=None, **member):
    spec = MemberSpec(name="m", **member)
    run = RunSpec(members=(spec,), task=task, classes=classes, class_axis=class_axis)
    return Conversion(spec, run, space)(torch.from_numpy(values)).numpy()


def logits(seed, shape):
    return np.random.default_rng(seed).normal(0, 4, (ROWS, *shape)).astype(np.float32)


@settings(deadline=None)
@given(st.data())
def test_softmax_on_any_axis_and_its_move_to_any_other(data):
    shape = data.draw(st.sampled_from([(4,), (4, 5), (2, 3, 4)]))
    own = data.draw(st.integers(1, len(shape)))
    to = data.draw(st.integers(1, len(shape)))
    back = data.draw(st.booleans())  # axes may be counted from the end as well
    x = logits(data.draw(st.integers(0, 99)), shape)
    axes = {"class_axis": to - x.ndim if back else to}
    spec = MemberSpec(name="m", class_axis=own)
    got = Conversion(spec, RunSpec(members=(spec,), **axes), "probabilities")(torch.from_numpy(x))
    assert got.is_contiguous()
    wanted = np.moveaxis(scipy_softmax(x.astype(np.float64), own), own, to)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=2e-6, atol=1e-12)


def test_on_the_last_axis_the_bytes_are_those_of_a_softmax_over_it():
    for shape in ((4,), (5, 4)):
        x = logits(1, shape)
        assert converted(x, class_axis=-1).tobytes() == torch.softmax(torch.from_numpy(x), -1).numpy().tobytes()


@pytest.mark.parametrize("shape", [(), (1,), (1, 4, 5), (6, 1)])
def test_one_logit_of_two_classes(shape):
    x = logits(2, shape) * 5
    axis = shape.index(1) + 1 if shape else 1
    p = expit(x.astype(np.float64)) if shape else expit(x.astype(np.float64))[:, None]
    got = converted(x, task="binary")
    assert got.shape == (ROWS, 2) if not shape else got.shape[axis] == 2
    np.testing.assert_allclose(got, np.concatenate([1 - p, p], axis), rtol=1e-5, atol=1e-12)
    given_p = converted(p.astype(np.float32), task="binary", output="probabilities")
    np.testing.assert_allclose(given_p, np.concatenate([1 - p, p], axis), rtol=1e-6, atol=1e-7)
    both = converted(x, "logits", task="binary")
    pair = scipy_softmax(both.astype(np.float64), axis)
    np.testing.assert_allclose(pair, np.concatenate([1 - p, p], axis), rtol=1e-6, atol=1e-12)


def test_two_classes_of_a_binary_task_stay_what_they_are():
    x = logits(3, (2,))
    assert converted(x, task="binary").tobytes() == torch.softmax(torch.from_numpy(x), -1).numpy().tobytes()


def test_each_of_several_labels_has_a_sigmoid_of_its_own():
    x = logits(4, (5,))
    np.testing.assert_allclose(converted(x, task="multilabel"), expit(x.astype(np.float64)), rtol=1e-6)
    assert converted(x, "logits", task="multilabel").tobytes() == x.tobytes()


def test_values_are_left_as_they_are():
    x = logits(5, (3, 4))
    assert converted(x, "values", output="values").tobytes() == x.tobytes()


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_classes_on_any_axis_are_brought_to_the_ensembles(axis):
    """A subset of the axis, some added up, in the ensemble's order."""
    x = np.moveaxis(logits(6, (4, 5, 6)), 1, axis)
    p = scipy_softmax(x.astype(np.float64), axis)
    classes = {"b": "B", "a1": "A", "c": "C", "a2": "A"}
    spec = MemberSpec(name="m", classes=classes)
    run = RunSpec(members=(spec,), classes=("A", "B", "C"), class_axis=axis)
    got = Conversion(spec, run, "probabilities")(torch.from_numpy(x)).numpy()
    b, a1, c, a2 = np.moveaxis(p, axis, 0)
    np.testing.assert_allclose(got, np.stack([a1 + a2, b, c], axis), rtol=2e-6)


def test_a_pair_may_be_named_the_other_way_round():
    """A network whose one logit is that of the class that the ensemble has first."""
    spec = MemberSpec(name="m", classes={"dog": "dog", "cat": "cat"})
    run = RunSpec(members=(spec,), classes=("cat", "dog"), task="binary")
    x = logits(7, (1,))
    p = expit(x.astype(np.float64))
    got = Conversion(spec, run, "probabilities")(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, np.concatenate([p, 1 - p], 1), rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_softmax_over_one_class_is_refused_with_what_it_may_be(shape):
    with pytest.raises(MemberError, match=r"two classes or more(.|\n)*task: binary.*task: regression"):
        converted(logits(8, shape), task="multiclass")
