"""Rules against a plain float64 computation, in every space and shape; what they may not depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.outputs import CLASSES, members, outputs
from support.project import ENSEMBLE

from hpcens.errors import RuleError, UsageError
from hpcens.rules import combining_space, make_rule
from hpcens.rules.stack import label, top
from hpcens.specs import RuleSpec
from hpcens.usercode import code_digest

EPS = np.finfo(np.float32).eps
SHAPES = [(), (1,), (4,), (5, 3), (2, 3, 4)]


@st.composite
def stacks(draw, spaces=("probabilities", "logits", "values"), shapes=SHAPES):
    space = draw(st.sampled_from(spaces))
    shape = draw(st.sampled_from([s for s in shapes if space == "values" or s in CLASSES]))
    seed, count, rows = draw(st.integers(0, 2**32)), draw(st.integers(1, 7)), draw(st.integers(1, 5))
    return outputs(seed, count, rows, shape, space)


def combine(stack, rule="mean", weights=None, **more):
    got = make_rule(RuleSpec(name=rule, **more), members(weights or [None] * len(stack)))(list(stack))
    assert got.dtype == np.float32 and got.shape == stack.shape[1:]
    return got


def geometric(stack):
    pooled = np.exp(np.log(np.maximum(stack, np.finfo(np.float32).smallest_subnormal)).mean(0))
    return pooled / pooled.sum(-1, keepdims=True)


def votes(stack):
    return np.eye(stack.shape[-1])[stack.argmax(-1)].mean(0)


PLAIN = {
    "mean": lambda stack: stack.mean(0),
    "geometric": geometric,
    "vote": votes,
    "median": lambda stack: np.median(stack, 0),
    "min": lambda stack: stack.min(0),
    "max": lambda stack: stack.max(0),
}
SPACES = {"geometric": ("probabilities",), "vote": ("probabilities", "logits")}


@pytest.mark.parametrize("rule", PLAIN)
@given(data=st.data())
def test_a_rule_is_what_float64_gives(rule, data):
    stack = data.draw(stacks(SPACES.get(rule, ("probabilities", "logits", "values"))))
    expected = PLAIN[rule](stack.astype(np.float64))
    assert np.abs(combine(stack, rule) - expected).max() <= EPS * max(1, np.abs(expected).max())


@given(stacks(), st.data())
def test_weighted(stack, data):
    weights = [data.draw(st.floats(0.01, 3)) for _ in stack]
    expected = np.average(stack.astype(np.float64), axis=0, weights=weights)
    assert np.abs(combine(stack, "weighted", weights) - expected).max() <= EPS * max(1, np.abs(expected).max())


@given(stacks(), st.floats(0.01, 0.49))
def test_trimmed(stack, trim):
    expected = stats.trim_mean(stack.astype(np.float64), trim, axis=0)
    assert np.abs(combine(stack, "trimmed", trim=trim) - expected).max() <= EPS * max(1, np.abs(expected).max())


@given(stacks(("probabilities",)), st.integers(0, 2**32))
def test_a_rule_does_not_know_the_members_order(stack, seed):
    """To the bit where no sum is taken; where one is, to its rounding."""
    shuffled = stack[np.random.default_rng(seed).permutation(len(stack))]
    for rule in ("vote", "median", "min", "max"):
        assert combine(stack, rule).tobytes() == combine(shuffled, rule).tobytes()
    for rule in ("mean", "geometric"):
        assert np.abs(combine(stack, rule) - combine(shuffled, rule)).max() <= EPS
    assert combine(stack, "trimmed", trim=0.3).tobytes() == combine(shuffled, "trimmed", trim=0.3).tobytes()


@given(stacks(("probabilities",), CLASSES))
def test_members_that_agree_are_the_ensemble(stack):
    alike = np.broadcast_to(stack[:1], stack.shape)
    for rule in ("mean", "median", "min", "max"):
        assert (combine(alike, rule) == stack[0]).all()
    assert np.abs(combine(alike, "geometric") - stack[0]).max() <= 4 * EPS
    assert (label(combine(alike, "vote")) == label(stack[0])).all()


def test_a_tied_vote_goes_to_the_lowest_class():
    stack = np.array([[[0, 1, 0]], [[0, 0, 1]]], "f4")
    assert label(combine(stack, "vote")).tolist() == [1]
    assert label(combine(np.array([[[0.5, 0.5, 0]]], "f4"), "vote")).tolist() == [0]


@given(stacks(("probabilities",), CLASSES))
def test_geometric_is_normalised_and_knows_no_veto_of_zero(stack):
    stack[0, ..., 0] = 0
    got = combine(stack, "geometric")
    assert np.isfinite(got).all() and np.abs(got.sum(-1, dtype=np.float64) - 1).max() < 1e-6
    zeros = np.array([[[1, 0]], [[0, 1]]], "f4")
    assert combine(zeros, "geometric").tolist() == [[0.5, 0.5]]


@given(stacks(shapes=CLASSES), st.integers(1, 3))
def test_the_top_begins_with_the_label_and_ties_go_by_index(stack, count):
    prediction = np.round(stack[0], 0)
    labels, values = top(prediction, count)
    assert (labels[..., 0] == label(prediction)).all() and labels.dtype == np.int32
    for row in np.ndindex(prediction.shape[:-1]):
        order = sorted(range(prediction.shape[-1]), key=lambda k: (-prediction[row][k], k))[:count]
        assert labels[row].tolist() == order
        assert values[row].tolist() == [prediction[row][k] for k in order]


def test_spaces_that_cannot_be_combined_are_refused():
    mixed = [*members([None], "values"), *members([None], "logits")]
    with pytest.raises(UsageError, match=r"m0 \(values\)"):
        combining_space(RuleSpec(), mixed)
    with pytest.raises(UsageError, match="combines logits"):
        combining_space(RuleSpec(space="logits"), members([None]))
    with pytest.raises(UsageError, match="rule vote combines logits or probabilities, not values"):
        combining_space(RuleSpec(name="vote"), members([None], "values"))
    with pytest.raises(UsageError, match="rule geometric combines probabilities, not logits"):
        combining_space(RuleSpec(name="geometric", space="logits"), members([None], "logits"))
    assert combining_space(RuleSpec(), members([None], "values")) == "values"
    assert combining_space(RuleSpec(), members([None], "logits")) == "probabilities"


# Rules of the user's own


def own(name, count=3, code=None):
    return make_rule(RuleSpec(name=f"rules:{name}"), members([None] * count), ENSEMBLE, code)


@given(stacks(shapes=[(4,)], spaces=("values",)))
def test_a_function_is_given_a_copy_and_its_output_is_rounded_once(stack):
    before = stack.tobytes()
    assert own("mean", len(stack))(list(stack)).tobytes() == combine(stack).tobytes()
    own("confident", len(stack))(list(stack))
    assert stack.tobytes() == before


def test_what_a_function_prints_leaves_stdout_alone(capsys):
    own("mean")(list(outputs(0, 3, 2, (4,), "values")))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "combining 3 members\n")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raising", "raised ValueError: no such rule of mine"),
        ("leaving", r"called exit\(3\)"),
        ("short", r"returned float32\[2, 1\] for 3 members of \[2, 4\]"),
        ("text", "returned <U4"),
        ("nan", "returned NaN or infinity"),
    ],
)
def test_a_function_that_misbehaves_is_named(name, says):
    with pytest.raises(RuleError, match=f"rule rules:{name} {says}"):
        own(name)(list(outputs(0, 3, 2, (4,), "values")))


@pytest.mark.parametrize(("name", "says"), [("nothing", "there is no nothing"), ("not_callable", "is not callable")])
def test_a_function_that_is_none_is_told(name, says):
    with pytest.raises(RuleError, match=f"rule rules:{name} cannot be imported: .*{says}"):
        own(name)


def test_a_function_is_pinned_by_the_digest_of_its_module():
    own("mean", code=code_digest("rules:mean", ENSEMBLE))
    with pytest.raises(RuleError, match="changed since the run was checked"):
        own("mean", code="0" * 64)
    assert code_digest("no_such_module:f", ENSEMBLE) is None


def test_every_rule_of_the_house_is_made():
    from typing import get_args

    from hpcens.specs import RuleName

    made = {name for name in get_args(RuleName) if name != "stack"}
    stack = outputs(0, 3, 2, (4,), "probabilities")
    different = {combine(stack, name, weights=[1.0, 2.0, 4.0], trim=0.4).tobytes() for name in made}
    assert len(different) == len(made) - 1  # of three members, the median is what a trimmed mean leaves
    with pytest.raises(UsageError, match="there is no rule"):
        make_rule(RuleSpec(name="nothing"), members([None]))
