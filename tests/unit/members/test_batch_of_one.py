"""A batch of one row: by itself where the member takes it, as two rows where only that works."""

import numpy as np
import pytest
import torch
from support.contract import Held

from hpcens.checks.preflight import check
from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.errors import MemberError
from hpcens.members.conversion import Conversion
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.specs import MemberSpec, RunSpec, StepSpec


class Counting(torch.nn.Module):
    """Gives what `function` makes of three numbers a row; keeps the sizes of the batches."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.out = torch.nn.Linear(8, 3)
        self.function = function
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        return self.function(self.out(x))


def engine_of(module, steps=(), folder=None):
    spec = MemberSpec(name="m", factory="m:f", weights=None, output="values", preprocess=steps)
    engine = Engine(CpuHardware(1))
    parts = Preprocessing(spec, ["x"], folder)
    conversion = Conversion(spec, RunSpec(members=(spec,)), "values")
    forward = Forward(spec, Network(module.eval()), parts, inputs=(0,), conversion=conversion)
    engine.host("m", forward, batch=32)
    return engine


X = torch.from_numpy(np.random.default_rng(0).normal(size=(33, 8)).astype("f4"))


def needs_two(y):
    if len(y) < 2:
        raise ValueError("expected more than 1 value per channel")
    return y


@pytest.mark.parametrize("function", [torch.squeeze, needs_two, lambda y: y[:, 0].squeeze(), lambda y: y.squeeze(0)])
def test_a_last_batch_of_one_that_fails_is_run_as_two_rows_and_cut(function):
    module = Counting(function)
    values, _ = engine_of(module).run("m", [X])
    expected = module.out(X).detach().numpy()
    expected = expected[:, 0] if values.ndim == 1 else expected
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert module.sizes[:2] == [32, 1] and module.sizes[2:3] == [2]


def test_a_batch_of_one_that_works_is_run_as_it_is():
    module = Counting(lambda y: y)
    values, _ = engine_of(module).run("m", [X])
    assert module.sizes == [32, 1] and values.shape == (33, 3)


def test_once_it_failed_it_is_not_tried_again():
    module = Counting(torch.squeeze)
    engine = engine_of(module)
    for _ in range(3):
        engine.run("m", [X[:1]])
    assert module.sizes == [1, 2, 2, 2]


def test_what_fails_with_two_rows_as_well_says_what_failed_first():
    def fails(y):
        raise ValueError(f"no such luck with {len(y)}")

    with pytest.raises(MemberError, match="no such luck with 1"):
        engine_of(Counting(fails)).run("m", [X[:1]])


def test_a_preprocessing_that_drops_the_axis_of_rows_is_helped_as_well(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "squeezes.py").write_text("def drop(x):\n    return x.squeeze()\n")
    module = Counting(lambda y: y)
    engine = engine_of(module, (StepSpec(call="squeezes:drop"),), tmp_path)
    assert engine.run("m", [X])[0].shape == (33, 3)


def test_the_trial_warns_and_the_trial_refuses(project):
    held = Held(project.data(5))
    [warning] = held.yaml("Squeezed").hold()
    assert "fails where a batch has one row: such a batch is run as two rows, and cut" in warning
    code = held.project.folder / "own.py"
    code.write_text(code.read_text() + "\nWidens = giving(lambda x: x if len(x) > 1 else x[:, :2])\n")
    said = held.yaml("Widens").refused(MemberError)
    assert "fails where a batch has one row, and the last one may: it gives [1, 2]" in said and "squeeze(-1)" in said
    assert check(held.job).unseen == ("m0",)
