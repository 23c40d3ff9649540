"""What a result holds of a segment: every dataset against a plain float64 computation, in every dtype."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import entr, logsumexp
from scipy.special import softmax as scipy_softmax
from support.outputs import CLASSES, EVERYTHING, members, outputs
from support.project import ENSEMBLE

from hpcens.checks import members as judging
from hpcens.checks.preflight import Preflight
from hpcens.checks.trials import TrialBook
from hpcens.combining.combiner import Combiner
from hpcens.combining.digests import rule_digests
from hpcens.combining.rule_process import try_rule
from hpcens.dataset import Facts, Routed
from hpcens.errors import FAILURE, USAGE, DataError, HpcensError, MemberError, RuleError, UsageError
from hpcens.result.outputs import Output, encoded, outputs_of
from hpcens.specs import Job, OutputSpec, RuleSpec, RunSpec
from hpcens.usercode.imported import Imported


def spec(rule="mean", datasets=EVERYTHING, count=3, counting=None, space="probabilities", dtype="float32", **more):
    return RunSpec(
        members=tuple(members(counting or [None] * count, space)),
        rule=RuleSpec(name=rule, **more),
        output=OutputSpec(datasets=datasets, dtype=dtype),
        class_axis=-1,
        search_path=ENSEMBLE,
    )


def combiner(made, shape, space="probabilities"):
    return Combiner(made, space, outputs_of(made, shape, space), rule_digests(made, space))


def combined(stack, made, space="probabilities"):
    values = combiner(made, stack.shape[2:], space).combine(7, list(stack))
    for output in outputs_of(made, stack.shape[2:], space):
        assert values[output.name].dtype == np.dtype(output.dtype)
        assert values[output.name].shape == (stack.shape[1], *output.shape)
    return values


@settings(deadline=None)
@given(st.data())
def test_uncertainty_is_what_float64_gives(data):
    space = data.draw(st.sampled_from(["probabilities", "logits"]))
    shape, count = data.draw(st.sampled_from(CLASSES)), data.draw(st.integers(1, 6))
    weights = data.draw(st.none() | st.lists(st.floats(0.1, 5), min_size=count, max_size=count))
    stack = outputs(data.draw(st.integers(0, 2**32)), count, 3, shape, space)
    rule = "weighted" if weights else data.draw(st.sampled_from(["mean", "median", "vote", "max"]))
    got = combined(stack, spec(rule, count=count, counting=weights, space=space), space)
    exact = stack.astype(np.float64)
    p = scipy_softmax(exact, -1) if space == "logits" else exact
    mixture = np.average(p, axis=0, weights=weights)
    entropy, expected = entr(mixture).sum(-1), np.average(entr(p).sum(-1), axis=0, weights=weights)
    close = dict(rtol=0, atol=2e-6)
    np.testing.assert_allclose(got["entropy"], entropy, **close)
    np.testing.assert_allclose(got["expected_entropy"], expected, **close)
    np.testing.assert_allclose(got["mutual_information"], np.maximum(entropy - expected, 0), **close)
    np.testing.assert_allclose(got["variance"], exact.var(0), rtol=2e-6, atol=1e-12)
    label = got["prediction"].argmax(-1)
    assert (got["label"] == label).all() and (got["top_labels"][..., 0] == label).all()
    np.testing.assert_allclose(got["disagreement"], (stack.argmax(-1) != label).mean(0), atol=1e-7)
    assert all((got[f"members/m{i}"] == stack[i]).all() for i in range(count))
    assert (got["top_values"] == np.sort(got["prediction"], -1)[..., :-3:-1]).all()


def test_members_that_are_sure_of_one_class_have_no_entropy_and_no_mutual_information():
    stack = np.zeros((3, 2, 4), np.float32)
    stack[..., 1] = 1
    got = combined(stack, spec())
    for name in ("variance", "entropy", "expected_entropy", "mutual_information", "disagreement"):
        assert not got[name].any()
    stack[2, :, 1], stack[2, :, 3] = 0, 1
    got = combined(stack, spec())
    assert np.allclose(got["mutual_information"], np.log(3) - 2 / 3 * np.log(2)) and not got["expected_entropy"].any()
    assert np.allclose(got["disagreement"], 1 / 3)


def test_values_have_a_variance_and_no_classes():
    stack = outputs(1, 4, 6, (2, 5), "values")
    got = combined(stack, spec("median", ("prediction", "variance", "members"), 4, space="values"), "values")
    assert (got["prediction"] == np.median(stack, 0)).all()
    np.testing.assert_allclose(got["variance"], stack.var(0, dtype=np.float64), rtol=2e-6)


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize(
    ("rule", "datasets"),
    [
        ("mean", ("label",)),
        ("mean", ("entropy",)),
        ("mean", ("top-1",)),
        ("vote", ("members",)),
        ("geometric", EVERYTHING),
    ],
)
def test_what_needs_classes_is_refused_where_there_are_none(rule, datasets, shape):
    with pytest.raises(UsageError, match="there are no classes to tell apart"):
        outputs_of(spec(rule, datasets), shape, "probabilities")


def test_more_than_all_classes_are_refused():
    with pytest.raises(UsageError, match="top-5: the members give 4 classes"):
        outputs_of(spec(datasets=("top-5",)), (4,), "probabilities")


# Fewer bytes


@given(st.integers(0, 2**32))
def test_float16_and_uint8_round_to_nearest(seed):
    stack = outputs(seed, 3, 4, (5,), "probabilities")
    exact = combined(stack, spec())
    half, byte = combined(stack, spec(dtype="float16")), combined(stack, spec(dtype="uint8"))
    for name in ("prediction", "top_values", "members/m1"):
        assert np.abs(half[name] - exact[name]).max() <= 2**-11
        assert np.abs(byte[name] / 255 - exact[name]).max() <= 0.5 / 255 + 1e-7
    for name in ("label", "variance", "entropy", "top_labels"):
        assert half[name].tobytes() == byte[name].tobytes() == exact[name].tobytes()


def test_what_does_not_fit_the_dtype_is_an_error_that_names_the_segment():
    stack = np.full((3, 2, 4), 70000, np.float32)
    with pytest.raises(DataError, match=r"segment 7: prediction holds ±70000, beyond float16"):
        combined(stack, spec(datasets=("prediction",), space="values", dtype="float16"), "values")
    huge = np.array([[[1e25]], [[-1e25]], [[0]]], np.float32)
    with pytest.raises(DataError, match=r"segment 7: variance holds ±6.66667e\+49, beyond float32"):
        combined(huge, spec(datasets=("variance",), space="values"), "values")
    with pytest.raises(DataError, match=r"segment 7: prediction holds 1.5 … 1.5, but uint8"):
        combined(np.full((3, 2, 4), 1.5, np.float32), spec(datasets=("prediction",), dtype="uint8"))
    output = outputs_of(spec(datasets=("prediction",), dtype="float16"), (4,), "values")[0]
    assert encoded(np.float32([65504]), output).tolist() == [65504]


def test_an_output_says_what_it_is():
    told = {output.name: output for output in outputs_of(spec(dtype="uint8"), (2, 4), "probabilities")}
    assert told["prediction"].attributes["scale"] == 1 / 255 and told["prediction"].class_axis == 2
    assert told["prediction"].attributes["space"] == "probabilities"
    assert told["entropy"].attributes["units"] == "nat" and told["entropy"].shape == (2,)
    assert told["label"].class_axis is None and told["members/m2"].attributes["description"] == "output of member m2"


# Rules of the user's own


def test_a_rule_that_fails_names_the_segment():
    with pytest.raises(RuleError, match="segment 7: rule rules:raising raised ValueError"):
        combined(outputs(0, 3, 2, (4,), "values"), spec("rules:raising", ("prediction",)))


@pytest.mark.parametrize("name", ["raising", "leaving", "short", "text", "nan"])
def test_a_rule_that_cannot_work_fails_before_the_first_batch(name):
    with pytest.raises(RuleError, match=f"rule rules:{name}"):
        combiner(spec(f"rules:{name}", ("prediction",)), (4,)).try_out((4,))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
@pytest.mark.parametrize("space", ["probabilities", "logits", "values"])
def test_a_rule_that_works_passes_its_trial(shape, space):
    combiner(spec("rules:mean", ("prediction",)), shape, space).try_out(shape)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raising", "rule rules:raising raised ValueError: no such rule of mine"),
        ("killing", "rule rules:killing ended its process with exit code 9"),
        ("hanging", "rule rules:hanging did not combine three rows within 3 s"),
    ],
)
def test_a_rule_is_rehearsed_in_a_process_of_its_own(name, says):
    made = spec(f"rules:{name}", ("prediction",))
    with pytest.raises(RuleError, match=says):
        try_rule(made, "values", rule_digests(made, "values"), (4,), 3.0 if name == "hanging" else 60.0)


@pytest.mark.parametrize(
    ("path", "exit_code"),
    [("nothing", USAGE), ("not_callable", USAGE), ("raising", FAILURE)],
)
def test_what_the_configuration_misnames_of_a_rule_is_the_configurations_fault(path, exit_code):
    made = spec(f"rules:{path}", ("prediction",))
    with pytest.raises(RuleError) as refused:
        try_rule(made, "values", rule_digests(made, "values"), (4,))
    assert refused.value.exit_code == exit_code


@pytest.mark.parametrize(
    ("factory", "arguments"), [("nets:Nothing", {}), ("nowhere:Net", {}), ("nets:Stacker", {"depths": 3})]
)
def test_what_the_configuration_misnames_of_a_stack_rule_is_its_fault(stacker, factory, arguments):
    made = spec("stack", factory=factory, weights=stacker[0], arguments=arguments)
    with pytest.raises(HpcensError) as refused:
        try_rule(made, "probabilities", rule_digests(made, "probabilities"), (4,))
    assert refused.value.exit_code == USAGE


@pytest.mark.parametrize("name", ["mean", "leaving_a_thread"])
def test_a_rule_that_prints_or_leaves_a_thread_passes_its_rehearsal(name, capfd):
    made = spec(f"rules:{name}", ("prediction",))
    try_rule(made, "values", rule_digests(made, "values"), (4,))
    assert capfd.readouterr() == ("", "")


def test_a_rehearsal_that_was_passed_is_not_repeated_for_the_same_rule_and_shape(tmp_path, monkeypatch):
    rehearsed = []

    def rehearse(made, space, digests, shape, *, sets):
        rehearsed.append((digests, shape))
        return Imported()

    monkeypatch.setattr(judging, "try_rule", rehearse)
    book = TrialBook(tmp_path)
    made = spec("rules:mean", ("prediction",))
    job = Job(datasets=(), output=tmp_path, spec=made)
    for code, shape in [("1", (4,)), ("1", (4,)), ("2", (4,)), ("2", (5,)), ("2", (5,))]:
        judging.check_rule(job, Preflight(Facts(1, (), {}), {}, {"code": code}, "values"), shape, book)
    assert rehearsed == [({"code": "1"}, (4,)), ({"code": "2"}, (4,)), ({"code": "2"}, (5,))]
    fewer = Facts(1, (), {}, routed=Routed({}, {}, (("m0",), ("m0", "m1"))))
    judging.check_rule(job, Preflight(fewer, {}, {"code": "2"}, "values"), (5,), book)
    assert len(rehearsed) == 4, "it is tried on each set of members"


@pytest.fixture(scope="module")
def stacker(tmp_path_factory):
    """Weights of nets.Stacker for three members of four classes."""
    import sys

    import torch
    from safetensors.torch import save_file

    sys.path.insert(0, str(ENSEMBLE))
    import nets

    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("stacker") / "stacker.safetensors"
    module = nets.Stacker()
    save_file(module.state_dict(), path)
    return path, module


@pytest.mark.parametrize("rows", [1, 255, 256, 600])
def test_a_stack_is_a_torch_module_fed_with_the_members_outputs(stacker, rows):
    import torch

    path, module = stacker
    stack = outputs(0, 3, rows, (4,), "probabilities")
    made = spec("stack", ("prediction",), factory="nets:Stacker", weights=path)
    got = combined(stack, made)["prediction"]
    with torch.inference_mode():
        logits = module.double()(torch.from_numpy(stack.swapaxes(0, 1).copy()).double()).numpy()
    module.float()
    assert np.abs(got - np.exp(logits - logsumexp(logits, -1, keepdims=True))).max() < 1e-6
    assert got.tobytes() == combined(stack, made)["prediction"].tobytes()


@pytest.mark.parametrize(
    ("factory", "arguments", "error", "says"),
    [
        ("nets:Stacker", {"classes": 2}, MemberError, "of rule stack: .* does not fit nets:Stacker"),
        ("nets:Gone", {}, MemberError, "of rule stack: cannot import nets:Gone"),
        ("nets:FlatStacker", {}, RuleError, r"rule stack: nets:FlatStacker gave \[3, 12\] for members of \[3, 4\]"),
    ],
)
def test_a_stack_that_cannot_work_fails_before_the_first_batch(stacker, factory, arguments, error, says):
    made = spec("stack", ("prediction",), factory=factory, weights=stacker[0], arguments=arguments)
    with pytest.raises(error, match=says):
        combiner(made, (4,)).try_out((4,))


def test_what_makes_a_rule_is_in_its_digests(stacker):
    made = spec("stack", factory="nets:Stacker", weights=stacker[0])
    digests = rule_digests(made, "probabilities")
    assert len(digests["weights"]) == 64 and digests["output"] == "logits" and digests["torch"]
    assert rule_digests(spec("rules:mean"), "values").keys() == {"code"} and rule_digests(spec("vote"), "values") == {}
    with pytest.raises(RuleError, match="there is no module 'nowhere'") as refused:
        rule_digests(spec("nowhere:f"), "values")
    assert refused.value.exit_code == USAGE and isinstance(refused.value, UsageError)
    with pytest.raises(MemberError, match="No such file"):
        rule_digests(spec("stack", factory="nets:Stacker", weights=stacker[0].with_name("gone")), "values")


class TestWhoIsPresent:
    """Rows of one set of members are combined as if the ensemble were those members."""

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_each_row_is_combined_as_by_an_ensemble_of_its_members(self, data):
        space = data.draw(st.sampled_from(["probabilities", "logits"]))
        rules = ["mean", "weighted", "median", "trimmed", "max", "rules:by_name"]
        rule = data.draw(st.sampled_from(rules + ["geometric"] * (space == "probabilities")))
        counting = [0.5, 2.0, 1.0, 4.0] if rule == "weighted" else None
        more = {"trim": 0.3} if rule == "trimmed" else {}
        stack = outputs(data.draw(st.integers(0, 2**32)), 4, 9, (3,), space)
        sets = data.draw(st.lists(st.integers(0, 15), min_size=9, max_size=9))
        present = np.array([[bool(s >> m & 1) for m in range(4)] for s in sets])
        masked = np.flatnonzero(~present.any(1)).tolist()
        made = spec(rule, count=4, counting=counting, space=space, **more)
        routed = [*outputs_of(made, (3,), space), Output("present", (4,), "|u1")]
        seen = np.where(present.T[..., None], stack, np.nan).astype(np.float32)
        whole = Combiner(made, space, routed, rule_digests(made, space))
        got = whole.combine(7, list(seen), masked, present)
        assert (got["present"] == present).all()
        for row, scored in enumerate(present):
            chosen = np.flatnonzero(scored)
            if not len(chosen):
                assert np.isnan(got["prediction"][row]).all() and got["label"][row] == -1
                continue
            alone = replace(made, members=tuple(made.members[m] for m in chosen))
            exact = combined(stack[chosen][:, [row]], alone, space)
            if len(chosen) == 1:
                exact["variance"] = np.full_like(exact["variance"], np.nan)
                assert exact["mutual_information"] == 0 and not got["disagreement"][row].any()
            for name in ("prediction", "label", "top_labels", "top_values", "variance", "entropy", "expected_entropy"):
                assert got[name][row].tobytes() == exact[name][0].tobytes(), name

    def test_a_segment_of_which_no_row_has_a_member_is_blank(self):
        made = spec(count=2)
        whole = combiner(made, (3,))
        blank = np.full((2, 3, 3), np.nan, np.float32)
        got = whole.combine(0, list(blank), [0, 1, 2], np.zeros((3, 2), bool))
        assert np.isnan(got["prediction"]).all() and (got["label"] == -1).all()

    def test_what_is_no_probability_keeps_its_numbers_in_uint8(self, monkeypatch):
        """Story: flags of 0 and 1 came out as 255, as if they were probabilities."""
        made = spec(count=2)
        monkeypatch.setattr(
            Combiner, "_values", lambda self, stack, passes: {"flags": np.ones((len(stack[0]), 3), np.uint8)}
        )
        whole = Combiner(made, "probabilities", [Output("flags", (3,), "|u1")], {})
        got = whole.combine(0, list(np.zeros((2, 4, 3), np.float32)), [3], np.array([[1, 0], [0, 1], [1, 1], [0, 0]]))
        assert got["flags"].tolist() == [[1] * 3] * 3 + [[0] * 3]
