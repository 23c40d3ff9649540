"""The ideal: forward passes and nothing else. Members loaded and warm, inputs in RAM, rows dealt out to idle processes.

python jobs/benchmark_ideal.py search FOLDER              writes FOLDER/setting-ideal.json: the fastest found
python jobs/benchmark_ideal.py run FOLDER SETTING NAME    scores the dataset under that setting; NAME.json, NAME.h5

Knows nothing of hpcens: what a runtime is, is written here again in a line or two each.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing as mp
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

RUNTIMES = {
    "eager": (32, 64, 128),
    "channels_last": (32, 64, 128),
    "frozen": (32, 64, 128),
    "frozen_channels_last": (32, 64, 128),
    "openvino": (32, 64, 128),
    "compiled": (64,),
}
CORES = len(os.sched_getaffinity(0))
LAYOUTS = tuple((processes, CORES // processes) for processes in (CORES, 1)) if CORES > 1 else ((1, 1),)
_BLOCK = 128
_SEARCH_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Setting:
    """How the ensemble is run: so many processes of so many threads; of each member its runtime and batch size."""

    processes: int
    threads: int
    members: dict[str, tuple[str, int]]

    @staticmethod
    def load(folder: Path, name: str) -> Setting:
        raw = json.loads(Setting.path(folder, name).read_text())
        return Setting(raw["processes"], raw["threads"], {name: tuple(how) for name, how in raw["members"].items()})

    @staticmethod
    def path(folder: Path, name: str) -> Path:
        return folder / f"setting-{name}.json"


def keep_memory() -> None:
    """As hpcens does: freed memory is not given back to the kernel. To be called before torch is imported."""
    libc = ctypes.CDLL(None)
    for option, value in ((-1, (1 << 31) - 1), (-3, (1 << 31) - 1), (-8, 1)):  # trim, mmap threshold; arenas
        libc.mallopt(option, value)
    os.environ["THP_MEM_ALLOC_ENABLE"] = "1"


def load_member(folder: Path, name: str, runtime: str, batch: int) -> Callable[[Tensor], Tensor]:
    """A member as a function of (batch, 3, 64, 64), ready for its first batch."""
    import torch
    from benchmark_models import MEMBERS
    from safetensors.torch import load_file

    net = MEMBERS[name]()
    net.load_state_dict(load_file(folder / "weights" / f"{name}.safetensors"))
    layout = torch.channels_last if runtime in ("channels_last", "frozen_channels_last") else torch.contiguous_format
    made: Any = net.eval().to(memory_format=layout)  # type: ignore[call-overload, unused-ignore]
    example = torch.zeros(batch, 3, 64, 64).contiguous(memory_format=layout)
    with torch.inference_mode() if runtime == "eager" else torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if runtime.startswith("frozen"):
            made = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(made, example, check_trace=False)))
        elif runtime == "compiled":
            import torch._inductor.config as inductor

            inductor.freezing = True
            made = torch.compile(made)
        elif runtime == "openvino":
            return _openvino(torch.jit.trace(made, example, check_trace=False), example)

    def forward(x: Tensor) -> Tensor:
        logits: Tensor = made(x.contiguous(memory_format=layout))
        return logits

    return forward


def _openvino(traced: Any, example: Tensor) -> Callable[[Tensor], Tensor]:
    import openvino
    import torch

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    model = openvino.convert_model(traced, example_input=example)
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda x: torch.from_numpy(request.infer([x.numpy()], share_inputs=True)[0])


def mean_of(members: dict[str, Any], batches: dict[str, int], rows: Tensor) -> Tensor:
    """The mean of the members' softmax for (rows, 3, 64, 64); each member in batches of its own size."""
    import torch

    total = None
    for name, forward in members.items():
        step = batches[name]
        parts = [torch.softmax(forward(rows[i : i + step]), 1) for i in range(0, len(rows), step)]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        total = whole if total is None else total.add_(whole)
    assert total is not None
    return total.div_(len(members))


def run(folder: Path, setting: Setting, name: str) -> None:
    with h5py.File(folder / "dataset.h5") as file:
        rows = file["images"][:]
    context = mp.get_context("fork")  # the inputs are shared, and not yet is torch imported
    taken, barrier = context.Value("q", 0), context.Barrier(setting.processes)
    pipes = [context.Pipe(duplex=False) for _ in range(setting.processes)]
    workers = [context.Process(target=_score, args=(folder, setting, rows, taken, barrier, mine)) for _, mine in pipes]
    for worker in workers:
        worker.start()
    found = [theirs.recv() for theirs, _ in pipes]
    prediction = np.empty((len(rows), found[0][0][2].shape[1]), np.float32)
    timeline = []
    for start, moment, values in (block for blocks in found for block in blocks):
        prediction[start : start + len(values)] = values
        timeline.append((moment, len(values)))
    for worker in workers:
        worker.join()
    note(folder, name, timeline, prediction, inputs=rows.nbytes)


def note(
    folder: Path, name: str, timeline: list[tuple[float, int]], prediction: np.ndarray[Any, Any], inputs: int = 0
) -> None:
    """Leave what a contender did. timeline: (moment, rows that were ready then); inputs: bytes held of the dataset."""
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["prediction"] = prediction
    (folder / f"{name}.json").write_text(json.dumps({"timeline": sorted(timeline), "inputs": inputs}))


def _score(
    folder: Path, setting: Setting, rows: np.ndarray[Any, Any], taken: Any, barrier: Any, answer: Connection
) -> None:
    """Take the next block that nobody has, until there is none."""
    os.environ["OMP_NUM_THREADS"] = str(setting.threads)
    keep_memory()
    import torch

    torch.set_num_threads(setting.threads)
    inputs = torch.from_numpy(rows)
    members = {name: load_member(folder, name, *how) for name, how in setting.members.items()}
    batches = {name: batch for name, (_, batch) in setting.members.items()}
    blocks = [(0, 0.0, np.empty((0, 0), np.float32))]
    with torch.inference_mode():
        for size in {min(_BLOCK, len(rows)), len(rows) % _BLOCK or _BLOCK}:
            for _ in range(3):
                mean_of(members, batches, inputs[:size])
        barrier.wait()
        blocks = [(0, time.time(), np.empty((0, 1000), np.float32))]
        while True:
            with taken.get_lock():
                start = taken.value
                taken.value = start + _BLOCK
            if start >= len(rows):
                break
            values = mean_of(members, batches, inputs[start : start + _BLOCK]).numpy()
            blocks.append((start, time.time(), values))
    answer.send(blocks)


def search(folder: Path) -> Setting:
    """Every layout, runtime and batch size, all processes of a layout at once; the fastest ensemble."""
    best: tuple[float, Setting | None] = (0.0, None)
    members = sorted(path.stem for path in (folder / "weights").iterdir())
    for processes, threads in LAYOUTS:
        context = mp.get_context("fork")
        barrier = context.Barrier(processes)
        pipes = [context.Pipe(duplex=False) for _ in range(processes)]
        workers = [
            context.Process(target=_try_all, args=(folder, members, threads, barrier, mine)) for _, mine in pipes
        ]
        for worker in workers:
            worker.start()
        found = [theirs.recv() for theirs, _ in pipes]
        for worker in workers:
            worker.join()
        speeds = {how: sum(of[how] for of in found) for how in found[0] if all(how in of for of in found)}
        chosen = {}
        for member in members:
            how = max((how for how in speeds if how[0] == member), key=lambda how: speeds[how])
            chosen[member] = how
            print(f"{processes}×{threads}  {member:<12} {how[1]:<22} batch {how[2]:<4} {speeds[how]:8.0f} rows/s")
        together = 1 / sum(1 / speeds[how] for how in chosen.values())
        print(f"{processes}×{threads}  {'ensemble':<12} {together:37.0f} rows/s", flush=True)
        if together > best[0]:
            best = together, Setting(processes, threads, {name: (how[1], how[2]) for name, how in chosen.items()})
    assert best[1] is not None
    return best[1]


def _try_all(folder: Path, members: list[str], threads: int, barrier: Any, answer: Connection) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    keep_memory()
    import torch

    torch.set_num_threads(threads)
    found = {}
    for member in members:
        for runtime, batches in RUNTIMES.items():
            if runtime == "openvino" and not find_spec(runtime):
                continue
            forward = load_member(folder, member, runtime, batches[0])
            for batch in batches:
                rows = torch.rand(batch, 3, 64, 64)
                with torch.inference_mode():
                    for _ in range(3):
                        forward(rows)
                    barrier.wait()
                    found[member, runtime, batch] = batch * statistics.median(_speeds(forward, rows))
    answer.send(found)


def _speeds(forward: Callable[[Tensor], Tensor], rows: Tensor) -> Iterator[float]:
    """Calls a second, over several short stretches."""
    for _ in range(3):
        began, calls = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < _SEARCH_SECONDS / 3:
            forward(rows)
            calls += 1
        yield calls / passed


if __name__ == "__main__":
    given = Path(sys.argv[2])
    if sys.argv[1] == "search":
        Setting.path(given, "ideal").write_text(json.dumps(asdict(search(given))))
    else:
        run(given, Setting.load(given, sys.argv[3]), sys.argv[4])
