"""Every rule and every uncertainty in float64, against numpy's: small differences beside large offsets are kept."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import entr
from scipy.special import softmax as scipy_softmax
from support.outputs import CLASSES, EVERYTHING, members
from support.project import ENSEMBLE

from hpcens.combining.combiner import Combiner
from hpcens.combining.digests import rule_digests
from hpcens.errors import DataError, MemberError, RuleError
from hpcens.result.outputs import outputs_of
from hpcens.rules import make_rule
from hpcens.specs import OutputSpec, RuleSpec, RunSpec

OFFSET, SPREAD = -123456.789, 0.01
EPS = np.finfo(np.float64).eps


def values(seed, count, rows, shape):
    """What members of float64 give: energies whose differences float32 would lose."""
    return np.random.default_rng(seed).normal(OFFSET, SPREAD, (count, rows, *shape))


def probabilities(seed, count, rows, shape, scale=3.0):
    return scipy_softmax(np.random.default_rng(seed).normal(0, scale, (count, rows, *shape)), -1)


def spec(count=3, rule="mean", output="values", dtype="float64", precisions=None, weights=None, datasets=None, **more):
    precisions = precisions or ["float64"] * count
    made = [
        replace(m, precision=p) for m, p in zip(members(weights or [None] * count, output), precisions, strict=True)
    ]
    names = datasets or (("prediction", "members", "variance") if output == "values" else EVERYTHING)
    rule = RuleSpec(name=rule, **more)
    result = OutputSpec(datasets=names, dtype=dtype)
    return RunSpec(members=tuple(made), rule=rule, output=result, class_axis=-1, search_path=ENSEMBLE)


def combined(stack, made, space):
    shape = stack[0].shape[1:]
    outputs = outputs_of(made, shape, space)
    combiner = Combiner(made, space, outputs, rule_digests(made, space))
    combiner.try_out(shape)
    got = combiner.combine(7, list(stack))
    assert {o.name: np.dtype(o.dtype) for o in outputs} == {o.name: got[o.name].dtype for o in outputs}
    return got


def geometric(stack):
    pooled = np.log(np.maximum(stack, np.finfo(np.float64).smallest_subnormal)).mean(0)
    return scipy_softmax(pooled, -1)


RULES = {
    "mean": lambda stack: stack.mean(0),
    "median": lambda stack: np.median(stack, 0),
    "min": lambda stack: stack.min(0),
    "max": lambda stack: stack.max(0),
    "trimmed": lambda stack: stats.trim_mean(stack, 0.3, axis=0),
    "weighted": lambda stack: np.average(stack, axis=0, weights=np.arange(1.0, 1 + len(stack))),
    "rules:mean": lambda stack: stack.mean(0),
    "vote": lambda stack: np.eye(stack.shape[-1])[stack.argmax(-1)].mean(0),
    "geometric": geometric,
}


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_rule_is_numpys(rule, data):
    count, rows = data.draw(st.integers(4, 7)), data.draw(st.integers(1, 5))
    seed = data.draw(st.integers(0, 2**32))
    if rule in ("vote", "geometric"):
        space, stack = "probabilities", probabilities(seed, count, rows, data.draw(st.sampled_from(CLASSES)))
    else:
        space, stack = "values", values(seed, count, rows, data.draw(st.sampled_from([(), (1,), (4,), (2, 3)])))
    weights = [float(w) for w in range(1, 1 + count)] if rule == "weighted" else None
    more = {"trim": 0.3} if rule == "trimmed" else {}
    got = combined(stack, spec(count, rule, space, weights=weights, **more), space)
    wanted = RULES[rule](stack)
    assert got["prediction"].dtype == np.float64
    # a sum is rounded once a member; a logarithm and an exponential more often
    slack = (64 if rule == "geometric" else 2 * count) * EPS
    assert np.abs(got["prediction"] - wanted).max() <= slack * np.abs(wanted).max()
    assert all((got[f"members/m{i}"] == stack[i]).all() for i in range(count))
    if space == "values":
        np.testing.assert_allclose(got["variance"], stack.var(0), rtol=1e-7)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_an_uncertainty_is_numpys(data):
    output = data.draw(st.sampled_from(["probabilities", "logits"]))
    shape, count = data.draw(st.sampled_from(CLASSES)), data.draw(st.integers(1, 6))
    weights = data.draw(st.none() | st.lists(st.floats(0.1, 5), min_size=count, max_size=count))
    seed = data.draw(st.integers(0, 2**32))
    p = probabilities(seed, count, 3, shape)
    stack = np.random.default_rng(seed).normal(1e5, 3, p.shape) if output == "logits" else p
    p = scipy_softmax(stack, -1) if output == "logits" else p
    made = spec(count, "weighted" if weights else "mean", output, weights=weights)
    got = combined(stack, replace(made, rule=replace(made.rule, space=output)), output)
    mixture = np.average(p, axis=0, weights=weights)
    entropy, expected = entr(mixture).sum(-1), np.average(entr(p).sum(-1), axis=0, weights=weights)
    close = {"rtol": 0, "atol": 1e-13}
    np.testing.assert_allclose(got["entropy"], entropy, **close)
    np.testing.assert_allclose(got["expected_entropy"], expected, **close)
    np.testing.assert_allclose(got["mutual_information"], np.maximum(entropy - expected, 0), **close)
    np.testing.assert_allclose(got["variance"], stack.var(0), rtol=1e-9, atol=1e-25)
    label = got["prediction"].argmax(-1)
    np.testing.assert_allclose(got["disagreement"], (stack.argmax(-1) != label).mean(0), **close)
    assert (got["label"] == label).all() and (got["top_labels"][..., 0] == label).all()
    assert (got["top_values"] == np.sort(got["prediction"], -1)[..., :-3:-1]).all()


def test_a_spread_beside_a_large_offset_is_what_it_is():
    stack = values(0, 5, 1000, ())
    narrow = stack.astype(np.float32)
    got = combined(stack, spec(5), "values")["variance"]
    np.testing.assert_allclose(got, stack.var(0), rtol=1e-8)
    assert np.abs(got.mean() / (SPREAD**2 * 0.8) - 1) < 0.05
    lost = combined(narrow, spec(5, precisions=[None] * 5, dtype="float32"), "values")["variance"]
    assert np.abs(lost / got - 1).max() > 0.15, "what float32 outputs make of it, whatever the variance is taken in"


def test_a_probability_that_float32_could_not_hold_is_no_zero():
    stack = np.array([[[1e-60, 1 - 1e-60]], [[1e-60, 1 - 1e-60]]])
    got = combined(stack, spec(2, "geometric", "probabilities", datasets=("prediction",)), "probabilities")
    np.testing.assert_allclose(got["prediction"], stack[0], rtol=1e-12)


MIXED = ["float64", None, "bfloat16"]


def mixed():
    stack = values(1, 3, 8, (4,))
    return [stack[0], *(narrow.astype(np.float32) for narrow in stack[1:])]


@pytest.mark.parametrize("rule", ["mean", "median", "max", "trimmed", "rules:mean", "rules:confident"])
def test_members_of_float32_beside_one_of_float64_are_what_they_gave(rule):
    stack = mixed()
    more = {"trim": 0.34} if rule == "trimmed" else {}
    got = combined(stack, spec(3, rule, precisions=MIXED, **more), "values")
    wide = np.stack([x.astype(np.float64) for x in stack])
    if rule != "rules:confident":
        plain = RULES["median" if rule == "trimmed" else rule]
        np.testing.assert_allclose(got["prediction"], plain(wide), rtol=1e-15)
    np.testing.assert_allclose(got["variance"], wide.var(0), rtol=1e-8)
    # as a result stores them, all in float64: combining again gives the same bytes
    again = combined(wide, spec(3, rule, precisions=MIXED, **more), "values")
    assert all(again[name].tobytes() == array.tobytes() for name, array in got.items())


def test_a_rule_of_the_users_own_is_given_what_members_gave():
    seen = []

    def rule(stack, names):
        seen.append(stack.dtype)
        return stack[0]

    made = make_rule(RuleSpec(name="mean"), members([None]), dtype="float64")
    assert made([np.float32([[0.1]])]).dtype == np.float64
    for precisions, dtype in ((MIXED, np.float64), ([None] * 3, np.float32)):
        combiner = Combiner(spec(3, precisions=precisions), "values", (), {})
        combiner._rule = lambda stack: rule(np.stack(stack), ())
        combiner.try_out((4,))
        assert seen.pop() == dtype


def test_a_result_may_hold_less_than_members_give():
    stack = values(2, 3, 20, (4,))
    got = combined(stack, spec(dtype="float32"), "values")
    assert (got["prediction"] == RULES["mean"](stack).astype(np.float32)).all()
    assert got["variance"].dtype == np.float32
    np.testing.assert_allclose(got["variance"], stack.var(0), rtol=1e-6)
    with pytest.raises(DataError, match=r"segment 7: prediction holds ±1e\+200, beyond float32 .*") as caught:
        combined(np.full((3, 2, 4), 1e200), spec(dtype="float32", datasets=("prediction",)), "values")
    assert "float64" in caught.value.remedy


def test_a_result_may_hold_more_than_members_give():
    stack = [x.astype(np.float32) for x in values(2, 3, 20, (4,))]
    got = combined(stack, spec(precisions=[None] * 3), "values")
    wide = np.stack(stack).astype(np.float64)
    np.testing.assert_allclose(got["prediction"], wide.mean(0), rtol=1e-15)
    assert (got["prediction"] != wide.mean(0).astype(np.float32)).any()
    np.testing.assert_allclose(got["variance"], wide.var(0), rtol=1e-8)


# A stack


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stacks.py").write_text(
        "import torch\n\n\nclass Flat(torch.nn.Linear):\n"
        "    def __init__(self, dtype='float32'):\n"
        "        super().__init__(12, 4, dtype=getattr(torch, dtype))\n\n"
        "    def forward(self, x):\n"
        "        return super().forward(x.flatten(1))\n"
    )
    yield tmp_path
    sys.modules.pop("stacks", None)


def stacked(folder, built, precision=None, **more):
    """A stack whose factory builds a module of this dtype."""
    torch.manual_seed(1)
    module = torch.nn.Linear(12, 4, dtype=getattr(torch, built))
    torch.save(module.state_dict(), folder / "stack.pt")
    rule = RuleSpec(
        name="stack",
        factory="stacks:Flat",
        arguments={"dtype": built},
        weights=folder / "stack.pt",
        precision=precision,
    )
    return replace(spec(**more), rule=rule, search_path=folder), module


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stack_computes_in_float64_where_outputs_are_combined_in_it(folder, dtype):
    made, module = stacked(folder, dtype)
    stack = values(3, 3, 300, (4,))
    got = combined(stack, made, "values")["prediction"]
    with torch.inference_mode():
        wanted = module.double()(torch.from_numpy(stack.swapaxes(0, 1).reshape(300, 12).copy())).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-14)
    assert rule_digests(made, "values")["precision"] == "float64"


def test_a_stack_of_float64_beside_members_of_float32_says_so(folder):
    more = {"precisions": [None] * 3, "dtype": "float32", "datasets": ("prediction",)}
    stack = [x.astype(np.float32) for x in values(3, 3, 9, (4,))]
    made, module = stacked(folder, "float64", **more)
    with pytest.raises(MemberError, match="member of rule stack holds float64") as caught:
        combined(stack, made, "values")
    assert "precision: float64" in caught.value.remedy
    for precision in ("float64", "float32"):
        made, module = stacked(folder, "float64", precision, **more)
        got = combined(stack, made, "values")["prediction"]
        x = torch.from_numpy(np.stack(stack, 1).reshape(9, 12)).to(getattr(torch, precision))
        with torch.inference_mode():
            wanted = module.to(x.dtype)(x).numpy().astype(np.float32)
        np.testing.assert_allclose(got, wanted, rtol=1e-7)
        assert rule_digests(made, "values")["precision"] == precision


def test_rules_that_fail_are_named_as_before():
    with pytest.raises(RuleError, match="returned NaN or infinity"):
        combined(values(0, 3, 4, (4,)), spec(rule="rules:nan_in_earnest", datasets=("prediction",)), "values")
