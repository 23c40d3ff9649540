"""A group on a device: one forward pass, and an answer of each member."""

import numpy as np
import pytest
from support.engines import Cpu, Cuda
from support.fake_cuda import Limited
from support.groups import equal_members, stacked
from support.member_files import load

from hpcens.engine.engine import Engine
from hpcens.specs import StepSpec
from hpcens.vocabulary import Bad, Predict

pytestmark = [pytest.mark.usefixtures("one_thread", "weights"), pytest.mark.parametrize("family", [Cpu, Cuda])]
GROUP = "m0 … m2 (3)"


def images(count):
    return np.random.default_rng(0).random((count, 3, 8, 8), np.float32)


def grouped(device, members, blank=None, batch=4, fits=None):
    """An engine that hosts the members as one, and the module that counts its passes."""
    engine, group = Engine(device.hardware, blank), stacked(members)
    group.passes.module = Limited(group.passes.module, fits, device.exhaust)
    engine.host(GROUP, group, batch=batch)
    return engine, group.passes.module


def alone(device, members, blank=None, batch=4):
    engine = Engine(device.hardware, blank)
    for member in members:
        engine.host(member.name, load(member), batch=batch)
    return engine


def test_one_pass_answers_for_each_that_is_asked_for(family, tmp_path):
    members, x = equal_members(tmp_path), images(10)
    engine, module = grouped(family(), members)
    wanted = {a.member: a for a in alone(family(), members).predict(Predict(3, ("m0", "m1", "m2"), (x,)))}
    for asked in (("m0", "m1", "m2"), ("m1", "m2"), ("m2",)):
        module.seen.clear()
        answers = list(engine.predict(Predict(3, asked, (x,))))
        assert tuple(a.member for a in answers) == asked and module.seen == [4, 4, 2]
        assert len({a.seconds for a in answers}) == 1 and answers[0].seconds > 0
        for a in answers:
            assert (a.segment, a.batch, a.bad) == (3, 4, ()) and a.values.flags.c_contiguous
            assert a.values.dtype == np.float32 and np.abs(a.values - wanted[a.member].values).max() < 1e-6


def test_beside_others_in_the_order_asked(family, tmp_path):
    members, x = equal_members(tmp_path), images(5)
    device = family()
    engine, _ = grouped(device, members)
    other = equal_members(tmp_path, count=1, more={"output": "probabilities"})[0]
    engine.host("x", load(other), batch=4)
    answers = list(engine.predict(Predict(0, ("x", "m0", "m1", "m2"), (x,))))
    assert [a.member for a in answers] == ["x", "m0", "m1", "m2"] and answers[0].values.shape == (5, 4)


def test_a_batch_that_does_not_fit_is_halved_for_all(family, tmp_path):
    members, x = equal_members(tmp_path), images(10)
    engine, _ = grouped(family(), members, batch=8, fits=4)
    whole, _ = grouped(family(), members, batch=4)
    task = Predict(0, ("m0", "m1", "m2"), (x,))
    answers, wanted = list(engine.predict(task)), list(whole.predict(task))
    assert dict(engine.ceilings) == {GROUP: 4} and [a.batch for a in answers] == [4, 4, 4]
    assert [a.values.tobytes() for a in answers] == [a.values.tobytes() for a in wanted]


def test_bad_rows_are_those_of_each(family, tmp_path):
    """Input that is not finite, a step that raises on rows: as by themselves, the other rows to the same bits."""
    steps = {"preprocess": (StepSpec(call="nets:refuse"),)}
    x = images(10)
    x[[2, 7]] = np.nan
    for more in ({}, steps):
        members = equal_members(tmp_path, more=more)
        if more:
            x = np.zeros_like(x)
            x[4] = 1.0
        task = Predict(0, ("m0", "m1", "m2"), (x,))
        got = list(grouped(family(), members, blank=(4,))[0].predict(task))
        wanted = list(alone(family(), members, blank=(4,)).predict(task))
        assert [a.bad for a in got] == [a.bad for a in wanted]
        assert got[0].bad == (Bad("raised", (4,)),) if more else (Bad("input", (2, 7)),)
        for mine, theirs in zip(got, wanted, strict=True):
            np.testing.assert_allclose(mine.values, theirs.values, rtol=0, atol=1e-6)
