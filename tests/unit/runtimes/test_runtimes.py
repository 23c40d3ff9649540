"""Runtimes: each gives what eager gives, always the same bytes, or is refused; what agrees and pays is taken."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.fake_cuda import FakeCuda, Limited
from support.project import ENSEMBLE
from torch import nn

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.errors import DeviceOutOfMemory, RuntimeUnsuited
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.profiling.bench import difference, measure
from hpcens.profiling.book import ProfileBook
from hpcens.runtimes.catalogue import RUNTIMES, runtimes_for
from hpcens.runtimes.cuda_graphs import CudaGraph
from hpcens.runtimes.frozen import traced
from hpcens.runtimes.recipe import Recipe
from hpcens.specs import MemberSpec, RunSpec
from hpcens.vocabulary import Measurement, ProfileKey, cpu_devices

BATCH = 8
CPU = [name for name, of in RUNTIMES.items() if "cpu" in of.families]
FIXED = [name for name in CPU if name not in ("eager", "channels_last")]
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


def made(module, prepared=None, **spec):
    spec = MemberSpec(name="member", factory="x:y", weights=Path("x"), output="logits", **spec)
    torch.manual_seed(3)
    network = prepared or Network(module().eval().requires_grad_(False))
    given = {"inputs": (0,), "space": "probabilities", "rounds": None, "prepared": prepared is not None}
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

    def test_a_batch_that_is_not_full_changes_no_row(self, packages, runtime):
        if runtime not in FIXED:
            return  # those run the smaller batch as it is, as the plan says
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
        kept = {path: path.stat().st_mtime_ns for path in packages.iterdir()}
        again = recipe(packages, runtime, Unbuilt, select="logits")
        assert run(again, ROWS).tobytes() == before.tobytes()
        assert {path: path.stat().st_mtime_ns for path in packages.iterdir()} == kept

    def test_is_made_anew_where_it_is_damaged(self, packages, tmp_path, runtime):
        before = run(recipe(packages, runtime), ROWS)
        if runtime == "compiled":
            return  # made anew it takes half a minute; it is opened at the same place
        run(recipe(tmp_path, runtime), ROWS)
        for path in tmp_path.iterdir():
            path.write_bytes(path.read_bytes()[:100])
        assert run(recipe(tmp_path, runtime), ROWS).tobytes() == before.tobytes()

    def test_is_built_where_its_network_says_what_batches_it_takes(self, packages, runtime):
        run(recipe(packages, runtime), ROWS)
        with pytest.raises(AssertionError, match="needs no network"):
            run(replace(recipe(packages, runtime, Unbuilt), whole=False), ROWS)


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
            streams.append(api.recording or api.current_stream())
            return x + 1

        CudaGraph(module, [torch.zeros(2)], api)
        assert streams[-1] == "graph" and "graph" not in streams[:-1] and len(streams) > 1
        assert api.current_stream() not in streams


finite = st.integers(-1000, 1000).map(lambda n: n / 100)


class TestDifference:
    @given(arrays(np.float32, (3, 4), elements=finite.map(np.float32)))
    def test_of_equals_is_nothing(self, values):
        assert difference(values, values, probabilities=True) == difference(values, values, probabilities=False) == 0

    @given(arrays(np.float32, (3, 4), elements=finite.map(np.float32)), st.integers(0, 2), st.integers(0, 3))
    def test_is_that_of_the_worst_value(self, values, row, column):
        moved = values.copy()
        moved[row, column] += 1
        largest = np.abs(values[row]).max()
        assert difference(moved, values, probabilities=True) == pytest.approx(1, abs=1e-5)
        wanted = 1 / largest if largest else np.inf
        assert difference(moved, values, probabilities=False) == pytest.approx(wanted, rel=1e-4)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_nan_is_equal_to_nothing_but_itself(self, bad):
        values = np.ones((2, 3), np.float32)
        spoiled = values.copy()
        spoiled[1, 1] = bad
        assert difference(spoiled, spoiled, probabilities=False) == 0
        assert difference(spoiled, values, probabilities=True) == difference(values, spoiled, probabilities=True)
        assert difference(spoiled, values, probabilities=True) == np.inf

    def test_another_shape_is_no_small_difference(self):
        assert difference(np.zeros((2, 1)), np.zeros((2, 3)), probabilities=True) == np.inf


@pytest.fixture
def member(weights):
    return MemberSpec(name="conv", factory="nets:Conv", weights=weights / "conv.safetensors")


def keys(*runtimes):
    return {runtime: ProfileKey("cpu×1 model", "digest", runtime, "<f4[3, 8, 8]", "2.13") for runtime in runtimes}


def profiles(member, folder, *runtimes, rows=10**9, seconds=0.5, thorough=False, tolerance=1e-4):
    [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
    asked = Measurement(member, keys(*runtimes), (4, 8), seconds, rows, tolerance, thorough)
    spec = RunSpec(members=(member,), search_path=ENSEMBLE)
    found = measure(
        asked, spec=spec, inputs=("images",), device=device, space="probabilities", rows=(ROWS,), cache=folder
    )
    return {key.runtime: profile for key, profile in found}


class TestProfiler:
    def test_measures_each_beside_eager(self, member, tmp_path):
        found = profiles(member, tmp_path, "eager", "frozen", "channels_last")
        assert list(found) == ["eager", "frozen", "channels_last"]
        for runtime, profile in found.items():
            assert profile.batches and not profile.refused, runtime
            assert profile.difference < 1e-6 and profile.output_shape == (4,)

    def test_what_would_not_pay_is_left_for_a_larger_dataset(self, member, tmp_path):
        few = profiles(member, tmp_path, "eager", "frozen", rows=24)["frozen"]
        assert not few.batches and "would not pay for 24 rows" in few.refused and few.worth_from > 24
        book = ProfileBook(tmp_path / "profiles")
        [key] = keys("frozen").values()
        book.put(key, few)
        assert book.covers(key, (4, 8), rows=24, tolerance=1e-4)
        assert not book.covers(key, (4, 8), rows=few.worth_from, tolerance=1e-4)
        assert profiles(member, tmp_path, "eager", "frozen", rows=24, thorough=True)["frozen"].batches

    def test_one_that_is_wrong_is_measured_no_further(self, member, tmp_path, monkeypatch):
        class Wrong(nn.Module):
            def __init__(self, module, inputs, cores, file):
                super().__init__()
                self.module = module

            def forward(self, x):
                return self.module(x) * 1.01

        monkeypatch.setattr("hpcens.runtimes.frozen.build", Wrong)
        found = profiles(member, tmp_path, "eager", "frozen")["frozen"]
        assert found.difference > 1e-4 and not found.batches
        book = ProfileBook(tmp_path / "profiles")
        [key] = keys("frozen").values()
        book.put(key, found)
        assert book.covers(key, (4, 8), rows=1, tolerance=1e-4)
        assert not book.covers(key, (4, 8), rows=1, tolerance=0.1), "for whom that is near enough, it is not timed yet"
        assert profiles(member, tmp_path, "eager", "frozen", tolerance=0.1)["frozen"].batches

    def test_one_that_fails_says_why(self, member, tmp_path, monkeypatch):
        def failing(module, inputs, cores, file):
            raise RuntimeError("operator is not known\nand more")

        monkeypatch.setattr("hpcens.runtimes.frozen.build", failing)
        found = profiles(member, tmp_path, "eager", "frozen")["frozen"]
        assert found.refused == "frozen: RuntimeError: operator is not known" and found.worth_from is None
        book = ProfileBook(tmp_path / "profiles")
        [key] = keys("frozen").values()
        book.put(key, found)
        assert book.covers(key, (4, 8), rows=10**12, tolerance=1e-4)

    @pytest.mark.parametrize("error", [RuntimeUnsuited("not again"), DeviceOutOfMemory("no room", "less"), None])
    def test_contenders_that_cannot_be_held_stay_as_they_were_measured(self, member, tmp_path, monkeypatch, error):
        def fails(bench, engine, contender):
            raise error or ValueError("a fault")

        monkeypatch.setattr(
            "hpcens.profiling.bench.contenders", lambda of, _: [("eager", b) for b in of["eager"].batches]
        )
        monkeypatch.setattr("hpcens.profiling.bench._Bench._contending", fails)
        if error is None:
            with pytest.raises(ValueError, match="a fault"):
                profiles(member, tmp_path, "eager")
        else:
            assert profiles(member, tmp_path, "eager")["eager"].batches

    def test_one_that_would_keep_its_rank_from_answering_is_refused(self, member, tmp_path, monkeypatch):
        monkeypatch.setattr("hpcens.profiling.bench._LONGEST_MUTE", 1e-9)
        found = profiles(member, tmp_path, "eager", "compiled", "channels_last", thorough=True)
        assert "no sign of life" in found["compiled"].refused and found["compiled"].worth_from is None
        assert not found["channels_last"].refused

    def test_the_reference_is_eager_where_that_was_measured_before(self, member, tmp_path):
        eager = profiles(member, tmp_path, "eager")["eager"]
        asked = Measurement(member, keys("frozen"), (4, 8), 0.5, 10**9, 1e-4, False, eager)
        [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
        spec = RunSpec(members=(member,), search_path=ENSEMBLE)
        options = {"inputs": ("images",), "device": device, "space": "probabilities", "rows": (ROWS,)}
        [(key, found)] = measure(asked, spec=spec, cache=tmp_path, **options)
        assert key.runtime == "frozen" and found.batches and 0 <= found.difference < 1e-6


def test_which_can_be_tried_where():
    factory = MemberSpec(name="a", factory="a:b", weights=Path("a"))
    onnx = MemberSpec(name="a", onnx=Path("a"))
    assert set(runtimes_for(factory, "cpu")) == set(CPU)
    assert runtimes_for(factory, "cpu")[0] == runtimes_for(factory, "cuda")[0] == "eager"
    assert "cuda_graphs" in runtimes_for(factory, "cuda") and "openvino" not in runtimes_for(factory, "cuda")
    assert runtimes_for(onnx, "cpu") == runtimes_for(onnx, "cuda") == ("eager",)


def test_a_run_in_another_runtime(project, tmp_path):
    """The result says which, and how far from eager it was; a resume keeps it, whatever the YAML says by then."""
    project.environment["HPCENS_CACHE"] = str(tmp_path / "cache")  # a runtime known here is none for other tests' auto
    project.data(rows=100).hpcens("run", "dataset.h5")
    wanted = project.predictions()
    project.yaml("output: frozen.h5", batch_sizes="[16], runtime: frozen")
    project.hpcens("run", "dataset.h5", "--trace", "trace.json")
    with h5py.File(project.folder / "frozen.h5") as file:
        assert difference(file["prediction"][:], wanted, probabilities=True) < 1e-6
        plan = json.loads(file["hpcens/plan"][:].tobytes())
    members = plan["numerics"]["members"]
    assert {of["runtime"] for of in members.values()} == {"frozen"}
    assert plan["differences"].keys() == members.keys() and max(plan["differences"].values()) < 1e-6
    trace = json.loads((project.folder / "trace.json").read_text())["traceEvents"]
    names = {event["name"] for event in trace if event["ph"] == "X"}
    assert {"linear", "conv", "recurrent", "Read", "Write", "Flush", "wait for input"} <= names
    report = json.loads(next((project.folder / "frozen.run").glob("epochs/*/report.json")).read_text())
    assert report["bottleneck"].partition(":")[0] in ("reader", "reducer", "device")
    for rank in report["ranks"]:
        assert 0 < sum(rank["spent"].values()) <= 1.05 * report["seconds"], "shares of the time add up to it"


def test_a_runtime_that_cannot_be_is_refused_with_the_reason(project):
    project.data(rows=100).yaml(batch_sizes="[16], runtime: cuda_graphs")
    said = project.hpcens("run", "dataset.h5", code=2)
    assert "member linear cannot run in cuda_graphs on cpu" in said and "plan.runtime: auto" in said
