"""Rules and uncertainties with classes on any axis, and what need not add up to 1 made to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import entr, expit
from support.outputs import members, outputs
from support.project import ENSEMBLE

from hpcens.errors import RuleError, UsageError
from hpcens.rules import combining_space, disagreement, entropies, label, labels, make_rule, top
from hpcens.specs import RuleSpec

SHAPES = [(4,), (5, 3), (2, 3, 4)]


@given(st.data())
def test_on_another_axis_all_is_what_it_is_on_the_last(data):
    shape = data.draw(st.sampled_from(SHAPES))
    space = data.draw(st.sampled_from(["probabilities", "logits"]))
    last = outputs(data.draw(st.integers(0, 99)), data.draw(st.integers(1, 4)), 3, shape, space)
    axis = data.draw(st.integers(1, len(shape)))
    stack = [np.moveaxis(values, -1, axis) for values in last]

    def back(values):
        return np.moveaxis(values, axis, -1)

    rules = ["vote", "mean", "median", *(["geometric"] if space == "probabilities" else [])]
    for name in rules:
        ours, rule = members([None] * len(stack)), RuleSpec(name=name)
        got, wanted = make_rule(rule, ours, axis=axis)(stack), make_rule(rule, ours)(list(last))
        np.testing.assert_allclose(back(got), wanted, rtol=0, atol=1e-7)
        assert (label(got, axis) == label(back(got))).all()
        indices, values = top(got, 2, axis)
        assert (back(indices) == top(back(got), 2)[0]).all() and (back(values) == top(back(got), 2)[1]).all()
        share = disagreement(stack, label(got, axis), axis)
        assert (share == disagreement([back(v) for v in stack], label(back(got)))).all()
    weights = [1.0 + i for i in range(len(stack))]
    ours = entropies(stack, weights, logits=space == "logits", axis=axis)
    wanted = entropies(list(last), weights, logits=space == "logits")
    np.testing.assert_allclose(ours.predictive, wanted.predictive, atol=1e-12)
    np.testing.assert_allclose(ours.expected, wanted.expected, atol=1e-12)


@given(st.integers(0, 99), st.integers(1, 5))
def test_each_label_has_entropies_of_its_own(seed, count):
    """Against scipy, in float64: those of a coin each."""
    logits = outputs(seed, count, 3, (4, 2), "values")
    p = expit(logits.astype(np.float64))
    weights = np.arange(1.0, count + 1)
    mixture = np.average(p, axis=0, weights=weights)
    for stack, is_logits in ((logits, True), (p.astype(np.float32), False)):
        got = entropies(list(stack), list(weights), logits=is_logits, axis=None)
        wanted = entr(mixture) + entr(1 - mixture)
        np.testing.assert_allclose(got.predictive, wanted, atol=2e-6)
        parts = np.average(entr(p) + entr(1 - p), axis=0, weights=weights)
        np.testing.assert_allclose(got.expected, parts, atol=2e-6)
    assert (labels(logits[0], logits=True) == (logits[0] > 0)).all()
    assert (labels(np.array([0.5, 0.51, 0.49], "f4"), logits=False) == [0, 1, 0]).all()


@pytest.mark.parametrize("name", ["median", "trimmed", "min", "max", "rules:largest"])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_normalised_rule_adds_up_to_1_in_the_same_proportions(name, axis):
    stack = [np.moveaxis(values, -1, axis) for values in outputs(3, 5, 4, (2, 6), "probabilities")]
    more = {"name": name, "trim": 0.2 if name == "trimmed" else None}
    ours = members([None] * 5)
    plain = make_rule(RuleSpec(**more), ours, ENSEMBLE, axis=axis)(stack).astype(np.float64)
    got = make_rule(RuleSpec(**more, normalize=True), ours, ENSEMBLE, axis=axis)(stack)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, plain / plain.sum(axis, keepdims=True), rtol=1e-6)


def test_where_nothing_is_left_no_class_is_likelier():
    """The least of members that contradict one another is 0 throughout."""
    stack = [np.array([[1, 0, 0, 0]], "f4"), np.array([[0, 0, 1, 0]], "f4")]
    rule = make_rule(RuleSpec(name="min", normalize=True), members([None] * 2))
    assert (rule(stack) == 0.25).all()


def test_what_is_negative_is_no_probability():
    rule = make_rule(RuleSpec(name="min", normalize=True), members([None]))
    with pytest.raises(RuleError, match=r"the rule gives -0\.1, and a probability is not negative"):
        rule([np.array([[1.1, -0.1]], "f4")])


@pytest.mark.parametrize("name", ["vote", "geometric"])
def test_rules_that_choose_between_classes_are_not_for_labels(name):
    with pytest.raises(UsageError, match="exclude one another, and the task is multilabel"):
        combining_space(RuleSpec(name=name), members([None]), "multilabel")
