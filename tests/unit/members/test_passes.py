"""Passes: a member's dropout is switched on, run several times and averaged; the same batch always draws the same."""

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.engines import Calls, Cpu, Cuda, forward, hosting, net, only, rows
from support.fake_cuda import Limited
from torch import nn

from hpcens.errors import UsageError
from hpcens.members import member_digests
from hpcens.members.carried import Carried
from hpcens.result.fingerprint import in_format
from hpcens.runtimes.catalogue import runtimes_for
from hpcens.specs import MemberSpec, PassesSpec, StepSpec
from hpcens.vocabulary import Bad, Part, Predict

pytestmark = pytest.mark.usefixtures("one_thread")
PASSES = PassesSpec(count=4, seed=7)
STOCHASTIC = {"passes": PASSES, "output": "logits"}
TASK = {"task": "multiclass"}


def dropping(share=0.4, classes=3):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Dropout2d(share),
        nn.Flatten(),
        nn.Dropout(share),
        nn.Linear(64, classes),
    ).eval()


def seed_by_hand(name, first, number, seed=7):
    """As the guide says it: whoever wants to draw what hpcens draws."""
    digest = hashlib.sha256(f"{seed}\0{name}\0{first}\0{number}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    np.random.seed(np.frombuffer(digest, "<u4"))
    random.seed(digest)


def draws_by_hand(module, x, name="a", first=0, count=4):
    """The logits of each pass over one batch, with dropout modules alone in train mode."""
    module = module.eval()
    for part in module.modules():
        if isinstance(part, nn.Dropout | nn.Dropout2d):
            part.train()
    outputs = []
    for number in range(count):
        seed_by_hand(name, first, number)
        with torch.inference_mode():
            outputs.append(module(torch.from_numpy(x).float()).numpy())
    return np.stack(outputs)


def softmax(logits):
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def classifying(device, module, batch=8, segment_rows=0, **spec):
    engine = hosting(device, batch, space="probabilities", ensemble=TASK, spec=STOCHASTIC | spec, a=module)
    engine._segment_rows = segment_rows
    return engine


@pytest.mark.parametrize("family", [Cpu, Cuda])
def test_the_mean_and_the_entropies_are_those_of_the_draws(family):
    """In float64, by hand, batch by batch: segment 2 of 21 rows begins with row 42."""
    x = rows(21)
    engine = classifying(family(), dropping(), segment_rows=21)
    values = only(engine, Predict(2, ("a",), (x,))).values
    assert values.shape == (21, 4) and values.dtype == np.float32
    draws = [softmax(draws_by_hand(dropping(), x[i : i + 8], first=42 + i)) for i in range(0, 21, 8)]
    mean = np.concatenate([of.mean(0) for of in draws])
    entropies = np.concatenate([entropy(of).mean(0) for of in draws])
    assert np.abs(values[:, :3] - mean).max() < 1e-7
    assert np.abs(values[:, 3] - entropies).max() < 3e-7
    assert (entropy(mean) - entropies).min() > 1e-3  # it is the draws' own, not that of their mean
    narrow, used = engine.run("a", [torch.from_numpy(x)])
    assert narrow.shape == (21, 3) and used == 8


@pytest.mark.parametrize("family", [Cpu, Cuda])
def test_a_part_of_a_segment_draws_as_the_whole_does(family):
    x = rows(21)
    engine = classifying(family(), dropping(), segment_rows=21)
    whole = only(engine, Predict(2, ("a",), (x,))).values
    part = only(engine, Predict(2, ("a",), (x[8:],), part=Part(8, 21))).values
    assert part.tobytes() == whole[8:].tobytes()


def test_labels_have_an_entropy_each():
    x = rows(5)
    engine = hosting(Cpu(), 8, space="probabilities", ensemble={"task": "multilabel"}, spec=STOCHASTIC, a=dropping())
    values = only(engine, Predict(0, ("a",), (x,))).values
    p = 1 / (1 + np.exp(-draws_by_hand(dropping(), x).astype(np.float64)))
    assert np.abs(values[:, :3] - p.mean(0)).max() < 1e-7
    assert np.abs(values[:, 3:] + (p * np.log(p) + (1 - p) * np.log(1 - p)).mean(0)).max() < 3e-7


@pytest.mark.parametrize(
    ("carried", "shape", "wide", "of_entropies"),
    [
        (Carried(1, False), (4, 5, 6), (5, 5, 6), (5, 6)),
        (Carried(3, False), (5, 6, 4), (5, 6, 5), (5, 6)),
        (Carried(2, True), (5, 4), (5, 8), (5, 4)),
    ],
)
def test_entropies_travel_behind_the_classes(carried, shape, wide, of_entropies):
    assert carried.widened(shape) == wide and carried.narrowed(wide) == shape
    both = np.arange(2 * np.prod(wide)).reshape(2, *wide)
    mean, entropies = carried.parted(both)
    assert mean.shape == (2, *shape) and entropies.shape == (2, *of_entropies)
    together = np.concatenate([mean, entropies.reshape(2, *entropies.shape[1:]) if carried.labels else
                               np.expand_dims(entropies, carried.axis)], carried.axis)  # fmt: skip
    assert (together == both).all()


def test_a_segment_draws_the_same_whatever_was_run_before_it():
    x = rows(21)
    task = Predict(1, ("a",), (x,))
    wanted = only(classifying(Cpu(), dropping(), segment_rows=21), task).values.tobytes()
    late = classifying(Cpu(), dropping(), segment_rows=21)
    for segment in (5, 0, 3):
        only(late, Predict(segment, ("a",), (rows(9, seed=segment),)))
    torch.rand(17), np.random.rand(5), random.random()
    assert only(late, task).values.tobytes() == wanted
    assert only(late, replace(task, segment=2)).values.tobytes() != wanted


def test_another_seed_name_or_count_draws_anew():
    x, task = rows(6), Predict(0, ("a",), (rows(6),))
    values = {
        only(classifying(Cpu(), dropping(), passes=PassesSpec(count=count, seed=seed)), task).values.tobytes()
        for count, seed in ((4, 7), (4, 8), (5, 7))
    }
    named = hosting(Cpu(), 8, space="probabilities", ensemble=TASK, spec=STOCHASTIC, b=dropping())
    values.add(only(named, Predict(0, ("b",), (x,))).values.tobytes())
    assert len(values) == 4


@pytest.mark.parametrize("family", [Cpu, Cuda])
def test_for_want_of_memory_smaller_batches_draw_as_such(family):
    x, device = rows(9), family()
    engine = classifying(device, Limited(dropping(), 4, device.exhaust))
    answer = only(engine, Predict(0, ("a",), (x,)))
    assert answer.batch == 4
    smaller = only(classifying(family(), Limited(dropping()), batch=4), Predict(0, ("a",), (x,)))
    assert answer.values.tobytes() == smaller.values.tobytes()


def test_generators_stand_where_they_stood_and_are_no_surroundings_of_its_own():
    member = forward(dropping(), space="probabilities", ensemble=TASK, **STOCHASTIC)
    engine = classifying(Cpu(), dropping())
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()
    with torch.inference_mode():
        member(torch.from_numpy(rows(20)))
        member.given(torch.from_numpy(rows(20)))
        member.first_look(torch.from_numpy(rows(20)))
    only(engine, Predict(0, ("a",), (rows(20),)))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tobytes(), random.getstate())
    assert engine._members["a"].forward.surroundings.own == {}


def test_no_seed_is_put_off_for_gpus_that_are_not_open(monkeypatch):
    """Story: torch.manual_seed notes a traceback for every kind of GPU: most of the time of a small network."""

    def refused(seed):
        raise AssertionError("no GPU is open")

    engine = classifying(Cpu(), dropping())
    monkeypatch.setattr(torch.cuda, "manual_seed_all", refused)
    only(engine, Predict(0, ("a",), (rows(20),)))


def test_batch_norm_and_the_network_itself_stay_in_eval():
    module = dropping()
    mean = module[1].running_mean.clone()
    engine = classifying(Cpu(), module)
    only(engine, Predict(0, ("a",), (rows(8) + 5,)))
    assert torch.equal(module[1].running_mean, mean)
    assert [type(part).__name__ for part in module.modules() if part.training] == ["Dropout2d", "Dropout"]


def test_each_pass_sees_the_rows_as_they_are():
    """A forward that writes where its input lies does not spoil the next pass, nor a preprocessing run once."""
    x = rows(6)

    def spoiling(module):
        return nn.Sequential(Calls(lambda x: x.mul_(2)), module)

    values = only(classifying(Cpu(), spoiling(dropping())), Predict(0, ("a",), (x,))).values
    doubled = only(classifying(Cpu(), dropping()), Predict(0, ("a",), (2 * x,))).values
    assert values.tobytes() == doubled.tobytes()


def test_a_batch_of_one_row_that_runs_as_two_draws_alike_each_time():
    class Squeezing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = dropping()

        def forward(self, x):
            return self.inner(x).squeeze()

    x = rows(1)
    engine = classifying(Cpu(), Squeezing().eval())
    first, second = (only(engine, Predict(0, ("a",), (x,))).values for _ in range(2))
    assert first.shape == (1, 4) and first.tobytes() == second.tobytes()


def test_draws_may_come_of_numpy_and_python_too():
    noisy = Calls(lambda x: x.flatten(1)[:, :3] * (1 + random.random() + float(np.random.rand())))
    x = rows(4)
    first, second = (only(classifying(Cpu(), noisy), Predict(0, ("a",), (x,))).values for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert only(classifying(Cpu(), noisy, segment_rows=4), Predict(1, ("a",), (x,))).values.tobytes() != first.tobytes()


def test_dropout_inside_the_layers_of_a_transformer_is_switched_on():
    """In eval mode such a layer takes a fast path that knows no dropout."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3, batch_first=True)
    module = nn.Sequential(nn.Flatten(2), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(32, 3)).eval()
    member = forward(module, space="probabilities", ensemble=TASK, **STOCHASTIC)
    with torch.inference_mode():
        notes = member.first_look(torch.from_numpy(rows(4)))
    assert len(member.draws.switched) == 6
    assert len(notes) == 1 and "1.layers.0.self_attn (MultiheadAttention, 0.3)" in notes[0]


class WithOthers(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.memory = nn.LSTM(3, 3, 2, dropout=0.2, batch_first=True)

    def forward(self, x):
        y = nn.functional.dropout(self.inner(x), 0.25, self.training)
        return self.memory(y[:, None])[0][:, 0]


def look(module, **spec):
    member = forward(module.eval(), space="probabilities", ensemble=TASK, **STOCHASTIC | spec)
    with torch.inference_mode():
        return member.first_look(torch.from_numpy(rows(4)))


def test_what_is_not_switched_on_is_named():
    assert look(WithOthers(dropping())) == (
        "its passes leave as it is evaluated, for want of a dropout module: memory (LSTM, 0.2),"
        " F.dropout in its forward (p 0.25)",
    )
    assert look(dropping()) == ()
    depth = type("DropPath", (nn.Identity,), {"drop_prob": 0.1})()
    assert look(nn.Sequential(depth, dropping())) == (
        "its passes leave as it is evaluated, for want of a dropout module: 0 (DropPath, 0.1)",
    )


@pytest.mark.parametrize("module", [net(), dropping(share=0.0), WithOthers(net())])
def test_a_member_that_draws_nothing_is_refused(module):
    with pytest.raises(
        UsageError, match="member a has passes and is not stochastic: no dropout module of it runs"
    ) as e:
        look(module)
    assert ("not switched on: memory (LSTM" in e.value.what) == isinstance(module, WithOthers)
    assert e.value.remedy.startswith("remove members[].passes, or let its forward use torch.nn.Dropout")


def test_draws_that_are_all_the_same_are_named():
    """It does drop, on a branch that is not its output."""

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.branch = net(), nn.Dropout(0.5)

        def forward(self, x):
            self.branch(x)
            return self.inner(x)

    assert look(Beside()) == ("gives the same in each of 16 passes over the first rows",)


def test_values_are_refused():
    engine = hosting(Cpu(), 8, spec={"passes": PASSES}, a=dropping())
    with pytest.raises(UsageError, match=r"member a has passes and gives \[3\] a row, which are no classes"):
        only(engine, Predict(0, ("a",), (rows(4),)))


def test_logits_are_averaged_as_such_where_they_are_combined():
    x = rows(5)
    engine = hosting(Cpu(), 8, space="logits", ensemble=TASK, spec=STOCHASTIC, a=dropping())
    values = only(engine, Predict(0, ("a",), (x,))).values
    mean = draws_by_hand(dropping(), x).astype(np.float64).mean(0)
    assert values.shape == (5, 3) and np.abs(values - mean).max() < 1e-6


def test_passes_are_part_of_what_a_member_is_and_run_in_eager_alone(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"x")
    (tmp_path / "own.py").write_text("")
    plain = MemberSpec(name="a", factory="own:f", weights=tmp_path / "net.pt")
    drawn = replace(plain, passes=PassesSpec(count=20))
    before, after = (member_digests(member, tmp_path) for member in (plain, drawn))
    assert after == before | {"passes": '{"count": 20, "seed": 0}'}
    assert in_format({"members": {"a": before}}) == {"members": {"a": before}}
    assert in_format({"members": {"a": after}})["format"] == 2
    assert runtimes_for(drawn, "cpu") == runtimes_for(drawn, "cuda") == ("eager",)


def test_rows_on_which_the_preprocessing_raises_are_blank_and_move_no_others(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "picky_steps.py").write_text("def prepare(x):\n    assert (x > -1).all()\n    return x\n")
    monkeypatch.setattr("support.engines.ENSEMBLE", tmp_path)
    whole = rows(20)
    holed = whole.copy()
    holed[[3, *range(8, 16)]] = -5  # one row of a batch, and a whole batch
    step = StepSpec(call="picky_steps:prepare")
    engine = classifying(Cpu(), dropping(), preprocess=(step,))
    clean = only(engine, Predict(0, ("a",), (whole,))).values
    engine._blank = (3,)
    answer = only(engine, Predict(0, ("a",), (holed,)))
    assert answer.bad == (Bad("raised", (3, *range(8, 16))),)
    good = [row for row in range(20) if row not in (3, *range(8, 16))]
    assert answer.values[good].tobytes() == clean[good].tobytes()
    assert answer.values.shape == (20, 4) and np.isnan(answer.values[[3, 9]]).all()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_what_rounding_leaves_beside_0_and_1_has_an_entropy(task):
    """Story: a probability of 1.0000001 made an entropy infinite, and a good row a bad one."""
    almost = torch.tensor([[1.0000001, -1e-7, 0.0]])
    noisy = Calls(lambda x: almost.expand(len(x), -1) + 0 * torch.rand(1))
    spec = STOCHASTIC | {"output": "probabilities"}
    engine = hosting(Cpu(), 8, space="probabilities", ensemble={"task": task}, spec=spec, a=noisy)
    answer = only(engine, Predict(0, ("a",), (rows(3),)))
    assert answer.bad == () and np.abs(answer.values[:, 3:]).max() < 1e-5
