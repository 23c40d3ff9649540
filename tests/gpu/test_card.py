"""What only a card shows. With HPCENS_GPU_TESTS=cpu the stand-in takes its place, where it can, to try these tests."""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import torch
from support.engines import Calls, Cuda, forward, hosting, only, rows
from support.member_files import exported, load, scripted
from torch import nn

from hpcens.engine import Engine
from hpcens.errors import RuntimeUnsuited
from hpcens.runtimes.cuda_graphs import CudaGraph
from hpcens.runtimes.recipe import Recipe
from hpcens.specs import MemberSpec, RunSpec
from hpcens.transports.ring import make_ring
from hpcens.vocabulary import Device, Measurement, Predict, ProfileKey

DRY = os.environ.get("HPCENS_GPU_TESTS") == "cpu"
COMPILED = bool(os.environ.get("HPCENS_COMPILED"))
on_the_card = pytest.mark.skipif(DRY, reason="the stand-in cannot show it")
RUNTIMES = ["eager", "channels_last", "cuda_graphs", "channels_last_cuda_graphs", *(["compiled"] if COMPILED else [])]
WIDE = 256 if not DRY else 8


def tell(**figures):
    """Add figures to those of the validation."""
    if (file := os.environ.get("HPCENS_VALIDATION")) is not None:
        with Path(file).open("a") as lines:
            lines.write(json.dumps(figures) + "\n")


class Card:
    """The GPU that is there, as an engine has it."""

    def __init__(self, memory=None):
        from hpcens.engine.cuda import CudaHardware, settle

        free = free_before()
        settle()
        self.device = torch.device("cuda", 0)
        self.hardware = CudaHardware(self.device, free_before=free, memory=memory)
        self.api = torch.cuda

    def exhaust(self):
        torch.empty(1 << 50, dtype=torch.uint8, device=self.device)


@cache
def free_before():
    """Return what is free of the GPU before this process takes any of it; None where it has begun to."""
    from hpcens.engine.gpus import gpus

    return None if torch.cuda.is_initialized() else gpus()[0].free


@pytest.fixture
def card():
    if DRY:
        yield Cuda()
        return
    made = Card()
    yield made
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def heavy(seed=0, width=WIDE):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, 16),
    ).eval()


IMAGES = np.random.default_rng(5).random((64, 3, 32, 32), np.float32)


def recipe(card, runtime, folder, seed=0, width=WIDE):
    """The heavy network as a member in a runtime."""

    def build(network):
        module = heavy(seed, width).requires_grad_(False)
        return forward(module if network is None else network.module, names=("images",))

    return Recipe(build, runtime, card.hardware, 1, (IMAGES,), folder / f"{runtime}-{seed}")


def made(card, runtime, folder, **options):
    try:
        return recipe(card, runtime, folder, **options).make(len(IMAGES))
    except RuntimeUnsuited as error:
        if DRY:
            pytest.skip(f"not without a card: {error.what}")
        raise


class TestRegisteredRing:
    """A reader's slots, registered: the card copies from them by itself."""

    SIZE = 64 << 20 if not DRY else 1 << 20

    def test_rows_go_to_the_card_from_a_slot_and_the_host_does_not_wait(self, card):
        ring = make_ring(3, self.SIZE, 1 << 30)
        began = perf_counter()
        assert card.hardware.register([ring.memory]) == ""
        seconds = perf_counter() - began
        slots = [ring.slot(i).view(np.float32) for i in range(3)]
        for i, slot in enumerate(slots):
            slot[...] = np.arange(slot.size, dtype=np.float32) + i
        for _ in range(2):  # memory for them is taken once
            taken = [card.hardware.receive(card.hardware.stage(slot)) for slot in slots]
            del taken
        if not DRY:
            torch.cuda.synchronize()
            assert card.hardware._registered.find(slots[0]).is_pinned()
            with torch.cuda.stream(card.hardware._copies):
                torch.cuda._sleep(400_000_000)  # 0.2 s: a copy that waits is told by it
        began = perf_counter()
        staged = [card.hardware.stage(slot) for slot in slots]
        launched = perf_counter() - began
        for slot, of in zip(slots, staged, strict=True):
            assert (card.hardware.receive(of).cpu().numpy() == slot).all()
        done = perf_counter() - began
        tell(registered_mib=ring.memory.nbytes / 2**20, seconds=seconds, launched_s=launched, copied_s=done)
        assert DRY or launched < 0.05 < done
        card.hardware.unregister()
        staged = card.hardware.stage(slots[1])  # as any memory
        assert (card.hardware.receive(staged).cpu().numpy() == slots[1]).all()

    def test_whole_segments_from_slots_that_are_written_again_at_once(self, card):
        """Slots are let go of when their segment is predicted, and then hold another's rows."""
        ring = make_ring(2, rows(64).nbytes, 1 << 30)
        assert card.hardware.register([ring.memory]) == ""
        engine = hosting(card, batch=16, a=Calls(lambda x: x.flatten(1) * 2))

        def read(segment):
            slot = ring.slot(segment % 2)[: rows(64).nbytes].view(np.float32).reshape(rows(64).shape)
            slot[...] = rows(64, seed=segment)
            task = Predict(segment, ("a",), (slot,))
            engine.stage(task)
            return task

        waiting = [read(0), read(1)]
        for segment in range(40):
            values = only(engine, waiting.pop(0)).values
            waiting.append(read(segment + 2))
            assert (values == 2 * rows(64, seed=segment).reshape(64, -1)).all()
        card.hardware.unregister()

    def test_memory_that_cannot_be_registered_leaves_no_error_behind(self, card):
        ring = make_ring(2, self.SIZE, 1 << 30)
        if DRY:
            card.api.registers = 0
        else:
            assert card.hardware.register([ring.memory, ring.memory[4096:]]).startswith("cudaHostRegister: ")
            assert not card.hardware._registered._pieces
        x = ring.slot(0).view(np.float32)
        x[...] = 3
        assert (card.hardware.receive(card.hardware.stage(x)).cpu().numpy() == 3).all()
        if not DRY:
            assert float(torch.full((8,), 2.0, device="cuda").sum()) == 16
        ring = make_ring(2, self.SIZE, 1 << 30)
        assert bool(card.hardware.register([ring.memory])) == DRY
        card.hardware.unregister()


@on_the_card
def test_it_is_the_one_that_was_asked_for():
    from hpcens.engine.gpus import gpus

    uuid = gpus()[0].uuid
    code = (
        "import os, sys; from hpcens.engine.pinning import index_of_own, pin; pin(sys.argv[1]); import torch;"
        "print(index_of_own(torch.cuda, 7), torch.cuda.get_device_properties(0).uuid, torch.cuda.device_count())"
    )
    said = subprocess.run([sys.executable, "-c", code, uuid], capture_output=True, text=True, check=True).stdout.split()
    tell(uuid=uuid, by_torch=said)
    assert said[0] == "0" and said[2] == "1" and (uuid.startswith("MIG") or uuid.removeprefix("GPU-") == said[1])
    none = "from hpcens.engine.pinning import pin; pin(None); import torch; print(torch.cuda.is_available())"
    assert subprocess.run([sys.executable, "-c", none], capture_output=True, text=True).stdout == "False\n"


def test_rows_are_there_once_received_however_long_the_copies_are_held_up(card):
    if not DRY:
        with torch.cuda.stream(card.hardware._copies):
            torch.cuda._sleep(200_000_000)
    engine = hosting(card, a=Calls(lambda x: x.flatten(1) * 2))
    tasks = [Predict(segment, ("a",), (rows(64, seed=segment),)) for segment in range(6)]
    for task in tasks:
        engine.stage(task)
    for task in tasks:
        assert (only(engine, task).values == 2 * task.rows[0].reshape(64, -1)).all()


def test_outputs_are_complete_once_fetched_and_members_do_not_mix(card):
    members = {name: Calls(lambda x, i=i: x.flatten(1) * (i + 1)) for i, name in enumerate("abcd")}
    engine = hosting(card, batch=16, **members)
    x = rows(100)
    answers = list(engine.predict(Predict(0, tuple("abcd"), (x,))))
    for i, answer in enumerate(answers):
        assert (answer.values == (i + 1) * x.reshape(100, -1)).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_same_bytes_each_time_in(card, runtime, tmp_path):
    engine = Engine(card.hardware)
    engine.host("a", made(card, runtime, tmp_path), batch=len(IMAGES))
    stage = lambda: tuple(card.hardware.receive(card.hardware.stage(array)) for array in (IMAGES,))  # noqa: E731
    first, _ = engine.run("a", stage())
    with torch.inference_mode():
        wanted = heavy()(torch.from_numpy(IMAGES)).numpy()
    tell(runtime=runtime, off=float(np.abs(first - wanted).max()))
    assert np.abs(first - wanted).max() < 1e-4
    for _ in range(3):
        card.hardware.release()
        again, _ = engine.run("a", stage())
        assert again.tobytes() == first.tobytes()
    engine.clear()
    engine.host("a", made(card, runtime, tmp_path), batch=len(IMAGES))
    assert engine.run("a", stage())[0].tobytes() == first.tobytes(), "prepared anew it is another"


def test_tf32_is_computed_for_the_member_that_says_so_and_not_beside_it(card):
    """The second is float32 to the last bits, whoever ran before it."""
    from hpcens.members.surroundings import surroundings_of

    torch.manual_seed(0)
    layer = nn.Sequential(nn.Flatten(), nn.Linear(3072, 64)).eval().requires_grad_(False)
    engine, wanted = Engine(card.hardware), layer.double()(torch.from_numpy(IMAGES).double()).numpy()
    off = {}
    for name, precision in (("plain", "float32"), ("narrow", "tf32"), ("again", "float32")):
        member = forward(layer.float(), name, precision=precision)
        member.surroundings = surroundings_of(MemberSpec(name=name, factory="a:b", precision=precision))
        engine.host(name, member, batch=len(IMAGES))
    values = {}
    for name in ("plain", "narrow", "again"):
        values[name], _ = engine.run(name, (card.hardware.receive(card.hardware.stage(IMAGES)),))
        off[name] = float(np.abs(values[name] - wanted).max())
    tell(off_from_float64=off)
    assert values["plain"].tobytes() == values["again"].tobytes() and off["plain"] < 1e-5
    assert DRY or 1e-5 < off["narrow"] < 1e-2


@on_the_card
def test_precisions_are_raced_against_float32(tmp_path):
    """Told: rows/s and difference of each. The member leaves its precision open."""
    from functools import partial

    from support.project import ENSEMBLE

    from hpcens.engine import open_hardware
    from hpcens.profiling.bench import measure
    from hpcens.profiling.precisions import race

    member = MemberSpec(name="conv", factory="nets:Conv", arguments={"width": 512}, output="values", precision="auto")
    device = Device("here/cuda0", "cuda", "cuda here", 8 << 30, 1, 0, "here")
    keys = {name: ProfileKey("cuda here", "digest", name, "row", "torch") for name in ("eager", "cuda_graphs")}
    rivals = {p: {n: replace(key, precision=p) for n, key in keys.items()} for p in ("tf32", "bfloat16", "float16")}
    about = dict(rivals=rivals, precision_tolerance=0.05)
    asked = Measurement(member, keys, (64,), 1.0, 10**9, 1e-4, True, **about)
    of = dict(inputs=("images",), device=device, space="values", rows=(IMAGES,), others=(IMAGES[::2],), cache=tmp_path)
    take = partial(measure, spec=RunSpec(members=(member,), search_path=ENSEMBLE), **of)
    found = {(k.precision, k.runtime): p for k, p in race(asked, take, open_hardware(device))}
    for (precision, runtime), got in found.items():
        tell(precision=precision, runtime=runtime, best=got.best, rounding=got.rounding, refused=got.refused)
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert all(found[p, "eager"].judged == 32 and 0 < found[p, "eager"].rounding < 0.05 for p in rivals)


@on_the_card
def test_an_onnx_member_runs_on_the_card_where_its_package_can(card, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        tell(onnx="no onnxruntime-gpu")
        pytest.skip("no onnxruntime-gpu")
    from support.member_files import X, as_onnx

    torch.manual_seed(0)
    linear = nn.Sequential(OrderedDict(flat=nn.Flatten(), head=nn.Linear(192, 4))).eval().requires_grad_(False)
    as_onnx(linear, tmp_path / "m.onnx")
    member = load(MemberSpec(name="a", onnx=tmp_path / "m.onnx"), space="logits")
    card.hardware.place(member)
    x = X.cuda()
    first = member(x)
    tell(onnx=member.passes.module._gpu, off=float((first.cpu() - linear(X)).abs().max()))
    assert member.passes.module._gpu == 0 and torch.equal(first, member(x)) and first.is_cuda
    assert (first.cpu() - linear(X)).abs().max() < 1e-5


@pytest.mark.skipif(not COMPILED, reason="it takes long to prepare")
def test_what_was_compiled_is_recorded(card, tmp_path):
    """One package for both, and the same values; a recorded one has no Python in its way."""
    if DRY:
        pytest.skip("the stand-in sees no operator of a package")
    engine, seconds = Engine(card.hardware), {}
    for runtime in ("compiled", "compiled_cuda_graphs"):
        of = replace(recipe(card, runtime, tmp_path), recorded=tmp_path / "compiled-0", package=tmp_path / "compiled-0")
        engine.host(runtime, of.make(len(IMAGES)), batch=len(IMAGES))
        staged = (card.hardware.receive(card.hardware.stage(IMAGES)),)
        first = engine.run(runtime, staged)[0]
        began = perf_counter()
        assert all(engine.run(runtime, staged)[0].tobytes() == first.tobytes() for _ in range(20))
        seconds[runtime] = (perf_counter() - began) / 20
    tell(seconds_a_batch=seconds, packages=len(list(tmp_path.glob("*.pt2"))))
    assert len(list(tmp_path.glob("*.pt2"))) == 1


def test_torchscript_is_the_same_at_its_first_call_and_its_third(card, tmp_path):
    scripted(heavy(), tmp_path / "net.pt", torch.from_numpy(IMAGES))
    member = load(MemberSpec(name="a", torchscript=tmp_path / "net.pt", output="values"), space="values")
    engine = Engine(card.hardware)
    engine.host("a", member, batch=len(IMAGES))
    calls = [only(engine, Predict(i, ("a",), (IMAGES,))).values.tobytes() for i in range(4)]
    assert len(set(calls)) == 1


def test_an_exported_program_makes_its_own_tensors_on_the_card(card, tmp_path):
    exported(Calls(lambda x: x.flatten(1) + torch.arange(3072.0)), tmp_path / "net.pt2", torch.from_numpy(IMAGES))
    engine = Engine(card.hardware)
    spec = MemberSpec(name="a", exported=tmp_path / "net.pt2", output="values")
    engine.host("a", load(spec, space="values"), batch=16)
    values = only(engine, Predict(0, ("a",), (IMAGES,))).values
    assert np.allclose(values, IMAGES.reshape(64, -1) + np.arange(3072.0, dtype=np.float32))


@on_the_card
def test_a_recording_that_fails_leaves_no_trace(card):
    """The stream is that of before, memory is freed on running out, and the next one can be recorded."""

    class Waits(nn.Module):
        def forward(self, x):
            if torch.cuda.is_current_stream_capturing():
                torch.cuda.synchronize()  # which no mode of torch's refuses
            return x * 2

    x = torch.ones(8, 1 << 20, device="cuda")
    before, stream = torch.cuda.mem_get_info()[0], torch.cuda.current_stream()
    for _ in range(3):
        with pytest.raises(RuntimeError):
            CudaGraph(Waits(), [x])
        assert torch.cuda.current_stream() == stream
    with pytest.raises(RuntimeUnsuited, match="waits for the GPU"):
        CudaGraph(Calls(lambda x: x * x.sum().item()), [x])
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    left = before - torch.cuda.mem_get_info()[0]
    tell(failed_recordings_left_mib=left / 2**20)
    assert left < 64 << 20
    free = torch.cuda.mem_get_info()[0]
    kept = torch.empty(int(free * 0.6), dtype=torch.uint8, device="cuda")
    del kept  # cached: the next one fits only where the allocator frees on running out
    torch.empty(int(free * 0.7), dtype=torch.uint8, device="cuda")
    assert (CudaGraph(Calls(lambda x: x + 1), [x])(x) == 2).all()


@on_the_card
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ten_members_take_what_was_planned_in(card, runtime, tmp_path):
    """Planned: context, all weights, the largest workspace. Real: what the card counts."""
    from hpcens.profiling import bench

    engine, weights, workspaces = Engine(card.hardware), [], []
    card.hardware.release()
    base = card.hardware.resident()
    count = 3 if runtime == "compiled" else 10
    for seed in range(count):
        single = Engine(card.hardware)
        card.hardware.release()
        before = card.hardware.resident()
        single.host("a", made(card, runtime, tmp_path, seed=seed, width=512), batch=len(IMAGES))
        card.hardware.release()
        weights.append(card.hardware.resident() - before)
        staged = tuple(card.hardware.receive(card.hardware.stage(array)) for array in (IMAGES,))
        card.hardware.release()
        resting = card.hardware.resident()
        card.hardware.start_peak()
        single.run("a", staged)
        workspaces.append(max(0, card.hardware.peak() - resting))
        del staged
        single.clear()
        if seed == 1 and runtime != "compiled":
            break
    planned = base + count * max(weights) + max(workspaces) + IMAGES.nbytes
    for seed in range(count):
        engine.host(f"m{seed}", made(card, runtime, tmp_path, seed=seed, width=512), batch=len(IMAGES))
    card.hardware.release()
    card.hardware.start_peak()
    for seed in range(count):
        only(engine, Predict(seed, (f"m{seed}",), (IMAGES,)))
    real = card.hardware.peak()
    tell(runtime=runtime, members=count, planned_mib=planned / 2**20, real_mib=real / 2**20, part=planned / real)
    assert bench and real <= planned * 1.01 and planned <= 1.05 * real + (64 << 20)


@on_the_card
def test_a_profile_says_what_the_card_will_hold(tmp_path):
    from support.project import ENSEMBLE

    from hpcens.profiling.bench import measure

    member = MemberSpec(name="conv", factory="nets:Conv", arguments={"width": 512}, output="values")
    device = Device("here/cuda0", "cuda", "cuda here", 8 << 30, 1, 0, "here")
    keys = {runtime: ProfileKey("cuda here", "digest", runtime, "row", "torch") for runtime in RUNTIMES}
    asked = Measurement(member, keys, (16, 64), 2.0, 10**9, 1e-4, True)
    spec = RunSpec(members=(member,), search_path=ENSEMBLE)
    of = dict(spec=spec, inputs=("images",), device=device, space="values", rows=(IMAGES,), cache=tmp_path)
    found = {key.runtime: profile for key, profile in measure(asked, **of)}
    for runtime, profile in found.items():
        batches = {b: (of.rows_per_second, of.workspace) for b, of in profile.batches.items()}
        tell(
            profile=runtime, weights=profile.weights, context=profile.context, batches=batches, refused=profile.refused
        )
    assert found["eager"].batches and found["cuda_graphs"].batches, found["cuda_graphs"].refused
    assert 200 << 20 < found["eager"].context < 3 << 30
    torch.cuda.set_per_process_memory_fraction(1.0)


@on_the_card
@pytest.mark.parametrize("rest_mib", [600, 200, 60])
def test_convolutions_under_little_memory_run_in_smaller_batches_or_are_told(card, rest_mib):
    """Whatever cuDNN says of it."""
    torch.cuda.empty_cache()
    engine = Engine(card.hardware)
    engine.host("a", forward(heavy(width=512)), batch=64)
    wanted, _ = engine.run("a", (torch.from_numpy(IMAGES).cuda(),))
    engine.clear()
    engine.host("a", forward(heavy(width=512)), batch=64)
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (rest_mib << 20)) / total)
    from hpcens.errors import DeviceOutOfMemory

    with suppress(DeviceOutOfMemory):
        values, batch = engine.run("a", (torch.from_numpy(IMAGES).cuda(),))
        tell(rest_mib=rest_mib, batch=batch, same_bytes=values.tobytes() == wanted.tobytes())
        assert np.abs(values - wanted).max() < 1e-4


def test_running_out_halves_the_batch(card):
    calls = []

    def scarce(x):
        calls.append(len(x))
        if len(x) > 8:
            card.exhaust()
        return x.flatten(1)

    answer = only(hosting(card, batch=64, a=Calls(scarce)), Predict(0, ("a",), (rows(64),)))
    assert answer.batch == 8 and calls[:4] == [64, 32, 16, 8] and (answer.values == rows(64).reshape(64, -1)).all()


@on_the_card
def test_no_more_is_taken_than_was_given():
    card = Card(memory=2 << 30)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
    assert card.hardware.resident() < 2 << 30
    torch.cuda.set_per_process_memory_fraction(1.0)


@on_the_card
def test_an_assertion_on_the_card_is_the_networks_and_no_failure_of_it():
    code = """
import sys; sys.path[:0] = ["tests"]
import torch
from support.engines import Calls, hosting, only, rows
from hpcens.engine.cuda import CudaHardware
from hpcens.errors import MemberError, DeviceFailed
from hpcens.vocabulary import Predict
from types import SimpleNamespace
card = SimpleNamespace(hardware=CudaHardware(torch.device("cuda", 0), name="GPU x of here"))
table = torch.zeros(4, 4, device="cuda")
def beyond(x):
    made = table[torch.full((len(x),), 99, device="cuda")]
    torch.cuda.synchronize()
    return made
try:
    only(hosting(card, a=Calls(beyond)), Predict(0, ("a",), (rows(4),)))
except MemberError as error:
    print("member", flush=True)
except DeviceFailed as error:
    print("device", flush=True)
import os; os._exit(0)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout == "member\n", said.stderr[-500:]


@on_the_card
def test_a_process_whose_card_broke_goes_on_and_ends_in_order():
    """An assertion stands for what breaks: no call to the card works after it, those of destructors neither."""
    code = """
import sys; sys.path[:0] = ["tests"]
import torch
from support.engines import Calls, hosting, net, rows
from hpcens.engine import Guard, guard as module
from hpcens.engine.cuda import CudaHardware
from hpcens.transports import worker_tasks
from hpcens.vocabulary import Predict
from types import SimpleNamespace
card = SimpleNamespace(hardware=CudaHardware(torch.device("cuda", 0), name="GPU x of here"))
card.hardware.failure = lambda error: str(error) if isinstance(error, RuntimeError) else ""
module.says_broken = lambda text: True
table = torch.zeros(4, 32, device="cuda")
def beyond(x):
    return x.flatten(1) + table[torch.full((len(x),), 99, device="cuda")]
engine = hosting(card, a=net(), b=Calls(beyond), c=net(1))
guard = Guard(engine.hardware)
tasks = worker_tasks(guard.around(engine.predict), guard.ahead(engine.stage))
every = [Predict(segment, ("a", "b", "c"), (rows(64),), segment) for segment in range(3)]
for task in every:
    tasks.prepare(task)
for task in every:
    print(type(list(tasks.run(task))[-2]).__name__, flush=True)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (said.stdout, said.returncode) == ("Unable\n" * 3, 0), said.stderr[-500:]


def test_a_whole_run_of_graphs_beside_what_is_staged(card, tmp_path):
    """Rows are staged by another thread all the while."""
    from concurrent.futures import ThreadPoolExecutor

    engine = Engine(card.hardware)
    runtime = "eager" if DRY else "cuda_graphs"
    engine.host("a", made(card, runtime, tmp_path), batch=len(IMAGES))
    tasks = [Predict(segment, ("a",), (np.roll(IMAGES, segment, 0),)) for segment in range(20)]
    wanted = only(engine, tasks[0]).values
    with ThreadPoolExecutor(1) as thread:
        for i, task in enumerate(tasks):
            if i + 1 < len(tasks):
                thread.submit(engine.stage, tasks[i + 1])
            assert only(engine, task).values.tobytes() == np.roll(wanted, i, 0).tobytes()
