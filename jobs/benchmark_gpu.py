"""How fast hpcens scores on one GPU, beside forward passes alone, plain PyTorch and Lightning, in one run and in turns.

python jobs/benchmark_gpu.py [FOLDER] [--rows 20000] [--rounds 3] [--only SCENARIO …] [--dry-run]

Ensembles: images (ResNet-50, ViT-B, ConvNeXt-T on 3×224×224, each in float32 and bfloat16, rows stored as float32 and
as uint8), 8 and 100 equal MLPs. Prints a line for each run and leaves FOLDER/benchmark-gpu.json: rows/s from the first
tenth on, GB/s of stored rows, seconds until the first rows, and where NVML is there (nvidia-ml-py) how busy the GPU was
and its joules per 1,000 rows. --dry-run: everything on the CPU with a few tiny rows, which shows that it runs and
nothing of how fast.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np

HERE = Path(__file__).parent
IMAGES = {"resnet": "ResNet50", "vit": "ViTB", "convnext": "ConvNeXtT"}
CONTENDERS = ("ideal", "hpcens", "PyTorch", "PyTorch tuned", "Lightning", "Lightning tuned")
BATCH, TUNED_BATCH = 32, 256
_LOOK_SECONDS = 0.1
_BYTE = 1 / 255


@dataclass(frozen=True, slots=True)
class Scenario:
    """An ensemble and the rows that it scores. factories: member → class in benchmark_models."""

    factories: dict[str, str]
    shape: tuple[int, ...]
    stored: str = "float32"
    precision: str = "float32"


def scenarios(side: int) -> dict[str, Scenario]:
    found = {
        f"images {precision} {stored}": Scenario(IMAGES, (3, side, side), stored, precision)
        for precision in ("float32", "bfloat16")
        for stored in ("float32", "uint8")
    }
    return found | {f"{n} MLPs": Scenario({f"mlp{i}": "Mlp" for i in range(n)}, (256,)) for n in (8, 100)}


@dataclass(slots=True)
class Card:
    """What NVML says of the first GPU while something runs; nothing where it is not there."""

    looks: list[tuple[float, float, float]] = field(default_factory=list)  # moment, busy share, joules so far
    _over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        with suppress(Exception):  # no library, no card, or one that does not count
            import pynvml

            pynvml.nvmlInit()
            card = pynvml.nvmlDeviceGetHandleByIndex(0)
            while not self._over.wait(_LOOK_SECONDS):
                busy = pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100
                self.looks.append((time.time(), busy, pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000))

    def during(self, task: Callable[[], Any]) -> Any:
        watching = threading.Thread(target=self.watch)
        watching.start()
        try:
            return task()
        finally:
            self._over.set()
            watching.join()

    def between(self, begin: float, end: float) -> tuple[float | None, float | None]:
        """Return the mean busy share, and joules."""
        looks = [look for look in self.looks if begin <= look[0] <= end]
        if len(looks) < 2:
            return None, None
        return statistics.mean(look[1] for look in looks), looks[-1][2] - looks[0][2]


def prepare(folder: Path, scenario: Scenario, rows: int) -> None:
    """Write the dataset, the weights and the YAML."""
    import torch
    from benchmark_models import __dict__ as models
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "benchmark_models.py", folder)
    draw = np.random.default_rng(0)
    with h5py.File(folder / "dataset.h5", "w") as file:
        made = file.create_dataset("rows", (rows, *scenario.shape), scenario.stored)
        for start in range(0, rows, 1024):
            some = draw.random((min(1024, rows - start), *scenario.shape), np.float32)
            made[start : start + len(some)] = some if scenario.stored == "float32" else (255 * some).astype(np.uint8)
    members = []
    for i, (name, factory) in enumerate(scenario.factories.items()):
        torch.manual_seed(i)
        save_file(models[factory]().state_dict(), folder / f"{name}.safetensors")
        steps = f", preprocess: [{{scale: {_BYTE}}}]" if scenario.stored == "uint8" else ""
        precision = f", precision: {scenario.precision}" if scenario.precision != "float32" else ""
        files = f"factory: 'benchmark_models:{factory}', weights: {name}.safetensors"
        members.append(f"  - {{name: {name}, {files}{precision}{steps}}}")
    lines = ["members:", *members, "task: multiclass", "rule: mean"]
    (folder / "hpcens.yaml").write_text("\n".join([*lines, "output: {path: hpcens.h5, datasets: [prediction]}", ""]))


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
            self._members.append(
                torch.compile(net) if tuned and device == "cuda" and len(scenario.factories) < 9 else net
            )

    def __call__(self, rows: Any) -> Any:
        import torch

        with torch.inference_mode():
            x = rows.to(self._device, non_blocking=True)
            x = (x * _BYTE if self._stored == "uint8" else x).to(self._precision).contiguous(memory_format=self._layout)
            return sum(torch.softmax(net(x).float(), 1) for net in self._members) / len(self._members)


def ideal(folder: Path, scenario: Scenario, device: str) -> Iterator[int]:
    """Rows that lie on the device, over and over; outputs stay there."""
    import torch

    with h5py.File(folder / "dataset.h5") as file:
        count, some = len(file["rows"]), torch.from_numpy(file["rows"][: 4 * TUNED_BATCH]).to(device)
    ensemble = Ensemble(folder, scenario, device, tuned=True)
    for start in range(0, count, TUNED_BATCH):
        size, place = min(TUNED_BATCH, count - start), start % (4 * TUNED_BATCH)
        ensemble(some[place : place + size])
        if device == "cuda" and start // TUNED_BATCH % 4 == 3:
            torch.cuda.synchronize()  # so that moments are true, and four batches are under way
        yield size


def loader(folder: Path, *, tuned: bool) -> Any:
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Rows(Dataset[Any]):
        def __init__(self) -> None:
            self._file: Any = None
            with h5py.File(folder / "dataset.h5") as file:
                self._rows = len(file["rows"])

        def __len__(self) -> int:
            return -(-self._rows // TUNED_BATCH) if tuned else self._rows

        def __getitem__(self, i: int) -> Any:
            self._file = self._file or h5py.File(folder / "dataset.h5")
            return torch.from_numpy(self._file["rows"][slice(i * TUNED_BATCH, (i + 1) * TUNED_BATCH) if tuned else i])

    workers, pinned = (min(4, os.cpu_count() or 1) if tuned else 0), tuned and torch.cuda.is_available()
    return DataLoader(Rows(), batch_size=None if tuned else BATCH, num_workers=workers, pin_memory=pinned)


def pytorch(folder: Path, scenario: Scenario, device: str, *, tuned: bool) -> Iterator[int]:
    ensemble = Ensemble(folder, scenario, device, tuned=tuned)
    for rows in loader(folder, tuned=tuned):
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
    trainer.predict(Module(), loader(folder, tuned=tuned), return_predictions=False)
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


def hpcens(folder: Path, device: str) -> list[tuple[float, int]]:
    """Plan, unless it was before, and score; return when how many rows were durable."""
    shutil.rmtree(folder / "hpcens.run", ignore_errors=True)
    (folder / "hpcens.h5").unlink(missing_ok=True)
    with (folder / "hpcens.log").open("w") as log:
        command = [sys.executable, "-m", "hpcens", "run", "dataset.h5", "-c", "hpcens.yaml"]
        environment = os.environ | {"HPCENS_CACHE": str(folder / "cache")}
        if subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False).returncode:
            sys.exit(f"hpcens failed: see {log.name}")
    epoch = max((folder / "hpcens.run" / "epochs").iterdir())
    events = [json.loads(line) for line in (epoch / "events.jsonl").read_text().splitlines()]
    done = [(event["time"], event["rows"]) for event in events if event["event"] == "progress"]
    return [(moment, rows - before) for (moment, rows), (_, before) in zip(done, [(0.0, 0), *done], strict=False)]


def once(folder: Path, scenario: str, name: str, device: str) -> dict[str, Any]:
    """Run a contender; return its figures."""
    card, began = Card(), time.time()

    def run() -> list[tuple[float, int]]:
        if name == "hpcens":
            return hpcens(folder, device)
        words = [sys.executable, __file__, str(folder), "--child", scenario, name, device]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]

    timeline: list[tuple[float, int]] = card.during(run)
    total, done, begin, before = sum(rows for _, rows in timeline), 0, timeline[0][0], 0
    for moment, rows in timeline:
        done += rows
        if not before and done >= total / 10:
            begin, before = moment, done
    end = timeline[-1][0]
    busy, joules = card.between(begin, end)
    with h5py.File(folder / "dataset.h5") as file:
        row_bytes = file["rows"].nbytes / len(file["rows"])
    speed = (total - before) / max(1e-9, end - begin) if total > before else 0.0
    return {
        "rows/s": speed, "GB/s": speed * row_bytes / 1e9, "start s": timeline[0][0] - began, "busy": busy,
        "J/1000": None if joules is None else 1000 * joules / max(1, total - before),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="hpcens on a GPU, beside the ideal and beside other tools.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("benchmark-gpu"))
    parser.add_argument("--rows", type=int, default=20000, help="of images; of MLPs fifty times as many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], help="scenarios whose names begin so")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, tiny")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    device, side = ("cpu", 32) if options.dry_run else ("cuda", 224)
    if options.child:
        child(
            options.folder, Scenario(**json.loads((options.folder / "scenario.json").read_text())), *options.child[1:]
        )
        return 0
    found = []
    names = [name for name in options.contenders if not name.startswith("Lightning") or find_spec("lightning")]
    for title, scenario in scenarios(side).items():
        if options.only and not any(title.startswith(begin) for begin in options.only):
            continue
        folder = options.folder.resolve() / title.replace(" ", "-")
        rows = (96 if options.dry_run else options.rows) * (50 if len(scenario.shape) == 1 else 1)
        prepare(folder, scenario, rows)
        (folder / "scenario.json").write_text(json.dumps(asdict(scenario)))
        if "hpcens" in names:
            hpcens(folder, device)  # its profiles are measured once, as an hour's job has them
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                figures = once(folder, title, name, device)
                found.append({"scenario": title, "contender": name, "round": number} | figures)
                said = "  ".join(f"{what} {figure:.3g}" for what, figure in figures.items() if figure is not None)
                print(f"{title:<24}{name:<16}round {number + 1}  {said}", flush=True)
                (options.folder / "benchmark-gpu.json").write_text(json.dumps(found, indent=1))
    for line in ratios(found):
        print(line)
    return 0


def ratios(found: list[dict[str, Any]]) -> Iterator[str]:
    """Tell hpcens' rows/s against every other's of the same round: the median and the worst."""
    speeds = {(run["scenario"], run["contender"], run["round"]): run["rows/s"] for run in found}
    for title, name in dict.fromkeys((run["scenario"], run["contender"]) for run in found):
        pairs = [
            speeds[title, "hpcens", number] / speed
            for (scenario, contender, number), speed in speeds.items()
            if (scenario, contender) == (title, name) and (title, "hpcens", number) in speeds and speed
        ]
        if pairs and name != "hpcens":
            yield f"{title}: hpcens to {name} {statistics.median(pairs):.3f}, worst {min(pairs):.3f}"


if __name__ == "__main__":
    sys.exit(main())
