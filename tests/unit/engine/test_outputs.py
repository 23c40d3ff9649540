"""What members return is taken before they are called again, whatever it is; rows that a cast changes are bad."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from support.engines import Calls, Cpu, Cuda, hosting, only
from support.project import ENSEMBLE
from torch import nn

from hpcens.engine.engine import Engine
from hpcens.errors import MemberError
from hpcens.members.conversion import Conversion
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.specs import MemberSpec, RunSpec, StepSpec
from hpcens.vocabulary import Bad, Predict

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = np.random.default_rng(4).normal(size=(21, 6)).astype(np.float32)
Named = namedtuple("Named", "first second")


class Buffered(nn.Module):
    """Writes into one buffer, and returns a part of it."""

    def __init__(self, wrap=lambda out: out):
        super().__init__()
        self.buffer = torch.zeros(64, 6)
        self.wrap = wrap

    def forward(self, x):
        out = self.buffer[: len(x)]
        out.copy_(x * 2)
        return self.wrap(out)


class Late(nn.Module):
    """Returns what is right, and spoils it when it is called again."""

    def __init__(self):
        super().__init__()
        self.last = None

    def forward(self, x):
        if self.last is not None:
            self.last.fill_(-1)
        self.last = x * 2
        return self.last


class Table(nn.Module):
    """Returns rows of its parameter."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.arange(48.0).reshape(8, 6))

    def forward(self, x):
        return self.table[: len(x)]


class Growing(nn.Module):
    """Adds up in place what it has seen, and returns that for every row."""

    def __init__(self):
        super().__init__()
        self.sum = torch.zeros(6)

    def forward(self, x):
        self.sum += x.sum(0)
        return self.sum.expand(len(x), 6)


def in_batches(size, rows=ROWS):
    return [rows[i : i + size] for i in range(0, len(rows), size)]


TABLE = np.concatenate([np.arange(48.0, dtype=np.float32).reshape(8, 6)[: len(x)] for x in in_batches(8)])
SUMS = np.repeat(np.cumsum([x.sum(0) for x in in_batches(8)], 0), [len(x) for x in in_batches(8)], 0)
# module, select, what it gives
KINDS = {
    "a buffer of its own": (Buffered, None, ROWS * 2),
    "a view of it": (lambda: Buffered(lambda out: out.t().t()[:, 1:]), None, ROWS[:, 1:] * 2),
    "in a list": (lambda: Buffered(lambda out: [out, out]), "1", ROWS * 2),
    "in a tuple": (lambda: Buffered(lambda out: (out + 1, out)), "1", ROWS * 2),
    "in a named tuple": (lambda: Buffered(lambda out: Named(out + 1, out)), "second", ROWS * 2),
    "in a dictionary": (lambda: Buffered(lambda out: {"a": out, "b": out + 1}), "a", ROWS * 2),
    "what it spoils later": (Late, None, ROWS * 2),
    "a parameter": (Table, None, TABLE),
    "an expanded tensor": (Growing, None, SUMS),
    "its input": (lambda: Calls(lambda x: x), None, ROWS),
    "its input, changed in place": (lambda: Calls(lambda x: x.mul_(3)), None, ROWS * 3),
    "a view of its input": (lambda: Calls(lambda x: x[:, ::2]), None, ROWS[:, ::2]),
    "an imaginary part, negated lazily": (
        lambda: Calls(lambda x: torch.view_as_complex(torch.stack([x, x], -1)).conj().imag),
        None,
        -ROWS,
    ),
}


@pytest.mark.parametrize("family", [Cpu, Cuda])
@pytest.mark.parametrize("kind", KINDS)
def test_a_member_may_return(family, kind):
    module, select, wanted = KINDS[kind]
    engine = hosting(family(), spec={"select": select}, a=module())
    values = only(engine, Predict(0, ("a",), (ROWS,))).values
    np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6)
    again = ROWS[:8].copy()
    before = values.copy()
    only(engine, Predict(1, ("a",), (again,)))
    assert (values == before).all(), "what was sent on lies where the member writes"


def member(spec, network):
    conversion = Conversion(spec, RunSpec(members=(spec,)), "values")
    return Forward(spec, network, Preprocessing(spec, ["x"], ENSEMBLE), inputs=(0,), conversion=conversion)


@pytest.mark.parametrize("most", [1, 3, 4])
@pytest.mark.parametrize("kind", ["a buffer of its own", "what it spoils later", "in a dictionary"])
def test_also_where_a_batch_is_cut_to_what_the_network_admits(kind, most):
    module, select, wanted = KINDS[kind]
    spec = MemberSpec(name="a", output="values", select=select)
    network = Network(module(), most, most)
    engine = Engine(Cpu().hardware)
    engine.host("a", member(spec, network), batch=8)
    assert (only(engine, Predict(0, ("a",), (ROWS,))).values == wanted).all()


@pytest.mark.parametrize("family", [Cpu, Cuda])
def test_a_row_that_is_left_out_is_not_written_into_the_member(family):
    engine = Engine(family().hardware, blank=(6,))
    spec = MemberSpec(name="a", output="values", preprocess=(StepSpec(call="nets:refuse"),))
    table = Table()
    engine.host("a", member(spec, Network(table)), batch=8)
    rows = np.zeros((16, 6), np.float32)
    rows[3] = 1
    answer = only(engine, Predict(0, ("a",), (rows,)))
    assert answer.bad == (Bad("raised", (3,)),) and np.isnan(answer.values[3]).all()
    wanted = np.concatenate([np.arange(48.0).reshape(8, 6)] * 2)
    assert (np.delete(answer.values, 3, 0) == np.delete(wanted, 3, 0)).all() and torch.isfinite(table.table).all()


@pytest.mark.parametrize("family", [Cpu, Cuda])
def test_a_batch_without_a_good_row_narrows_no_other(family):
    engine = Engine(family().hardware, blank=(6,))
    spec = MemberSpec(name="a", output="values", precision="float64", preprocess=(StepSpec(call="nets:refuse"),))
    third = Calls(lambda x: x + 1 / 3)
    engine.host("a", member(spec, Network(third)), batch=8)
    rows = np.zeros((16, 6))
    rows[:8] = 1
    values = only(engine, Predict(0, ("a",), (rows,))).values
    assert values.dtype == np.float64 and np.isnan(values[:8]).all() and (values[8:] == 1 / 3).all()


@pytest.mark.parametrize("family", [Cpu, Cuda])
@pytest.mark.parametrize(
    "changing",
    [lambda x: x[:, :1] if len(x) < 8 else x, lambda x: x[:, None] if len(x) < 8 else x, lambda x: x[:, 0]],
)
def test_outputs_of_another_shape_are_not_broadcast(family, changing):
    first = [True]

    def forward(x):
        before, first[0] = first[0], False
        return x if before else changing(x)

    with pytest.raises(MemberError, match="member a "):
        only(hosting(family(), a=Calls(forward)), Predict(0, ("a",), (ROWS,)))


@pytest.mark.parametrize("family", [Cpu, Cuda])
class TestCasts:
    def test_integers_that_float32_rounds_make_bad_rows(self, family):
        rows = np.arange(60).reshape(10, 6)
        rows[4, 5], rows[7, 0], rows[8, 0] = 2**24 + 1, -(2**40), 2**24
        engine = hosting(family(), a=Calls(lambda x: x), b=Calls(lambda x: x * 0))
        for answer in engine.predict(Predict(0, ("a", "b"), (rows,))):
            assert answer.bad == (Bad("cast", (4, 7)),)
        answer = only(engine, Predict(1, ("a",), (rows[:4],)))
        assert answer.bad == ()

    @pytest.mark.parametrize("cast", ["float32", "float64", "int64"])
    def test_unless_the_yaml_says_what_they_are_cast_to(self, family, cast):
        rows = np.full((3, 6), 2**24 + 1)
        spec = {"preprocess": (StepSpec(cast=cast),)}
        engine = hosting(family(), spec=spec, a=Calls(lambda x: x.double() if x.dtype == torch.int64 else x))
        assert only(engine, Predict(0, ("a",), (rows,))).bad == ()

    def test_or_the_member_computes_in_float64(self, family):
        rows = np.full((3, 6), 2**24 + 1)
        engine = hosting(family(), spec={"precision": "float64"}, a=Calls(lambda x: x))
        answer = only(engine, Predict(0, ("a",), (rows,)))
        assert answer.bad == () and (answer.values == rows).all()

    def test_a_float_beyond_float32_is_a_bad_row_though_the_output_is_finite(self, family):
        rows = np.ones((5, 6))
        rows[1, 2], rows[3, 0], rows[4, 0] = 1e39, np.nan, np.inf
        engine = hosting(family(), a=Calls(lambda x: torch.tanh(x).nan_to_num()))
        assert only(engine, Predict(0, ("a",), (rows,))).bad == (Bad("input", (3, 4)), Bad("cast", (1,)))
        mends = {"preprocess": (StepSpec(call="nets:halved"),)}
        engine = hosting(family(), spec=mends, a=Calls(lambda x: torch.tanh(x).nan_to_num()))
        assert only(engine, Predict(0, ("a",), (rows,))).bad == (Bad("cast", (1,)),)

    def test_sums_that_overflow_make_no_row_bad(self, family):
        rows = np.full((4, 6), 3e38)
        assert only(hosting(family(), a=Calls(lambda x: x * 0)), Predict(0, ("a",), (rows,))).bad == ()


@pytest.mark.parametrize("family", [Cpu, Cuda])
def test_float64_is_kept_from_the_rows_to_the_answer(family):
    rows = np.random.default_rng(0).normal(-123456.789, 0.01, (21, 6))
    logits = Calls(lambda x: (x + 123456.789) * 100)
    spec = {"precision": "float64", "output": "logits"}
    engine = hosting(family(), spec=spec, space="probabilities", a=logits)
    for answer in engine.predict(Predict(0, ("a",), (rows,))):
        shifted = np.exp((rows + 123456.789) * 100)
        assert answer.values.dtype == np.float64
        np.testing.assert_allclose(answer.values, shifted / shifted.sum(-1, keepdims=True), rtol=1e-12)
