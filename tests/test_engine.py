"""The engine on every family of devices: one contract. CUDA is stood in for by a fake that runs out on command."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from fake_cuda import FakeCuda, Limited
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hpcens.devices import cpu_devices
from hpcens.errors import DataError, DeviceOutOfMemory, MemberError, UsageError
from hpcens.messages import Predict
from hpcens.profiler import measure
from hpcens.profiles import ProfileBook, ProfileKey
from hpcens.runtimes.cpu import CpuHardware
from hpcens.runtimes.cuda import CudaHardware
from hpcens.runtimes.discover import discover, parse_gpus
from hpcens.runtimes.engine import Engine
from hpcens.runtimes.members import digest_of, load, member_digests
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec, MemberSpec


class FakeCpu(CpuHardware):
    """A CPU device whose allocator runs out on command, with torch's own words."""

    def out_of_memory(self, error):
        return super().out_of_memory(error) or isinstance(error, FakeCuda.OutOfMemoryError)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()


def rows(count, dtype=np.float32, seed=0):
    return (np.random.default_rng(seed).random((count, 2, 4, 4)) * 9).astype(dtype)


def plainly(module, x, batch, softmax=False):
    with torch.inference_mode():
        out = torch.cat([module(part.to(torch.float32)) for part in torch.from_numpy(x).split(batch)])
        return (torch.softmax(out, -1) if softmax else out).numpy()


@pytest.fixture(params=["cpu", "cuda"])
def make(request):
    """(rows that fit) → (engine, the fake that runs out)."""

    def build(fits=None):
        api = FakeCuda(fits)
        hardware = FakeCpu(1) if request.param == "cpu" else CudaHardware(torch.device("cpu"), api, api.pin)
        return Engine(hardware), api

    torch.set_num_threads(1)
    return build


def test_predicts_what_the_module_gives_in_the_same_batches(make):
    engine, api = make()
    for name, output in (("a", "logits"), ("b", "probabilities")):
        engine.host(name, Limited(net(), api), batch=8, output=output, space="probabilities")
    x = rows(21)
    task = Predict(5, ("b", "a"), x)
    engine.stage(task)
    b, a = engine.predict(task)
    assert (b.member, a.member, a.segment, a.batch) == ("b", "a", 5, 8)
    assert b.values.tobytes() == plainly(net(), x, 8).tobytes()
    assert a.values.tobytes() == plainly(net(), x, 8, softmax=True).tobytes()
    assert a.values.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64, np.float16, bool])
def test_rows_of_any_type_are_cast_on_the_device(make, dtype):
    engine, api = make()
    engine.host("a", Limited(net(), api), batch=4, output="logits", space="logits")
    x = rows(6, dtype)
    [got] = engine.predict(Predict(0, ("a",), x))
    assert got.values.tobytes() == plainly(net(), x, 4).tobytes()


@given(st.integers(1, 20), st.integers(1, 32), st.integers(1, 30))
@pytest.mark.parametrize("family", ["cpu", "cuda"])
def test_running_out_of_memory_halves_the_batch_and_changes_nothing_else(family, fits, batch, count):
    api = FakeCuda(fits)
    hardware = FakeCpu(1) if family == "cpu" else CudaHardware(torch.device("cpu"), api, api.pin)
    engine = Engine(hardware)
    member = Limited(net(), api)
    engine.host("a", member, batch=batch, output="logits", space="logits")
    x = rows(count)
    [first] = engine.predict(Predict(0, ("a",), x))
    assert min(first.batch, count) <= fits and first.batch <= batch
    assert first.values.tobytes() == plainly(net(), x, first.batch).tobytes()
    member.seen.clear()
    [second] = engine.predict(Predict(1, ("a",), x))
    assert second.batch == first.batch and max(member.seen) <= fits, "the ceiling was not remembered"


def test_not_even_one_row_fits(make):
    engine, api = make(0)
    engine.host("a", Limited(net(), api), batch=8, output="logits", space="logits")
    with pytest.raises(DeviceOutOfMemory, match="member a: one row does not fit"):
        list(engine.predict(Predict(0, ("a",), rows(8))))


def test_members_that_misbehave_are_named(make):
    engine, _ = make()

    class Short(nn.Module):
        def forward(self, x):
            return x[1:].flatten(1)

    class Poison(nn.Module):
        def forward(self, x):
            return torch.where(torch.arange(len(x))[:, None] == 2, float("nan"), x.flatten(1))

    class Raising(nn.Module):
        def forward(self, x):
            raise KeyError("lost")

    for name, module in (("short", Short()), ("poison", Poison()), ("raising", Raising())):
        engine.host(name, module, batch=4, output="values", space="values")
    with pytest.raises(MemberError, match=r"member short returned \(3, 32\) for 4 rows"):
        list(engine.predict(Predict(0, ("short",), rows(4))))
    with pytest.raises(DataError, match="member poison gave NaN or infinity for 1 rows of segment 7, first: row 2"):
        list(engine.predict(Predict(7, ("poison",), rows(4))))
    with pytest.raises(MemberError, match=r"member raising raised KeyError.*\(input \(4, 2, 4, 4\)\)"):
        list(engine.predict(Predict(0, ("raising",), rows(4))))


def test_the_cpu_knows_torchs_own_words_for_no_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert CpuHardware(1).out_of_memory(caught.value)
    assert not CpuHardware(1).out_of_memory(RuntimeError("shape mismatch"))


def test_a_pinned_buffer_is_used_again_only_once_its_copy_is_through():
    api = FakeCuda()
    hardware = CudaHardware(torch.device("cpu"), api, api.pin)
    first = hardware.stage(rows(4))
    second = hardware.stage(rows(4, seed=1))
    assert len(api.pinned) == 2 and first.buffer is not second.buffer
    api.events[0].done = True
    third = hardware.stage(rows(4, seed=2))
    assert len(api.pinned) == 2 and third.buffer is first.buffer
    hardware.receive(second)
    assert api.current_stream().waited_for == [second.copied], "rows were read before their copy was waited for"


def test_running_out_while_staging_ahead_is_made_up_for_later():
    api = FakeCuda()

    class Tight(CudaHardware):
        full = True

        def stage(self, x):
            if self.full:
                raise api.OutOfMemoryError("no room yet")
            return super().stage(x)

    hardware = Tight(torch.device("cpu"), api, api.pin)
    engine = Engine(hardware)
    engine.host("a", net(), batch=4, output="logits", space="logits")
    task = Predict(0, ("a",), rows(4))
    engine.stage(task)
    hardware.full = False
    [got] = engine.predict(task)
    assert got.values.tobytes() == plainly(net(), rows(4), 4).tobytes()


@pytest.fixture
def member(weights):
    return MemberSpec(name="conv", factory="nets:Conv", weights=weights / "conv.safetensors")


def profile(member, batch_sizes=(4, 8), seconds=0.2):
    from conftest import ENSEMBLE

    [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
    sample = np.zeros((3, 3, 8, 8), np.float32)
    return measure(
        member,
        search_path=ENSEMBLE,
        device=device,
        space="probabilities",
        batch_sizes=batch_sizes,
        rows=sample,
        seconds=seconds,
    )


def test_profile(member, tmp_path):
    got = profile(member)
    assert got.output_shape == (4,) and got.tried == (4, 8)
    assert got.weights >= 4 * (8 * 27 + 8 + 4 * 32 + 4)
    assert all(of.rows_per_second > 0 and of.spread >= 0 for of in got.batches.values())
    assert list(profile(member, (4, 8, 16), seconds=0).batches) == [4]
    book, key = ProfileBook(tmp_path), ProfileKey("cpu", "digest", "eager", "<f4[3]", "2")
    assert not book.covers(key, [4])
    book.put(key, got)
    assert book.get(key) == got
    assert book.covers(key, [4, 8]) and not book.covers(key, [4, 16])
    (tmp_path / f"{key.digest}.json").write_text("{")
    assert book.get(key) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"factory": "nowhere:Net"}, "cannot import nowhere:Net"),
        ({"factory": "nets:Nothing"}, "cannot import nets:Nothing"),
        ({"arguments": {"height": 3}}, r"nets:Conv\(height=3\) raised TypeError"),
        ({"factory": "builtins:dict"}, "returned dict, not a torch.nn.Module"),
        ({"arguments": {"width": 9}}, r"does not fit nets:Conv \(0 missing, 0 unknown, 3 of another shape\)"),
        ({"factory": "nets:Linear"}, r"2 unknown.*unknown body"),
    ],
)
def test_members_that_cannot_be_loaded_say_why(member, changes, said):
    from dataclasses import replace

    from conftest import ENSEMBLE

    with pytest.raises(MemberError, match=said):
        load(replace(member, **changes), ENSEMBLE)


def test_weights_that_changed_are_refused_and_no_safetensors_is_told(member, tmp_path):
    from dataclasses import replace

    from conftest import ENSEMBLE

    before = member_digests(member, ENSEMBLE)
    assert load(member, ENSEMBLE, before) is not None
    with pytest.raises(MemberError, match="changed since the run was planned"):
        load(member, ENSEMBLE, before | {"weights": "other"})
    assert digest_of(before) != digest_of(member_digests(replace(member, arguments={"width": 8}), ENSEMBLE))
    (tmp_path / "bad.safetensors").write_bytes(b"no such thing")
    with pytest.raises(MemberError, match="is not a safetensors file"):
        load(replace(member, weights=tmp_path / "bad.safetensors"), ENSEMBLE)
    with pytest.raises(MemberError, match="No such file"):
        member_digests(replace(member, weights=tmp_path / "none"), ENSEMBLE)


def test_digests_are_taken_without_torch(member):
    from conftest import ENSEMBLE

    code = (
        "import sys; from pathlib import Path; from hpcens.specs import MemberSpec;"
        "from hpcens.runtimes.members import member_digests;"
        f"member_digests(MemberSpec(name='a', factory='nets:Conv', weights=Path({str(member.weights)!r})),"
        f" Path({str(ENSEMBLE)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


TOLD = """0, GPU-aaaa, NVIDIA A100-SXM4-40GB, 40960
1, GPU-bbbb, NVIDIA A100-SXM4-40GB, 40960
2, GPU-cccc, Tesla T4, 15360
"""


@pytest.mark.parametrize(
    ("visible", "kinds"),
    [
        (None, ["NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB", "Tesla T4"]),
        ("2,0", ["Tesla T4", "NVIDIA A100-SXM4-40GB"]),
        ("GPU-cc", ["Tesla T4"]),
        ("", []),
    ],
)
def test_gpus_are_those_that_are_visible_in_their_order(visible, kinds):
    found = parse_gpus(TOLD, visible, "n1")
    assert [device.kind for device in found] == [f"cuda {kind}" for kind in kinds]
    assert [(device.name, device.index) for device in found] == [(f"n1/cuda{i}", i) for i in range(len(kinds))]


def test_devices_of_this_host():
    spec = DevicesSpec(cpu=CpuSpec(count=3, cores=2, memory=1 << 30))
    found = discover(spec)
    assert [(device.cores, device.memory, device.family) for device in found] == [(2, 1 << 30, "cpu")] * 3
    assert len({device.name for device in found}) == 3 and len({device.kind for device in found}) == 1
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="2 GPUs are asked for, 0 are visible"):
            discover(DevicesSpec(cuda=CudaSpec(count=2)))
