"""hpcens on one GPU: beside the ideal, plain PyTorch and Lightning, each as written and tuned, with energy.

python jobs/benchmark_gpu.py [FOLDER] [--rows 20000] [--table-rows 8000000] [--rounds 3] [--only SCENARIO …]
                             [--seconds S] [--limit S] [--as-loaded] [--dry-run]

Ensembles: images (ResNet-50, ViT-B, ConvNeXt-T on 3×224×224, each in float32 and bfloat16, rows stored as float32 and
as uint8), 8 and 100 equal MLPs. Prints a line for each run and keeps FOLDER/benchmark-gpu.json after each: rows/s from
the first tenth on, GB/s of stored rows, seconds until the first rows, and where NVML is there (nvidia-ml-py) how busy
the GPU was and its joules per 1,000 rows; of hpcens also the seconds it measured members, and its report.
A run that fails, or takes longer than --limit, costs itself alone: what it did until then is counted, and told as cut.

With --seconds hpcens and the ideal are run over all scenarios first, then the others, until the time is up; what was
not run is told. hpcens then measures its members in the run itself. --as-loaded records CUDA graphs of the ideal and of
what is tuned, and does without torch.compile, which takes minutes. --dry-run: everything on the CPU with a few tiny
rows, which shows that it runs and nothing of how fast.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from benchmark_card import Card, Moment, timeline_of
from benchmark_loops import BYTE, Scenario, child

HERE = Path(__file__).parent
IMAGES = {"resnet": "ResNet50", "vit": "ViTB", "convnext": "ConvNeXtT"}
CONTENDERS = ("ideal", "hpcens", "PyTorch", "PyTorch tuned", "Lightning", "Lightning tuned")
FIRST = ("hpcens", "ideal")
# Seconds below which no further run is begun.
_LEAST_SECONDS = 10


def scenarios(options: argparse.Namespace) -> dict[str, Scenario]:
    """Return what is asked for, what tells most first."""
    side, rows, table = (32, 96, 960) if options.dry_run else (224, options.rows, options.table_rows)
    tables = {
        f"{n} MLPs": Scenario({f"mlp{i}": "Mlp" for i in range(n)}, (256,), max(1, table * 8 // n), batches=(32, 8192))
        for n in (8, 100)
    }
    images = {
        f"images {precision} {stored}": Scenario(IMAGES, (3, side, side), rows, stored, precision)
        for precision, stored in (
            ("bfloat16", "uint8"), ("float32", "float32"), ("bfloat16", "float32"), ("float32", "uint8"),
        )
    }  # fmt: skip
    found = {"8 MLPs": tables["8 MLPs"]} | images | {"100 MLPs": tables["100 MLPs"]}
    return {
        title: replace(
            scenario,
            compiled=not options.as_loaded,
            batches=(4, 8) if options.dry_run else scenario.batches,
        )
        for title, scenario in found.items()
        if not options.only or any(title.startswith(begin) for begin in options.only)
    }


def prepare(folder: Path, scenario: Scenario) -> None:
    """Write the dataset, the same rows over and over, the weights and the YAML."""
    import torch
    from benchmark_models import __dict__ as models
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "benchmark_models.py", folder)
    some = np.random.default_rng(0).random((min(65536, scenario.rows, (256 << 20) // 4 // int(np.prod(scenario.shape))),
                                            *scenario.shape), np.float32)  # fmt: skip
    some = some if scenario.stored == "float32" else (255 * some).astype(np.uint8)
    with h5py.File(folder / "dataset.h5", "w") as file:
        made = file.create_dataset("rows", (scenario.rows, *scenario.shape), scenario.stored)
        for start in range(0, scenario.rows, len(some)):
            made[start : start + len(some)] = some[: scenario.rows - start]
    members = []
    for i, (name, factory) in enumerate(scenario.factories.items()):
        torch.manual_seed(i)
        save_file(models[factory]().state_dict(), folder / f"{name}.safetensors")
        steps = f", preprocess: [{{scale: {BYTE}}}]" if scenario.stored == "uint8" else ""
        precision = f", precision: {scenario.precision}" if scenario.precision != "float32" else ""
        files = f"factory: 'benchmark_models:{factory}', weights: {name}.safetensors"
        members.append(f"  - {{name: {name}, {files}{precision}{steps}}}")
    lines = ["members:", *members, "task: multiclass", "rule: mean"]
    (folder / "hpcens.yaml").write_text("\n".join([*lines, "output: {path: hpcens.h5, datasets: [prediction]}", ""]))


def hpcens(folder: Path, limit: float) -> tuple[list[Moment], str, dict[str, Any]]:
    """Plan and score; return when how many rows were durable, why it failed, and what it says itself."""
    shutil.rmtree(folder / "hpcens.run", ignore_errors=True)
    (folder / "hpcens.h5").unlink(missing_ok=True)
    command = [sys.executable, "-m", "hpcens", "run", "dataset.h5", "-c", "hpcens.yaml"]
    environment = os.environ | {"HPCENS_CACHE": str(folder / "cache")}
    _, why = timeline_of(command, folder, folder / "hpcens.log", limit, environment)
    epochs = sorted((folder / "hpcens.run" / "epochs").glob("*"))
    if not epochs:
        return [], why or "it began nothing", {}
    lines = (epochs[-1] / "events.jsonl").read_text().splitlines() if (epochs[-1] / "events.jsonl").exists() else []
    events = [json.loads(line) for line in lines]
    moments, before = [], 0
    for event in (event for event in events if event["event"] == "progress" and event["rows"] > 0):
        moments.append((event["time"], event["rows"] - before))
        before = event["rows"]
    measuring = [event["time"] for event in events if event["event"] in ("profiling", "profiled")]
    told = {"measured members s": max(measuring) - min(measuring)} if measuring else {}
    if (epochs[-1] / "report.json").exists():
        report = json.loads((epochs[-1] / "report.json").read_text())
        kept = ("rows_per_second", "predicted_rows_per_second", "bottleneck", "sharing", "unregistered")
        told["report"] = {name: report[name] for name in kept if name in report}
        plan = json.loads((epochs[-1] / "plan.json").read_text())
        told["plan"] = plan["numerics"]["members"] if len(plan["numerics"]["members"]) < 9 else {}
    return moments, why, told


def once(folder: Path, scenario: Scenario, name: str, device: str, limit: float) -> dict[str, Any]:
    """Run a contender, for so many seconds at most; return its figures."""
    card, began, told = Card(), time.time(), dict[str, Any]()
    with card.watched():
        if name == "hpcens":
            timeline, why, told = hpcens(folder, limit)
        else:
            threads = {"OMP_NUM_THREADS": "1"} if device == "cpu" else {}
            words = [sys.executable, __file__, str(folder), "--child", name, device]
            environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder.parent / "inductor")} | threads
            timeline, why = timeline_of(words, folder, folder / f"{name.replace(' ', '-')}.log", limit, environment)
    if not timeline:
        return {"failed": why or "it scored nothing"} | told
    total, done, begin, before = sum(rows for _, rows in timeline), 0, timeline[0][0], 0
    for moment, rows in timeline:
        done += rows
        if not before and done >= total / 10:
            begin, before = moment, done
    end = timeline[-1][0]
    busy, joules = card.between(begin, end)
    row_bytes = int(np.prod(scenario.shape)) * np.dtype(scenario.stored).itemsize
    speed = (total - before) / (end - begin) if total > before and end > begin else 0.0
    speed = speed or told.get("report", {}).get("rows_per_second", 0.0)  # over before a second look
    figures = {
        "rows/s": speed, "GB/s": speed * row_bytes / 1e9, "start s": timeline[0][0] - began, "rows": total,
        "busy": busy, "J/1000": None if joules is None else 1000 * joules / max(1, total - before),
    }  # fmt: skip
    return figures | ({"cut": why} if why else {}) | told


def main() -> int:
    parser = argparse.ArgumentParser(description="hpcens on a GPU, beside the ideal and beside other tools.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("benchmark-gpu"))
    parser.add_argument("--rows", type=int, default=20000, help="of images")
    parser.add_argument("--table-rows", type=int, default=8000000, help="of 8 MLPs; 100 have the same work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], help="scenarios whose names begin so")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--seconds", type=float, help="in all; one round, the most telling runs first")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds of one run, of hpcens twice as many")
    parser.add_argument("--as-loaded", action="store_true", help="CUDA graphs in place of torch.compile")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, tiny")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.folder, Scenario(**json.loads((options.folder / "scenario.json").read_text())), *options.child)
        return 0
    options.folder = options.folder.resolve()
    names = [name for name in options.contenders if not name.startswith("Lightning") or find_spec("lightning")]
    deadline = time.monotonic() + options.seconds if options.seconds else float("inf")
    found: list[dict[str, Any]] = []
    for title, scenario, name, number in order(scenarios(options), names, options):
        folder = options.folder / title.replace(" ", "-")
        left = deadline - time.monotonic()
        about = {"scenario": title, "contender": name, "round": number}
        if left < _LEAST_SECONDS:
            figures: dict[str, Any] = {"failed": "not run: the time was up"}
        else:
            if not (folder / "scenario.json").exists():
                prepare(folder, scenario)
                (folder / "scenario.json").write_text(json.dumps(asdict(scenario)))
            limit = options.limit * (2 if name == "hpcens" else 1)  # it measures its members too
            figures = once(folder, scenario, name, "cpu" if options.dry_run else "cuda", min(limit, left))
        if number >= 0:
            found.append(about | figures)
            (options.folder / "benchmark-gpu.json").write_text(json.dumps(found, indent=1))
        print(
            f"{title:<24}{name:<16}{f'round {number + 1}' if number >= 0 else 'measures'}  {line(figures)}", flush=True
        )
    for told in ratios(found):
        print(told)
    return 0


def order(
    every: dict[str, Scenario], names: list[str], options: argparse.Namespace
) -> Iterator[tuple[str, Scenario, str, int]]:
    """Yield the runs: scenario, contender, round; −1 where hpcens measures its members, as an hour's job has done."""
    if options.seconds:
        for chosen in (FIRST, [name for name in names if name not in FIRST]):
            for title, scenario in every.items():
                yield from ((title, scenario, name, 0) for name in chosen if name in names)
        return
    for title, scenario in every.items():
        if "hpcens" in names:
            yield title, scenario, "hpcens", -1
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                yield title, scenario, name, number


def line(figures: dict[str, Any]) -> str:
    told = [f"{what} {figure:.3g}" for what, figure in figures.items() if isinstance(figure, (int, float))]
    return "  ".join([*told, *(f"{what}: {figures[what]}" for what in ("failed", "cut") if what in figures)])


def ratios(found: list[dict[str, Any]]) -> Iterator[str]:
    """Tell hpcens' rows/s against every other's of the same round: the median and the worst."""
    speeds = {(run["scenario"], run["contender"], run["round"]): run.get("rows/s", 0.0) for run in found}
    for title, name in dict.fromkeys((run["scenario"], run["contender"]) for run in found):
        pairs = [
            speeds[title, "hpcens", number] / speed
            for (scenario, contender, number), speed in speeds.items()
            if (scenario, contender) == (title, name) and speeds.get((title, "hpcens", number)) and speed
        ]
        if pairs and name != "hpcens":
            yield f"{title}: hpcens to {name} {statistics.median(pairs):.3f}, worst {min(pairs):.3f}"


if __name__ == "__main__":
    sys.exit(main())
