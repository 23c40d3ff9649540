"""What the pipeline costs: members that compute next to nothing, or only sleep.

python jobs/benchmark_pipeline.py free  [FOLDER] [--row-bytes 1024] [--rows 4000000] [--devices 2] [--rounds 3]
                                        [--codec contiguous gzip blosc-zstd]         MB/s end to end, over a bare loop's
python jobs/benchmark_pipeline.py sleep [FOLDER] [--devices 1 2 4 8] [--rows 8000]   rows/s of D devices, over D times 1
python jobs/benchmark_pipeline.py room  [FOLDER] [--rows 20000]                      memory at N and at 10 N

Figures are of a dataset in the page cache; each is printed with the part of a core that every rank used meanwhile.
`free` takes turns with `benchmark_bare.py`, which does on the same rows what the cores can do without an engine: the
ratio is the median over the rounds. Of compressed rows another ratio is that to decompressing them and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from benchmark_measure import Measured

from hpcens.runs import RunDirectory, signatures

HERE = Path(__file__).parent
_NETWORKS = '''import time
import torch


class Free(torch.nn.Module):
    """One linear layer: a row in, 16 bytes out."""

    def __init__(self, numbers):
        super().__init__()
        self.linear = torch.nn.Linear(numbers, 4)

    def forward(self, x):
        return self.linear(x)


class Sleep(torch.nn.Module):
    """As long a row as it is told, on no core at all."""

    def __init__(self, numbers, seconds):
        super().__init__()
        self.linear = torch.nn.Linear(numbers, 4)
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds * len(x))
        return self.linear(x)
'''


@dataclass(frozen=True, slots=True)
class Found:
    """One run. seconds: of scoring; steady: rows/s from a tenth of the rows on; shares: CPU of each rank meanwhile."""

    rows: int
    seconds: float
    steady: float
    start: float
    memory: int
    cpu: float
    shares: dict[str, float]

    def told(self) -> str:
        ranks = ", ".join(f"{role} {100 * share:.0f} %" for role, share in self.shares.items())
        return f"{self.rows / self.seconds:,.0f} rows/s; of a core: {ranks}; {self.memory / 1e6:,.0f} MB"


def main() -> int:
    parser = argparse.ArgumentParser(description="What the pipeline costs.")
    parser.add_argument("what", choices=("free", "sleep", "room"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("benchmark"))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--row-bytes", type=int, default=1024)
    parser.add_argument("--devices", type=int, nargs="+")
    parser.add_argument("--codec", nargs="+", choices=("contiguous", "gzip", "blosc-zstd"), default=["contiguous"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefix", default="", help="put before every command that is measured")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "pipeline_networks.py").write_text(_NETWORKS)
    {"free": free, "sleep": sleep, "room": room}[options.what](options)
    return 0


def free(options: argparse.Namespace) -> None:
    rows, row_bytes = options.rows or 4_000_000, options.row_bytes
    batch = max(16, (1 << 20) // row_bytes)
    member = f"factory: 'pipeline_networks:Free', arguments: {{numbers: {row_bytes // 4}}}"
    for codec in options.codec:
        dataset = data(options.folder, rows, row_bytes, codec)
        for devices in options.devices or [2]:
            compare(options, dataset, member, devices, rows, batch, codec)


def compare(
    options: argparse.Namespace, dataset: Path, member: str, devices: int, rows: int, batch: int, codec: str
) -> None:
    """Take turns, so that a machine that drifts drifts for all."""
    ways: dict[str, list[float]] = {"hpcens": [], "bare": []} | ({} if codec == "contiguous" else {"decompressed": []})
    for number in range(options.rounds):
        for way in ways if number % 2 else reversed(ways):
            if way == "hpcens":
                found = run(options, dataset, member, devices, rows, batch, "auto", profile=not ways[way])
                seconds = found.seconds
            else:
                more = ["--only-decompress"] if way == "decompressed" else []
                seconds = bare(options, dataset, devices, rows, batch, more)
            ways[way].append(rows * options.row_bytes / seconds / 1e6)
    speeds = "; ".join(f"{way} {statistics.median(of):,.0f} MB/s" for way, of in ways.items())
    ratios = "; ".join(
        f"hpcens/{way} {statistics.median(mine / other for mine, other in zip(ways['hpcens'], of, strict=True)):.2f}"
        for way, of in ways.items()
        if way != "hpcens"
    )
    print(
        f"{options.row_bytes:,} bytes a row, {codec}, {devices} devices: {speeds}; {ratios}; {found.told()}", flush=True
    )


def bare(options: argparse.Namespace, dataset: Path, processes: int, rows: int, batch: int, more: list[str]) -> float:
    command = [sys.executable, str(HERE / "benchmark_bare.py"), str(dataset), f"--processes={processes}"]
    done = subprocess.run(
        [*options.prefix.split(), *command, f"--rows={rows}", f"--batch={batch}", *more],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(json.loads(done.stdout)["seconds"])


def sleep(options: argparse.Namespace) -> None:
    """Every number of devices gets as many rows a device, so that all runs take equally long."""
    rows = options.rows or 8000
    devices = options.devices or [1, 2, 4, 8]
    dataset = data(options.folder, rows * max(devices), 1024)
    one = 0.0
    for count in devices:
        member = "factory: 'pipeline_networks:Sleep', arguments: {numbers: 256, seconds: 0.001}"
        found = run(options, dataset, member, count, rows * count, 32, "eager")  # a trace does not sleep
        one = one or found.steady / count
        part = found.steady / count / one
        print(f"{count} devices: {part:.3f} of {count} times the first; {found.told()}", flush=True)


def room(options: argparse.Namespace) -> None:
    rows = options.rows or 20_000
    dataset = data(options.folder, 10 * rows, 100 << 10)
    member = f"factory: 'pipeline_networks:Free', arguments: {{numbers: {100 << 8}}}"
    for count in (rows, 10 * rows):
        print(f"{count:,} rows: {run(options, dataset, member, 2, count, 64, 'auto').told()}", flush=True)


def data(folder: Path, rows: int, row_bytes: int, codec: str = "contiguous") -> Path:
    path = folder / f"rows-{row_bytes}-{rows}{'' if codec == 'contiguous' else f'-{codec}'}.h5"
    if not path.exists():
        draw, shape = np.random.default_rng(0), (max(1, (32 << 20) // row_bytes), row_bytes // 4)
        if codec == "contiguous":
            how, block = {}, draw.random(shape, np.float32)
        else:  # waves with a little noise of few levels: they compress about as photographs do
            how = {"chunks": (1, row_bytes // 4), **filters(codec)}
            waves = np.sin(np.linspace(0, 60, shape[1]) + np.arange(shape[0])[:, None])
            block = (np.round(waves * 60 + draw.normal(0, 2, shape)) / 128).astype(np.float32)
        with h5py.File(path, "w") as file:
            dataset = file.create_dataset("rows", (rows, row_bytes // 4), "f4", **how)
            for start in range(0, rows, len(block)):
                dataset[start : start + len(block)] = block[: rows - start]
    return path


def filters(codec: str) -> dict[str, Any]:
    if codec == "gzip":
        return {"compression": "gzip"}
    import hdf5plugin

    return dict(hdf5plugin.Blosc(cname="zstd"))


def run(
    options: argparse.Namespace,
    dataset: Path,
    member: str,
    devices: int,
    rows: int,
    batch: int,
    runtime: str,
    *,
    profile: bool = True,
) -> Found:
    """Score the first rows once to have profiles, unless there are, then again to measure."""
    folder: Path = options.folder
    weights(folder, member)
    (folder / "pipeline.yaml").write_text(
        f"members:\n  - {{name: only, {member}, weights: pipeline.safetensors, output: values}}\n"
        f"rule: mean\ndevices: {{cpu: {{count: {devices}, memory: 2GiB}}}}\n"
        f"plan: {{batch_sizes: [{batch}], runtime: {runtime}}}\n"
        "output: {path: pipeline.h5, datasets: [prediction]}\n"
    )
    command = [sys.executable, "-m", "hpcens", "submit", "--local", dataset.name, "-c", "pipeline.yaml"]
    environment = os.environ | {"HPCENS_CACHE": str(folder / "cache")}
    measure = [sys.executable, str(HERE / "benchmark_measure.py"), "--memory", "0.5", "--"]
    for limit in (min(rows, 2 * batch), rows) if profile else (rows,):
        name = f"pipeline.first-{limit}"
        shutil.rmtree(folder / f"{name}.run", ignore_errors=True)
        (folder / f"{name}.h5").unlink(missing_ok=True)
        done = subprocess.run(
            [*options.prefix.split(), *measure, *command, "--limit", str(limit)],
            cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True,
            stderr=(folder / "pipeline.log").open("w"),
        )  # fmt: skip
    return found_in(folder / f"{name}.run", Measured(**json.loads(done.stdout.splitlines()[-1])))


def weights(folder: Path, member: str) -> None:
    script = (
        "import re, sys, torch; from safetensors.torch import save_file; torch.manual_seed(0);"
        "save_file({'linear.weight': torch.randn(4, int(sys.argv[1])), 'linear.bias': torch.randn(4)}, sys.argv[2])"
    )
    numbers = member.partition("numbers: ")[2].partition("}")[0].partition(",")[0]
    subprocess.run([sys.executable, "-c", script, numbers, str(folder / "pipeline.safetensors")], check=True)


def found_in(run: Path, measured: Measured) -> Found:
    epoch = max((run / "epochs").iterdir())
    report: dict[str, Any] = json.loads((epoch / "report.json").read_text())
    events = [json.loads(line) for line in (epoch / "events.jsonl").read_text().splitlines()]
    done = [(event["time"], event["rows"]) for event in events if event["event"] == "progress"]
    (begin, before), (end, rows) = next(of for of in done if of[1] >= report["rows"] / 10), done[-1]
    last = next(moment for moment, count in done if count == rows)
    used = {
        own.role.rpartition("/")[2]: measured.cpu_between(begin, last, own.process.pid)
        for own in signatures(RunDirectory(run).newest)
        if str(own.process.pid) in measured.cpu
    }
    return Found(
        rows=report["rows"], seconds=report["seconds"], steady=(rows - before) / (last - begin),
        start=done[0][0] - measured.began, memory=measured.memory,
        cpu=measured.cpu_between(done[0][0], end),
        shares={role: seconds / (last - begin) for role, seconds in used.items()},
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
