"""Views are outside of the network: it sees them in every runtime, from every kind of file, in batches of one size."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.engines import Cuda
from support.member_files import as_onnx, exported, load, traced
from torch import nn

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.runs import RunDirectory
from hpcens.runtimes.cuda_graphs import CudaGraph
from hpcens.runtimes.recipe import Recipe
from hpcens.runtimes.recording import Recording, record, repeat
from hpcens.scoring.spot_checks import SpotChecks
from hpcens.specs import MemberSpec, RunSpec, ViewSpec, ViewsSpec

BATCH = 4
ROWS = np.random.default_rng(1).random((10, 3, 8, 8), np.float32)
VIEWS = ViewsSpec(apply=tuple(ViewSpec(call=call) for call in ("identity", "hflip", "rot90", "transverse")))


class Linear(nn.Module):
    """What `as_onnx` writes: every pixel has a weight of its own."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 8 * 8, 4)

    def forward(self, x):
        return self.head(x.flatten(1))


class Seeing(nn.Module):
    """Notes the shapes it is called with."""

    def __init__(self, net):
        super().__init__()
        self.net, self.shapes = net, []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return self.net(x)


def network():
    torch.manual_seed(3)
    return Linear().eval().requires_grad_(False)


def by_hand():
    x = torch.from_numpy(ROWS).double()
    seen = x, x.flip(-1), torch.rot90(x, 1, (-2, -1)), x.transpose(-1, -2).flip((-2, -1))
    return torch.stack([network().double()(each) for each in seen]).mean(0).numpy()


def member(folder, kind="torchscript", **more):
    """A member from a file of this kind."""
    path = folder / f"net.{kind}"
    writing = {"torchscript": traced, "exported": exported, "onnx": lambda net, path, x: as_onnx(net, path)}
    writing[kind](network(), path, torch.from_numpy(ROWS[:BATCH]))
    return MemberSpec(name="a", output="values", views=VIEWS, **{kind: path}, **more)


def recipe(spec, runtime, folder, hardware=None):
    def build(network):
        return load(spec, space="values") if network is None else load(spec, network=network, space="values")

    return Recipe(build, runtime, hardware or CpuHardware(1), 1, (ROWS[:3],), folder / "packages" / "a")


def hosted(made, hardware=None):
    engine = Engine(hardware or CpuHardware(1))
    engine.host("a", made, batch=BATCH)
    return engine


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "runtime"),
    [
        *((kind, "eager") for kind in ("torchscript", "exported", "onnx")),
        *(("exported", runtime) for runtime in ("channels_last", "frozen", "frozen_channels_last", "openvino")),
        ("torchscript", "frozen"),
    ],
)
def test_from_every_file_in_every_runtime_it_is_the_same_mean(tmp_path, kind, runtime):
    torch._dynamo.reset()  # what other tests exported counts towards its limit
    engine = hosted(recipe(member(tmp_path, kind), runtime, tmp_path).make(BATCH))
    values, batch = engine.run("a", [torch.from_numpy(ROWS)])
    assert batch == BATCH
    np.testing.assert_allclose(values, by_hand(), atol=1e-5)
    assert engine.run("a", [torch.from_numpy(ROWS)])[0].tobytes() == values.tobytes()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_graph_that_is_recorded_is_replayed_view_by_view(tmp_path):
    """The next replay writes where the last output lies: each is added before."""
    made, cuda, seeing = load(member(tmp_path), space="values"), Cuda(), Seeing(network())

    def recorded(network, inputs):
        return replace(network, module=CudaGraph(seeing, inputs, cuda.api), least=BATCH, most=BATCH)

    made.execute(recorded, [torch.from_numpy(ROWS[:BATCH])])
    values, _ = hosted(made, cuda.hardware).run("a", [torch.from_numpy(ROWS)])
    np.testing.assert_allclose(values, by_hand(), atol=1e-5)
    assert set(seeing.shapes) == {(BATCH, 3, 8, 8)}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_recorded_batch_is_of_all_views(tmp_path, capfd):
    spec, path = member(tmp_path), tmp_path / "a.npz"
    engine = hosted(load(spec, space="values"))
    record(engine, spec, ("images",), (ROWS,), path)
    np.testing.assert_allclose(Recording.load(path).values, by_hand()[:8], atol=1e-5)
    repeat(engine, spec, ("images",), (ROWS,), path, tolerance=1e-4)
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_rows_that_are_checked_in_eager_are_seen_alike(tmp_path):
    """Alone or beside others, in the runtime that was planned or in eager: every row in all views."""
    spec = member(tmp_path)
    preflight = SimpleNamespace(space="values", facts=SimpleNamespace(names=("images",)))
    job = SimpleNamespace(spec=RunSpec(members=(spec,), task="regression"), whole=None)
    assignment = SimpleNamespace(job=job, preflight=preflight, shape=(4,))
    checks = SpotChecks(assignment, RunDirectory(tmp_path), Engine(CpuHardware(1)), 1)
    for rows in (slice(0, 3), slice(9, 10)):
        np.testing.assert_allclose(checks._in_eager(spec, (ROWS[rows],)), by_hand()[rows], atol=1e-5)
