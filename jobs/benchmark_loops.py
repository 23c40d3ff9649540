"""The loops that hpcens is held against on one GPU: the ideal, plain PyTorch and Lightning, as written and tuned."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

BYTE = 1 / 255


@dataclass(frozen=True, slots=True)
class Scenario:
    """An ensemble and the rows that it scores.

    factories   member → class in benchmark_models
    batches     rows of a batch as written, and tuned
    compiled    whether what is tuned is compiled; else CUDA graphs of it are recorded
    """

    factories: dict[str, str]
    shape: tuple[int, ...]
    rows: int
    stored: str = "float32"
    precision: str = "float32"
    batches: tuple[int, int] = (32, 256)
    compiled: bool = True


class Ensemble:
    """Stored rows, in host memory or on the device, to the mean of the members' softmax."""

    def __init__(self, folder: Path, scenario: Scenario, device: str, *, tuned: bool) -> None:
        import torch
        from benchmark_models import __dict__ as models
        from safetensors.torch import load_file

        self._device, self._precision, self._stored = device, getattr(torch, scenario.precision), scenario.stored
        self._layout = torch.channels_last if tuned and len(scenario.shape) == 3 else torch.contiguous_format
        self._members = []
        for name, factory in scenario.factories.items():
            net = models[factory]()
            net.load_state_dict(load_file(folder / f"{name}.safetensors"))
            net = net.eval().to(device, self._precision).to(memory_format=self._layout)
            compiled = scenario.compiled and tuned and device == "cuda" and len(scenario.factories) < 9
            self._members.append(torch.compile(net) if compiled else net)
        self._recorded: Any = None
        self._records = tuned and device == "cuda" and not scenario.compiled

    def __call__(self, rows: Any) -> Any:
        import torch

        with torch.inference_mode():
            if not self._records:
                return self._compute(rows)
            if self._recorded is None:
                self._recorded = self._record(rows.to(self._device))
            graph, static, output = self._recorded
            if rows.shape != static.shape:
                return self._compute(rows)
            static.copy_(rows, non_blocking=True)
            graph.replay()
            return output

    def _record(self, rows: Any) -> Any:
        """Record a CUDA graph for batches like this one."""
        import torch

        static, aside = rows.clone(), torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                self._compute(static)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a loader's thread pins memory meanwhile
            output = self._compute(static)
        return graph, static, output

    def _compute(self, rows: Any) -> Any:
        import torch

        x = rows.to(self._device, non_blocking=True)
        x = (x * BYTE if self._stored == "uint8" else x).to(self._precision).contiguous(memory_format=self._layout)
        return sum(torch.softmax(net(x).float(), 1) for net in self._members) / len(self._members)


def ideal(folder: Path, scenario: Scenario, device: str) -> Iterator[int]:
    """Rows that lie on the device, over and over; outputs stay there."""
    import torch

    _, batch = scenario.batches
    with h5py.File(folder / "dataset.h5") as file:
        count, some = len(file["rows"]), torch.from_numpy(file["rows"][: 4 * batch]).to(device)
    ensemble = Ensemble(folder, scenario, device, tuned=True)
    for start in range(0, count, batch):
        size, place = min(batch, count - start), start % (len(some) // batch * batch or len(some))
        ensemble(some[place : place + size])
        if device == "cuda" and start // batch % 4 == 3:
            torch.cuda.synchronize()  # so that moments are true, and four batches are under way
        yield size


def loader(folder: Path, scenario: Scenario, *, tuned: bool) -> Any:
    import torch
    from torch.utils.data import DataLoader, Dataset

    written, large = scenario.batches

    class Rows(Dataset[Any]):
        def __init__(self) -> None:
            self._file: Any = None
            with h5py.File(folder / "dataset.h5") as file:
                self._rows = len(file["rows"])

        def __len__(self) -> int:
            return -(-self._rows // large) if tuned else self._rows

        def __getitem__(self, i: int) -> Any:
            self._file = self._file or h5py.File(folder / "dataset.h5")
            return torch.from_numpy(self._file["rows"][slice(i * large, (i + 1) * large) if tuned else i])

    workers, pinned = (min(4, os.cpu_count() or 1) if tuned else 0), tuned and torch.cuda.is_available()
    return DataLoader(Rows(), batch_size=None if tuned else written, num_workers=workers, pin_memory=pinned)


def pytorch(folder: Path, scenario: Scenario, device: str, *, tuned: bool) -> Iterator[int]:
    ensemble = Ensemble(folder, scenario, device, tuned=tuned)
    for rows in loader(folder, scenario, tuned=tuned):
        ensemble(rows).cpu()
        yield len(rows)


def lightning(folder: Path, scenario: Scenario, device: str, *, tuned: bool) -> Iterator[int]:
    import lightning as lt
    import torch

    timeline: list[int] = []

    class Module(lt.LightningModule):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.ensemble = Ensemble(folder, scenario, device, tuned=tuned)
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def predict_step(self, rows: Any, index: int) -> Any:
            self.ensemble(rows).cpu()
            note(len(rows))

    def note(rows: int) -> None:
        timeline.append(rows)
        print(json.dumps([time.time(), rows]), flush=True)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lt.Trainer(accelerator="gpu" if device == "cuda" else "cpu", devices=1, **quiet)
    trainer.predict(Module(), loader(folder, scenario, tuned=tuned), return_predictions=False)
    yield from ()


def child(folder: Path, scenario: Scenario, name: str, device: str) -> None:
    """Be a contender: print a line of JSON, [moment, rows], for each batch."""
    tuned = name.endswith("tuned")
    if name == "ideal":
        batches = ideal(folder, scenario, device)
    else:
        batches = (lightning if name.startswith("Lightning") else pytorch)(folder, scenario, device, tuned=tuned)
    for rows in batches:
        print(json.dumps([time.time(), rows]), flush=True)
