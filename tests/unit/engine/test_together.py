"""Members that prepare their rows alike compute that once a batch, and give the bits that each gives alone."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import Cpu, Cuda

from hpcens.engine.engine import Engine
from hpcens.errors import MemberError
from hpcens.members import load, member_digests
from hpcens.specs import FeaturesSpec, MemberSpec, RunSpec, StepSpec, WeightsSpec
from hpcens.vocabulary import Bad, Predict

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = """
import torch
from torch import nn

calls = []

class Features(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.wide = nn.Linear(5, 7)

    def forward(self, x):
        calls.append(len(x))
        if (x == 66).any():
            raise ValueError("66")
        return {"wide": self.wide(x).tanh(), "same": x}

def doubled(x):
    calls.append(len(x))
    if (x == 66).any():
        raise ValueError("66")
    return torch.sin(x) * 2

class Net(nn.Module):
    def __init__(self, inputs=7, seed=0, wild=False):
        super().__init__()
        torch.manual_seed(seed)
        self.head, self.wild = nn.Linear(inputs, 3), wild

    def forward(self, x, *more):
        y = self.head(x.relu_() + sum(m.sum() for m in more))  # in place
        return y

class Strange(Net):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        torch.backends.cudnn.deterministic = not torch.backends.cudnn.deterministic
"""
MANY = 40


@pytest.fixture
def models(tmp_path, monkeypatch):
    (tmp_path / "together_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("together_models", None)


def calls():
    made = sys.modules["together_models"].calls
    taken = list(made)
    made.clear()
    return taken


def featured(name, seed, **more):
    made = FeaturesSpec(factory="together_models:Features", arguments={"seed": 3})
    more = {"inputs": ("wide",), "arguments": {"seed": seed}} | more
    return MemberSpec(
        name=name,
        factory="together_models:Net",
        weights=WeightsSpec(),
        output="values",
        features="f",
        featuriser=made,
        **more,
    )


DOUBLED = (StepSpec(call="together_models:doubled"),)


def called(name, seed, steps=DOUBLED, **more):
    more = {"factory": "together_models:Net"} | more
    arguments = {"seed": seed, "inputs": 5}
    return MemberSpec(
        name=name, weights=WeightsSpec(), output="values", arguments=arguments, preprocess=tuple(steps), **more
    )


def engine_of(folder, *members, device=None, batch=8, blank=None):
    engine = Engine((device or Cpu()).hardware, blank)
    for member in members:
        spec = RunSpec(members=(member,), search_path=folder)
        engine.host(member.name, load(member, spec, inputs=("x",), space="values"), batch=batch)
    return engine


def rows(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 5)).astype(np.float32)


def answers(engine, members, x):
    return {a.member: a for a in engine.predict(Predict(0, tuple(m.name for m in members), (x,)))}


def as_bytes(found):
    return {name: answer.values.tobytes() for name, answer in found.items()}


def alone(folder, members, x, **how):
    return {m.name: answers(engine_of(folder, m, **how), (m,), x)[m.name].values.tobytes() for m in members}


@pytest.mark.parametrize("device", [Cpu, Cuda])
@pytest.mark.parametrize("kind", [featured, called])
def test_what_members_share_is_computed_once_a_batch(models, kind, device):
    members = [kind(name, seed) for seed, name in enumerate("abc")]
    engine, x = engine_of(models, *members, device=device()), rows(21)
    calls()
    found = answers(engine, members, x)
    assert calls() == [8, 8, 5]
    assert [*found] == ["a", "b", "c"] and all(answer.seconds > 0 for answer in found.values())
    assert as_bytes(found) == alone(models, members, x)
    calls()
    answers(engine, members[:1], x)
    assert calls() == [8, 8, 5]


def test_a_featuriser_is_loaded_once_for_all_its_members(models):
    members = [featured("a", 0), featured("b", 1), replace(featured("c", 2), inputs=("same",), arguments={"inputs": 5})]
    engine = engine_of(models, *members)
    assert len({id(engine._members[m.name].forward.featuriser) for m in members}) == 1
    assert as_bytes(answers(engine, members, rows(9))) == alone(models, members, rows(9))


FOLDER = []


@pytest.fixture(autouse=True)
def _folder(models):
    """Tell it to properties, whose examples cannot each have a fixture."""
    FOLDER[:] = [models]


@settings(max_examples=MANY, deadline=None)
@given(st.data())
def test_each_gives_the_bits_it_gives_alone(data):
    """Whatever stands beside it, in whatever batches, with rows on which the preparation raises."""
    folder = FOLDER[0]
    count, batch = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 5))
    kinds = data.draw(st.lists(st.sampled_from(["f", "g", "c", "d", "p"]), min_size=1, max_size=5))
    other = FeaturesSpec(factory="together_models:Features", arguments={"seed": 4})
    makers = {
        "f": featured,
        "g": lambda name, seed: replace(featured(name, seed), features="g", featuriser=other),
        "c": called,
        "d": lambda name, seed: called(name, seed, (StepSpec(scale=0.5), StepSpec(call="together_models:doubled"))),
        "p": lambda name, seed: called(name, seed, ()),
    }
    members = [makers[kind](f"{kind}{i}", i) for i, kind in enumerate(kinds)]
    x = rows(count, seed=batch)
    bad = data.draw(st.lists(st.integers(0, count - 1), max_size=3, unique=True))
    x[bad] = 66
    engine = engine_of(folder, *members, batch=batch, blank=(3,))
    together = answers(engine, members, x)
    for member in members:
        own = answers(engine_of(folder, member, batch=batch, blank=(3,)), (member,), x)[member.name]
        assert own.values.tobytes() == together[member.name].values.tobytes()
        assert own.bad == together[member.name].bad


def test_a_row_on_which_the_features_raise_is_bad_for_all_and_looked_for_once(models):
    members = [featured(name, seed) for seed, name in enumerate("abcd")]
    engine, x = engine_of(models, *members, blank=(3,)), rows(16)
    x[5] = 66
    calls()
    found = answers(engine, members, x)
    assert calls() == [8, *[1] * 8, 8, 8]  # the batch, each of its rows, the batch with another in its place; the next
    for answer in found.values():
        assert answer.bad == (Bad("raised", (5,)),) and np.isnan(answer.values[5]).all()
        assert np.isfinite(np.delete(answer.values, 5, 0)).all()
    with pytest.raises(MemberError, match="member a: features f raised ValueError: 66"):
        answers(engine_of(models, *members), members, x)


def test_members_that_do_not_fit_together_run_one_after_another(models):
    """The device runs out where it is asked for the second member's batch beside what is shared."""
    members = [featured(name, seed) for seed, name in enumerate("ab")]
    device = Cpu()
    engine, x = engine_of(models, *members, device=device), rows(16)
    wanted = alone(models, members, x)
    passes, full = engine._members["b"].forward.passes, [True]

    def first_time(module, inputs):
        if full.pop() if full else False:
            device.exhaust()

    passes.register_forward_pre_hook(first_time)
    calls()
    found = answers(engine, members, x)
    assert calls() == [8, 8, 8, 8, 8]
    assert as_bytes(found) == wanted and not engine.ceilings


def test_a_member_that_halves_its_batches_prepares_by_itself(models):
    members = [featured(name, seed) for seed, name in enumerate("abc")]
    engine, x = engine_of(models, *members), rows(16)
    engine._ceilings["b"] = 4
    calls()
    found = answers(engine, members, x)
    assert sorted(calls()) == [4, 4, 4, 4, 8, 8]
    assert found["b"].batch == 4 and found["a"].batch == 8
    assert found["b"].values.tobytes() == alone(models, members[1:2], x, batch=4)["b"]


@pytest.mark.parametrize(
    "other",
    [
        called("b", 1, (StepSpec(scale=2.0), StepSpec(call="together_models:doubled"))),
        called("b", 1, factory="together_models:Strange"),
        called("b", 1, gradients=True),
        called("b", 1, precision="float64"),
    ],
    ids=["steps", "surroundings", "gradients", "precision"],
)
def test_members_that_prepare_otherwise_compute_for_themselves(models, other):
    members = [called("a", 0), other]
    engine, x = engine_of(models, *members), rows(8)
    calls()
    found = answers(engine, members, x)
    assert calls() == [8, 8]
    assert as_bytes(found) == alone(models, members, x)


def test_a_step_that_is_a_cast_is_not_worth_keeping(models):
    assert called("a", 0, ()).preparation == "" and called("a", 0, (StepSpec(cast="float32"),)).preparation == ""
    assert called("a", 0, (StepSpec(scale=2.0),)).preparation != ""


def test_what_a_featuriser_is_made_of_makes_its_members(models):
    plain, scaled = featured("a", 0), featured("a", 0)
    made = replace(scaled.featuriser, preprocess=(StepSpec(scale=2.0),))
    scaled = replace(scaled, featuriser=made)
    before, after = member_digests(plain, models), member_digests(scaled, models)
    assert {key for key in after if after[key] != before.get(key)} == {"features preprocess[0]"}
    assert {key for key in before if key.startswith("features ")} >= {"features code", "features arguments"}
    missing = replace(scaled.featuriser, weights=WeightsSpec(path=models / "nowhere.pt"))
    with pytest.raises(MemberError, match=r"features f: .*nowhere\.pt: No such file") as caught:
        member_digests(replace(scaled, featuriser=missing), models)
    assert caught.value.remedy == "check features.f.weights in the YAML"


@pytest.mark.parametrize(
    ("inputs", "said"), [(("deep",), "takes deep of its features, and they are wide, same"), (("0",), "takes 0 of")]
)
def test_an_output_that_features_do_not_have_is_named(models, inputs, said):
    member = replace(featured("a", 0), inputs=inputs)
    with pytest.raises(MemberError, match=said):
        answers(engine_of(models, member), (member,), rows(4))


def test_the_weights_that_features_load_themselves_are_told(models):
    spec = RunSpec(members=(featured("a", 0),), search_path=models)
    states = []
    for seed in (3, 4):
        made = FeaturesSpec(factory="together_models:Features", arguments={"seed": seed})
        member = replace(featured("a", 0), featuriser=made)
        states.append(load(member, spec, inputs=("x",), space="values").state)
    assert len({*states}) == 2 and torch.is_grad_enabled()
