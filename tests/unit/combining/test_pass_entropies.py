"""Entropies of members with passes: their passes count as members do, in everything that is stored and combined."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import entr
from support.outputs import EVERYTHING, members

from hpcens.combining.combiner import Combiner
from hpcens.errors import UsageError
from hpcens.result.outputs import outputs_of, pass_entropies
from hpcens.specs import OutputSpec, PassesSpec, RuleSpec, RunSpec

ROWS, CLASSES, COUNT = 7, 3, 5
WEIGHTS = (0.5, 2.0, 1.0)


def ensemble(*drawn, weights=WEIGHTS, **more):
    """Three members, of which those of these places have passes."""
    three = members(weights, "probabilities")
    passes = PassesSpec(count=COUNT)
    return RunSpec(
        members=tuple(replace(m, passes=passes) if i in drawn else m for i, m in enumerate(three)),
        rule=RuleSpec(name="weighted"),
        task="multiclass",
        output=OutputSpec(datasets=EVERYTHING),
        **more,
    )


@pytest.fixture
def draws():
    """(members, passes, rows, classes) of probabilities; the second member gives the same in each."""
    p = np.random.default_rng(1).dirichlet(np.ones(CLASSES), (3, COUNT, ROWS))
    p[1] = p[1, :1]
    return p


def carried(spec, draws):
    """The stack, and what is carried of whom."""
    stack = list(draws.mean(1).astype(np.float32))
    entropies = entr(draws).sum(-1).mean(1).astype(np.float32)
    return stack, {m.name: of for m, of in zip(spec.members, entropies, strict=True) if m.passes}


def combined(spec, stack, passes, *args):
    return Combiner(spec, "probabilities", outputs_of(spec, (CLASSES,), "probabilities"), {}).combine(
        0, stack, *args, pass_entropies=passes
    )


def test_every_pass_counts_as_its_share_of_the_member(draws):
    """As if the ensemble were all draws, each with its part of the member's weight."""
    spec = ensemble(0, 1, 2)
    got = combined(spec, *carried(spec, draws))
    every = draws.reshape(3 * COUNT, ROWS, CLASSES)
    weights = np.repeat(np.array(WEIGHTS) / COUNT, COUNT)
    total = entr(np.average(every, 0, weights)).sum(-1)
    expected = np.average(entr(every).sum(-1), 0, weights)
    for name, exact in (("entropy", total), ("expected_entropy", expected), ("mutual_information", total - expected)):
        assert np.abs(got[name] - exact).max() < 1e-6, name


def test_members_without_passes_have_the_entropy_of_their_output(draws):
    some, none = ensemble(0), ensemble()
    stack, passes = carried(some, draws)
    got, plain = combined(some, stack, passes), combined(none, stack, {})
    share = WEIGHTS[0] / sum(WEIGHTS)
    own = entr(draws[0].mean(0)).sum(-1) - entr(draws[0]).sum(-1).mean(0)
    assert np.abs(got["expected_entropy"] - (plain["expected_entropy"] - share * own)).max() < 1e-6
    for name in ("prediction", "entropy", "variance", "disagreement"):
        assert got[name].tobytes() == plain[name].tobytes()
    assert [name for name in got if name not in plain] == [f"pass_entropy/{some.members[0].name}"]


def test_who_alone_has_a_row_still_differs_from_itself_between_its_passes(draws):
    spec = ensemble(0)
    routed = replace(spec, members=tuple(replace(m, rows={"fold": (i,)}) for i, m in enumerate(spec.members)))
    present = np.ones((ROWS, 3), bool)
    present[2, 1:] = present[3, [0, 2]] = False  # row 2 has the first alone, row 3 the second
    present[4] = False
    stack, passes = carried(spec, draws)
    passes = {name: np.where(present[:, 0], of, np.nan).astype(np.float32) for name, of in passes.items()}
    got = combined(routed, stack, passes, [4], present)
    information = entr(draws[0, :, 2].mean(0)).sum() - entr(draws[0, :, 2]).sum(-1).mean()
    assert got["mutual_information"][2] == pytest.approx(information, abs=1e-6) and information > 0.01
    assert got["mutual_information"][3] == 0 and got["disagreement"][2] == 0 and np.isnan(got["variance"][2]).all()
    assert np.isnan(got["mutual_information"][4]) and np.isnan(got["expected_entropy"][4])
    whole = combined(spec, stack, carried(spec, draws)[1])
    assert got["expected_entropy"][5].tobytes() == whole["expected_entropy"][5].tobytes()


def test_a_masked_row_is_blank_in_what_is_carried_too(draws):
    spec = ensemble(0, bad_rows="mask")
    got = combined(spec, *carried(spec, draws), [3])
    name = f"pass_entropy/{spec.members[0].name}"
    assert np.isnan(got[name][3]) and np.isfinite(np.delete(got[name], 3)).all()


@pytest.mark.parametrize(("dtype", "precision", "stored"), [
    ("float32", None, "<f4"), ("uint8", None, "<f4"), ("float64", None, "<f8"), ("float32", "float64", "<f8"),
])  # fmt: skip
def test_what_is_carried_is_stored_beside_the_outputs_of_members(dtype, precision, stored):
    spec = ensemble(0)
    spec = replace(
        spec,
        members=tuple(replace(m, precision=precision) for m in spec.members),
        output=replace(spec.output, dtype=dtype),
    )
    names = [output.name for output in outputs_of(spec, (CLASSES,), "probabilities")]
    first = spec.members[0].name
    assert names.index(f"pass_entropy/{first}") == names.index(f"members/{spec.members[2].name}") + 1
    [output] = pass_entropies(spec, (CLASSES,), "probabilities")
    assert (output.shape, output.dtype, output.attributes["units"]) == ((), stored, "nat")
    assert output.attributes["description"].startswith(f"mean entropy of the 5 passes of member {first}")
    [labels] = pass_entropies(replace(spec, task="multilabel"), (CLASSES,), "probabilities")
    assert labels.shape == (CLASSES,) and labels.class_axis == 1
    assert pass_entropies(ensemble(), (CLASSES,), "probabilities") == ()
    [segmented] = pass_entropies(replace(spec, class_axis=1), (CLASSES, 4, 5), "probabilities")
    assert segmented.shape == (4, 5)


def test_entropies_under_logits_are_refused_by_name():
    spec = ensemble(0)
    with pytest.raises(UsageError, match=r"entropy, .*: member m0 has passes, .* rule\.space is logits"):
        outputs_of(spec, (CLASSES,), "logits")
    plain = replace(spec, output=replace(spec.output, datasets=("prediction", "members")))
    assert len(outputs_of(plain, (CLASSES,), "logits")) == 4
