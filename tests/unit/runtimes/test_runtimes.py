"""Runtimes: each gives what eager gives, always the same bytes, or is refused; what agrees and pays is taken."""

import gc
import io
import sys
import threading
import warnings
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.engines import Cuda
from support.fake_cuda import FakeCuda, Limited
from support.member_files import exported, load
from support.precise import Spectral
from torch import nn

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.cuda import RECORDING
from hpcens.engine.engine import Engine
from hpcens.errors import MemberError, RuntimeUnsuited
from hpcens.members.conversion import Conversion
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.runtimes import compiled
from hpcens.runtimes.agreement import difference
from hpcens.runtimes.catalogue import runtimes_for
from hpcens.runtimes.cuda_graphs import CudaGraph
from hpcens.runtimes.frozen import looks_at_numbers, traced
from hpcens.runtimes.recipe import Recipe
from hpcens.specs import MemberSpec, NormalizeSpec, RunSpec, StepSpec, ViewSpec, ViewsSpec

BATCH = 8
FIXED = ["frozen", "frozen_channels_last", "openvino", "compiled"]  # prepared for one batch size
CPU = ["eager", "channels_last", *FIXED]
ROWS = np.random.default_rng(1).random((3 * BATCH, 3, 8, 8), np.float32)


class Residual(nn.Module):
    """Convolutions, batch norm, a shape that is looked at, and a dictionary for an answer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        if x.shape[-1] < 4:
            raise ValueError("images are too small")
        x = self.first(x)
        return {"logits": self.head((x + self.second(x)).mean((2, 3)))}


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(24, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.gru(x.transpose(1, 2).flatten(2))[0][:, -1])


class Deciding(nn.Module):
    """What it does depends on the rows it sees."""

    def forward(self, x):
        x = x.flatten(1)[:, :4]
        return x if x.sum() > 0 else -x


class Silent(Deciding):
    """Silences the warning that torch gives when it traces such a decision."""

    def forward(self, x):
        warnings.simplefilter("ignore")
        return super().forward(x)


class Scaled(nn.Module):
    """Its numbers leave torch, and come back as a constant."""

    def forward(self, x):
        return x.flatten(1)[:, :4] * float(x.numpy().max())


class OneHot(nn.Module):
    """As many classes as the rows show, which torch finds out without a warning."""

    def forward(self, x):
        kinds = x.flatten(1)[:, :4].argmax(1) + x.flatten(1)[:, 4:8].argmax(1)
        return nn.functional.one_hot(kinds).float()


class Compared(nn.Module):
    def forward(self, x):
        x = x.flatten(1)[:, :4]
        return x if torch.equal(x, x.clamp(max=0.9)) else x.clamp(max=0.9)


def made(module, prepared=None, **spec):
    spec = MemberSpec(name="member", factory="x:y", weights=Path("x"), output="logits", **spec)
    torch.manual_seed(3)
    network = prepared or Network(module().eval().requires_grad_(False))
    conversion = Conversion(spec, RunSpec(members=(spec,)), "probabilities")
    given = {"inputs": (0,), "conversion": conversion, "prepared": prepared is not None}
    return Forward(spec, network, Preprocessing(spec, ["images"], Path()), **given)


def recipe(folder, runtime, module=Residual, **spec):
    spec = {"select": "logits"} | spec if module is Residual else spec
    return Recipe(partial(made, module, **spec), runtime, CpuHardware(1), 1, (ROWS[:5],), folder / "member", True)


def run(recipe, rows, batch=BATCH):
    engine = Engine(CpuHardware(1))
    engine.host("member", recipe.make(batch), batch=batch, again=recipe.make if recipe.fixed else None)
    return engine.run("member", [torch.from_numpy(rows)])[0]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """What takes long to prepare is prepared once."""
    return tmp_path_factory.mktemp("packages")


@pytest.mark.parametrize("runtime", CPU)
class TestEvery:
    def test_gives_what_eager_gives_and_always_the_same_bytes(self, packages, runtime):
        wanted = run(recipe(packages, "eager"), ROWS)
        member = recipe(packages, runtime)
        engine = Engine(CpuHardware(1))
        engine.host("member", member.make(BATCH), batch=BATCH)
        first, *others = (engine.run("member", [torch.from_numpy(ROWS)])[0] for _ in range(6))
        assert difference(first, wanted, probabilities=True) < 1e-6
        assert {values.tobytes() for values in others} == {first.tobytes()}
        assert run(member, ROWS).tobytes() == first.tobytes(), "made again, it has to give the same"


@pytest.mark.parametrize("runtime", CPU)
@pytest.mark.parametrize("module", [Residual, Spectral])
def test_float64_is_computed_in_it_or_not_at_all(tmp_path, runtime, module):
    """Within the last bits of eager, which is torch's own; OpenVINO has none, and for convolutions not every torch."""
    wanted = run(recipe(tmp_path, "eager", module, precision="float64"), ROWS)
    unsuited = runtime == "openvino" or (runtime, module) == ("compiled", Residual)
    with pytest.raises(RuntimeUnsuited) if unsuited else nullcontext():
        got = run(recipe(tmp_path, runtime, module, precision="float64"), ROWS)
        assert got.dtype == wanted.dtype == np.float64 and np.abs(got - wanted).max() < 1e-14


@pytest.mark.parametrize("runtime", CPU)
def test_complex_numbers_stay_complex_or_the_network_is_refused(tmp_path, runtime):
    torch.manual_seed(3)
    module = Spectral().eval()
    with torch.inference_mode():
        wanted = torch.softmax(torch.cat([module(x) for x in torch.from_numpy(ROWS).split(BATCH)]), -1).numpy()
    with pytest.raises(RuntimeUnsuited) if runtime == "openvino" else nullcontext():
        assert np.abs(run(recipe(tmp_path, runtime, Spectral), ROWS) - wanted).max() < 1e-6


@pytest.mark.parametrize("runtime", FIXED)
def test_a_batch_that_is_not_full_changes_no_row(packages, runtime):
    """The others run the smaller batch as it is, as the plan says."""
    whole = run(recipe(packages, runtime), ROWS)
    for rows in (1, 7, 8, 9, 19):
        assert run(recipe(packages, runtime), ROWS[:rows]).tobytes() == whole[:rows].tobytes()


@pytest.mark.parametrize("runtime", ["frozen", "openvino"])
def test_networks_of_another_kind(tmp_path, runtime):
    wanted = run(recipe(tmp_path, "eager", Sequence), ROWS)
    assert difference(run(recipe(tmp_path, runtime, Sequence), ROWS), wanted, probabilities=True) < 1e-6


@pytest.mark.parametrize("runtime", FIXED)
def test_a_network_that_decides_by_what_it_sees_is_refused(tmp_path, runtime):
    """A trace would keep the decision made on the first rows, and be wrong on others without a word."""
    with pytest.raises(RuntimeUnsuited):
        recipe(tmp_path, runtime, Deciding).make(BATCH)


@pytest.mark.parametrize("module", [Deciding, Silent, Scaled, OneHot, Compared])
def test_a_decision_is_seen_by_what_is_executed(tmp_path, module):
    """Whatever torch says of it: refused, or right on rows that decide otherwise."""
    member = recipe(tmp_path, "frozen", module)
    others = ROWS.copy()
    others[:, 0] -= np.linspace(0, 2, len(ROWS), dtype=np.float32)[:, None, None]
    with torch.inference_mode():
        assert looks_at_numbers(module(), [torch.from_numpy(ROWS[:BATCH])])
    try:
        values = run(member, others)
    except (RuntimeUnsuited, MemberError):
        return
    assert difference(values, run(recipe(tmp_path, "eager", module), others), probabilities=True) < 1e-6


@pytest.mark.parametrize("module", [Residual, Sequence])
def test_networks_that_look_at_shapes_alone_decide_nothing(module):
    with torch.inference_mode():
        assert not looks_at_numbers(module().eval(), [torch.from_numpy(ROWS[:BATCH])])


def test_a_network_that_looks_at_shapes_is_traced_nevertheless():
    with torch.inference_mode():
        rows = torch.from_numpy(ROWS[:2])
        module = Residual().eval()
        assert torch.equal(traced(nn.Sequential(Shapes(), nn.Flatten()), [rows])(rows), rows.flatten(1))
        assert torch.allclose(traced(First(module), [rows])(rows), module(rows)["logits"])


class Shapes(nn.Module):
    """Of shapes torch warns too when it traces."""

    def forward(self, x):
        assert all(size == 8 for size in x.shape[2:])
        return x


class First(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)["logits"]


def test_channels_last_is_for_images(tmp_path):
    with pytest.raises(RuntimeUnsuited, match="images"):
        recipe(tmp_path, "channels_last", nn.Flatten, preprocess=()).load(None).execute(
            partial(_prepared, "channels_last"), [torch.zeros(2, 5)]
        )


def _prepared(runtime, network, inputs):
    from hpcens.runtimes.prepare import prepare

    return prepare(runtime, network, inputs, cores=1, package=Path("unused"))


def test_openvino_computes_in_float32_alone(tmp_path):
    with pytest.raises(RuntimeUnsuited, match="float32"):
        recipe(tmp_path, "openvino", precision="bfloat16").make(BATCH)


@pytest.mark.parametrize("fits", [1, 3, 7])
def test_memory_that_runs_out_is_met_by_one_made_for_fewer_rows(tmp_path, fits):
    """It runs batches of its own size alone: a smaller one has to be made anew."""
    hardware, sizes = CpuHardware(1), []

    def make(batch):
        sizes.append(batch)
        forward = recipe(tmp_path, "frozen").make(batch)
        forward.passes.module = Limited(forward.passes.module, fits, lambda: torch.empty(1 << 50))
        return forward

    engine = Engine(hardware)
    engine.host("member", make(BATCH), batch=BATCH, again=make)
    values, used = engine.run("member", [torch.from_numpy(ROWS)])
    assert used == {1: 1, 3: 2, 7: 4}[fits] and sizes[-1] == used
    assert values.tobytes() == run(recipe(tmp_path, "frozen"), ROWS, batch=used).tobytes()


class Unbuilt(nn.Module):
    def __init__(self):
        raise AssertionError("what was kept needs no network")


@pytest.mark.parametrize("runtime", FIXED)
class TestWhatTookLong:
    def test_is_kept_and_needs_its_network_no_more(self, packages, runtime):
        before = run(recipe(packages, runtime), ROWS)
        kept = {path: path.stat().st_mtime_ns for path in packages.iterdir() if path.suffix != ".json"}
        assert kept
        again = recipe(packages, runtime, Unbuilt, select="logits")
        assert run(again, ROWS).tobytes() == before.tobytes()
        left = [path for path in packages.iterdir() if path.suffix != ".json"]  # whose time says when it was used last
        assert {path: path.stat().st_mtime_ns for path in left} == kept

    def test_is_built_where_its_network_says_what_batches_it_takes(self, packages, runtime):
        run(recipe(packages, runtime), ROWS)
        with pytest.raises(AssertionError, match="needs no network"):
            run(replace(recipe(packages, runtime, Unbuilt), whole=False), ROWS)


@pytest.mark.parametrize("runtime", ["frozen", "frozen_channels_last", "openvino"])
def test_what_took_long_is_made_anew_where_it_is_damaged(packages, tmp_path, runtime):
    """Not tried of `compiled`: made anew it takes half a minute, and it is opened at the same place."""
    before = run(recipe(packages, runtime), ROWS)
    run(recipe(tmp_path, runtime), ROWS)
    kept = list(tmp_path.iterdir())
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    assert run(recipe(tmp_path, runtime), ROWS).tobytes() == before.tobytes()
    assert all(path.stat().st_size > 100 for path in tmp_path.iterdir())


@pytest.mark.parametrize("batch", [None, torch.export.Dim.AUTO])
@pytest.mark.parametrize("runtime", [name for name in CPU if name not in ("eager", "compiled")])
def test_an_exported_member_runs_in_every_runtime(tmp_path, runtime, batch):
    """Story: "Calling train() is not supported yet", and for batches of any size that symbols cannot be traced."""
    torch.manual_seed(3)
    torch._dynamo.reset()  # what other tests exported counts towards its limit
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    exported(module, tmp_path / "net.pt2", torch.from_numpy(ROWS[:BATCH]), batch=batch)
    member = MemberSpec(name="a", exported=tmp_path / "net.pt2", output="values")
    hardware = CpuHardware(1)
    build = lambda network: load(member, space="values") if network is None else None  # noqa: E731
    made = Recipe(build, runtime, hardware, 1, (ROWS,), tmp_path / "packages").make(BATCH)
    with torch.inference_mode():
        x = torch.from_numpy(ROWS[:BATCH])
        assert torch.allclose(made(x), module(x), atol=1e-6)


class TestCudaGraph:
    def test_replays_what_was_recorded_on_the_rows_of_each_batch(self):
        api, module = FakeCuda(), Residual().eval()
        api.set_device("here")
        rows = torch.from_numpy(ROWS[:BATCH])
        with torch.inference_mode():
            graph = CudaGraph(First(module), [rows], api)
            answers = [graph(torch.from_numpy(ROWS[start : start + BATCH])) for start in (0, 8, 16)]
            wanted = module(torch.from_numpy(ROWS))["logits"]
        assert torch.allclose(torch.cat(answers), wanted, atol=1e-6), "an answer lay where the next batch was written"

    def test_is_recorded_after_passes_that_warm_up_elsewhere(self):
        api = FakeCuda()
        api.set_device("here")
        streams = []

        def module(x):
            streams.append("graph" if api.capturing else api.current_stream())
            return x + 1

        CudaGraph(module, [torch.zeros(2)], api)
        assert streams[-1] == "graph" and "graph" not in streams[:-1] and len(streams) > 1
        assert api.current_stream() not in streams

    def test_one_that_makes_the_host_wait_is_unsuited_before_it_is_recorded(self):
        api = FakeCuda()
        api.set_device("here")

        def module(x):
            assert api.capturing is None
            api.synchronizing()
            return x

        with pytest.raises(RuntimeUnsuited, match="the host waits for the GPU in its forward"):
            CudaGraph(module, [torch.zeros(2)], api)
        assert api.sync_debug == "default" and api.current_stream() is api._compute and api.pools == 0

    def test_one_that_waits_only_at_its_first_call_is_recorded(self):
        api, calls = FakeCuda(), []
        api.set_device("here")

        def module(x):
            if not calls:
                api.synchronizing()
            calls.append(1)
            return x + 1

        assert CudaGraph(module, [torch.zeros(2)], api)(torch.ones(2)).tolist() == [2, 2]

    def test_a_recording_that_fails_leaves_no_trace(self):
        """Story: the thread stayed on the stream of the recording, and no memory was freed on running out any more."""
        api = FakeCuda()
        api.set_device("here")

        def module(x):
            if api.capturing:
                api.spoilt = True
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
            return x

        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            CudaGraph(module, [torch.zeros(2)], api, api.end_pool)
        assert api.current_stream() is api._compute and api.capturing is None
        assert api.allocating_to is None and api.released_pools == [(0, 1)]
        assert not RECORDING.locked()
        CudaGraph(lambda x: x + 1, [torch.zeros(2)], api, api.end_pool)

    def test_one_that_raises_by_itself_ends_its_recording_and_lets_its_pool_go_once(self):
        api = FakeCuda()
        api.set_device("here")

        def module(x):
            if api.capturing:
                raise KeyError("lost")
            return x

        with pytest.raises(KeyError, match="lost"):
            CudaGraph(module, [torch.zeros(2)], api, api.end_pool)
        assert api.capturing is None and api.allocating_to is None and api.released_pools == []

    def test_nothing_is_staged_while_one_is_recorded(self):
        device = Cuda()
        staged, threads = [], []

        def module(x):
            if device.api.capturing:
                thread = threading.Thread(target=lambda: staged.append(device.hardware.stage(ROWS[:2])))
                threads.append(thread)
                thread.start()
                thread.join(0.1)
                assert staged == [] and thread.is_alive()
            return x + 1

        CudaGraph(module, [torch.zeros(2)], device.api)
        for thread in threads:
            thread.join()
        assert len(staged) == len(threads) == 1 and not RECORDING.locked()


def graphed(folder, runtime, card, rows=ROWS[:5], **spec):
    spec = {"select": "logits"} | spec
    build = partial(made, Residual, **spec)
    return Recipe(build, runtime, card.hardware, 1, (rows,), folder / "member", True, folder / "inner")


def test_for_gpus_no_kernel_is_chosen_by_time_and_weights_are_torchs_own(monkeypatch):
    """Story: packages compiled on two nodes gave other bits, and their weights were beyond any limit of memory."""
    from torch._inductor import config

    assert compiled._settings(on_gpu=False) == {"freezing": True}
    settings = compiled._settings(on_gpu=True)
    with config.patch(settings):  # which knows them all
        assert config.deterministic and config.aot_inductor.weight_use_caching_allocator
    monkeypatch.delattr(config.aot_inductor, "weight_use_caching_allocator")
    assert set(compiled._settings(on_gpu=True)) == {"freezing", "deterministic"}, "of a torch without that word"


class TestWholeMembersAreRecorded:
    STEPS = (
        StepSpec(layout="NHWC->NCHW"),
        StepSpec(scale=1 / 255),
        StepSpec(normalize=NormalizeSpec(mean=(0.5,), std=(2.0,))),
    )
    PIXELS = np.random.default_rng(2).integers(0, 255, (3 * BATCH, 8, 8, 3), np.uint8)

    @pytest.mark.parametrize("runtime", ["cuda_graphs", "channels_last_cuda_graphs"])
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_from_rows_as_they_are_stored_to_probabilities(self, tmp_path, runtime, precision):
        card, of = Cuda(), {"preprocess": self.STEPS, "precision": precision}
        forward = graphed(tmp_path, runtime, card, self.PIXELS[:5], **of).make(BATCH)
        with torch.inference_mode():
            plain = made(Residual, select="logits", **of)
            pieces = [torch.from_numpy(self.PIXELS[i : i + BATCH]) for i in (0, 8, 16)]
            wanted, given = ([call(x).float() for x in pieces] for call in (plain, plain.given))
            plain._preprocessing.forward = forward._preprocessing.forward = refuse  # what is replayed calls nothing
            got = [forward(x) for x in pieces]
            for answers, like in ((got, wanted), ([forward.given(x) for x in pieces], given)):
                assert torch.allclose(
                    torch.cat(answers), torch.cat(like), atol=1e-2 if precision != "float32" else 1e-6
                )
            for count in (1, 3, 7):
                assert torch.equal(forward(pieces[0][:count]), got[0][:count]), "a batch that is not full"

    def test_an_engine_runs_it_and_makes_it_anew_for_less_memory(self, tmp_path):
        card = Cuda()
        recipe = graphed(tmp_path, "cuda_graphs", card)
        engine = Engine(card.hardware)
        engine.host("member", recipe.make(BATCH), batch=BATCH, again=recipe.make)
        values, used = engine.run("member", [torch.from_numpy(ROWS)])
        wanted = run(replace(recipe, runtime="eager", hardware=CpuHardware(1)), ROWS)
        assert used == BATCH and difference(values, wanted, probabilities=True) < 1e-6

    def test_what_is_let_go_takes_its_recording_along(self, tmp_path):
        card = Cuda()
        card.api.graph_bytes = 1000
        forward = graphed(tmp_path, "cuda_graphs", card).make(BATCH)
        assert card.api.raw == 1000
        gc.disable()
        try:
            del forward
            assert card.api.raw == 0
        finally:
            gc.enable()

    def test_a_function_of_the_users_own_stays_outside(self, tmp_path):
        """It may look at the rows: the network alone is recorded."""
        card = Cuda()
        views = ViewsSpec(apply=(ViewSpec(call="identity"), ViewSpec(call="hflip")), space="logits")
        assert not made(Residual, select="logits", gradients=True).recordable
        spec = MemberSpec(name="m", factory="x:y", views=views)
        assert spec.functions == {} and made(Residual, select="logits").recordable
        forward = graphed(tmp_path, "cuda_graphs", card, gradients=True).make(BATCH)
        assert forward.replayed is None and isinstance(forward.passes.module, CudaGraph)

    def test_a_step_that_waits_leaves_the_network_to_be_recorded(self, tmp_path):
        card, recipe = Cuda(), graphed(tmp_path, "cuda_graphs", Cuda())

        def waiting(network):
            forward = made(Residual, select="logits")
            convert = forward._conversion.forward
            forward._conversion.forward = lambda values: (card.api.synchronizing(), convert(values))[1]
            return forward

        forward = replace(recipe, load=waiting, hardware=card.hardware).make(BATCH)
        assert forward.replayed is None and isinstance(forward.passes.module, CudaGraph)

    def test_what_is_recorded_of_compiled_is_the_package_of_compiled(self, packages):
        """It takes a minute: once, whatever is made of it."""
        card, compiled = Cuda(), recipe(packages, "compiled")
        wanted = run(compiled, ROWS)
        before = {path: path.stat().st_mtime_ns for path in packages.glob("*.pt2")}
        again = graphed(packages, "compiled_cuda_graphs", card, rows=ROWS[:5])
        again = replace(again, load=partial(made, Unbuilt, select="logits"), recorded=compiled.package)
        calls = []

        def replay(forward, rows, api):
            calls.append(len(rows[0]))
            return lambda some: forward.both(*some)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hpcens.runtimes.cuda_graphs.replayed", replay)  # the stand-in sees no operator of a package
            again.make(BATCH)
        assert calls == [BATCH] and len(wanted) == len(ROWS)
        assert {path: path.stat().st_mtime_ns for path in packages.glob("*.pt2")} == before


class TestTensorRt:
    def test_is_built_in_the_members_precision_and_opened_from_what_was_kept(self, tmp_path, monkeypatch):
        built = []

        def compiled(program, **of):
            built.append(of)
            return program

        def save(made, path, inputs):
            torch.export.save(made, content := io.BytesIO())
            Path(path).write_bytes(content.getvalue())

        fake = SimpleNamespace(
            dynamo=SimpleNamespace(compile=compiled),
            save=save,
            load=lambda path: torch.export.load(io.BytesIO(Path(path).read_bytes())),
        )
        monkeypatch.setitem(sys.modules, "torch_tensorrt", fake)
        wanted = run(recipe(tmp_path, "eager"), ROWS)
        member = replace(recipe(tmp_path, "tensorrt"), whole=False)
        assert difference(run(member, ROWS), wanted, probabilities=True) < 1e-6
        assert difference(run(member, ROWS), wanted, probabilities=True) < 1e-6
        [of] = built
        assert of["enabled_precisions"] == {torch.float32} and of["disable_tf32"] is True

    def test_is_told_where_it_is_not_installed(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
        with pytest.raises(RuntimeUnsuited, match=r"pip install 'hpcens\[tensorrt\]'"):
            recipe(tmp_path, "tensorrt").make(BATCH)

    def test_is_never_taken_unasked(self, monkeypatch):
        monkeypatch.setattr("hpcens.runtimes.catalogue.find_spec", lambda name: object())
        assert "tensorrt" not in runtimes_for(MemberSpec(name="a", factory="a:b", weights=Path("a")), "cuda")


def refuse(*inputs):
    raise AssertionError("it was recorded")


def test_which_can_be_tried_where():
    factory = MemberSpec(name="a", factory="a:b", weights=Path("a"))
    onnx = MemberSpec(name="a", onnx=Path("a"))
    assert set(runtimes_for(factory, "cpu")) == set(CPU)
    assert runtimes_for(factory, "cpu")[0] == runtimes_for(factory, "cuda")[0] == "eager"
    recorded = {"cuda_graphs", "channels_last_cuda_graphs", "compiled_cuda_graphs"}
    assert recorded <= set(runtimes_for(factory, "cuda")) and recorded.isdisjoint(runtimes_for(factory, "cpu"))
    assert "openvino" not in runtimes_for(factory, "cuda")
    assert runtimes_for(onnx, "cpu") == runtimes_for(onnx, "cuda") == ("eager",)
