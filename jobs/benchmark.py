"""How fast hpcens scores, beside the ideal (forward passes alone) and beside other tools, in one run and in turns.

python jobs/benchmark.py [FOLDER] [--seconds 60 5] [--rounds 5] [--only NAME …] [--prefix 'taskset -c 0,1']

Every length is a benchmark of its own: so many rows that `--pace` is steady for so long. The long one is what a job of
hours has, the short one what its start and its end cost. Prints a table for each and leaves FOLDER/benchmark-60.json
and FOLDER/benchmark-60.svg, and so on. Every figure is of one round; ratios are taken
within a round, since a machine drifts, and told as the median and the range over the rounds. Steady: from the moment
a tenth of the rows is done until the last is. Ray Data, Lightning and the plot need the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from benchmark_ideal import Setting
from benchmark_measure import Measured

HERE = Path(__file__).parent
IDEAL, PEERS = str(HERE / "benchmark_ideal.py"), str(HERE / "benchmark_peers.py")
CLASSES = 1000
FIRST_ROWS = 3072  # to learn how fast this machine is
STEADY = 0.9
TOLERANCE = 1e-4
MEMORY_SECONDS = 5  # between looks at memory: each walks all pages, of hpcens those of ten processes
# name → arguments of the script behind it; what hpcens runs has none
CONTENDERS: dict[str, tuple[str, ...]] = {
    "ideal eager": (IDEAL, "run", "{folder}", "hpcens-eager", "{name}"),
    "hpcens eager": (),
    "ideal": (IDEAL, "run", "{folder}", "ideal", "{name}"),
    "hpcens auto": (),
    "Lightning tuned": (PEERS, "lightning", "{folder}", "hpcens-auto", "{name}", "--tuned"),
    "Ray Data tuned": (PEERS, "ray", "{folder}", "hpcens-auto", "{name}", "--tuned"),
    "Lightning": (PEERS, "lightning", "{folder}", "hpcens-eager", "{name}"),
    "Ray Data": (PEERS, "ray", "{folder}", "hpcens-eager", "{name}"),
    "DataLoader loop": (PEERS, "loader", "{folder}", "hpcens-eager", "{name}"),
}
PACES = ("hpcens auto", "hpcens eager")


@dataclass(frozen=True, slots=True)
class Run:
    """One contender, once. Seconds, rows/s, CPU seconds per 1,000 rows while steady, bytes (inputs left out).

    shares  of one core that reader and reducer used meanwhile
    """

    name: str
    round: int
    steady: float
    cpu: float
    start: float
    total: float
    memory: int
    difference: float
    shares: dict[str, float]


def main() -> int:
    options = asked()
    folder: Path = options.folder.resolve()
    bench = Benchmark(folder, shlex.split(options.prefix))
    bench.prepare()
    speed = bench.speed(options.pace)
    for seconds in options.seconds:
        compare(bench, options, seconds, -(-round(seconds * speed / STEADY) // 256) * 256)
    return 0


def compare(bench: Benchmark, options: argparse.Namespace, seconds: int, rows: int) -> None:
    """Run all contenders in turns on so many rows; print what was found, and leave it."""
    folder: Path = options.folder.resolve()
    bench.use(rows)
    print(f"\n{rows} rows: {options.pace} is to be steady for {seconds} s", flush=True)
    names = [name for name in CONTENDERS if name in (options.only or CONTENDERS) and available(name)]
    runs: list[Run] = []
    for number in range(options.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            runs.append(bench.once(name, number))
            print(f"round {number + 1}  {name:<16}{runs[-1].steady:8.1f} rows/s", flush=True)
    (folder / f"benchmark-{seconds}.json").write_text(json.dumps([asdict(run) for run in runs], indent=1))
    for line in table(runs):
        print(line)
    if find_spec("matplotlib"):
        draw(runs, folder / f"benchmark-{seconds}.svg")


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="hpcens beside the ideal and beside other tools.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("benchmark"), help="default: ./benchmark")
    parser.add_argument("--seconds", nargs="+", type=int, default=[60, 5], help="lengths (default: 60 5)")
    parser.add_argument("--pace", choices=PACES, default="hpcens auto", help="is steady for so long (default: auto)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=tuple(CONTENDERS), help="only these contenders")
    parser.add_argument("--prefix", default="", help="put before every command that is measured")
    return parser.parse_args()


def available(name: str) -> bool:
    needs = {"Lightning": "lightning", "Ray Data": "ray"}.get(name.removesuffix(" tuned"))
    if needs is None or find_spec(needs):
        return True
    print(f"{name} is left out: pip install 'hpcens[bench]'")
    return False


class Benchmark:
    """A folder with the dataset, the members and all settings, and what is measured in it."""

    def __init__(self, folder: Path, prefix: list[str]) -> None:
        self._folder = folder
        self._prefix = prefix
        self._rows = 0
        self._environment = os.environ | {"HPCENS_CACHE": str(folder / "cache")}

    def prepare(self) -> None:
        """All that is not there yet: files, profiles in every runtime, the settings of hpcens and of the ideal."""
        folder = self._folder
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "benchmark_models.py", folder)
        self.use(FIRST_ROWS)
        if not (folder / "weights" / "transformer.safetensors").exists():
            subprocess.run([sys.executable, str(HERE / "benchmark_models.py"), str(folder)], check=True)
        for runtime in ("eager", "auto"):
            (folder / f"hpcens-{runtime}.yaml").write_text(configuration(folder, runtime))
            if not Setting.path(folder, f"hpcens-{runtime}").exists():
                profile = ["-m", "hpcens", "profile", "--thorough", "dataset.h5", "-c", f"hpcens-{runtime}.yaml"]
                command = [*self._prefix, sys.executable, *profile]
                subprocess.run(command, cwd=folder, env=self._environment, check=True)
                self.once(f"hpcens {runtime}", -1)
        if not Setting.path(folder, "ideal").exists():
            subprocess.run([*self._prefix, sys.executable, IDEAL, "search", str(folder)], check=True)

    def use(self, rows: int) -> None:
        """Score a dataset of so many rows from now on; make it if it is not there."""
        path, name = self._folder / f"rows-{rows}.h5", self._folder / "dataset.h5"
        if not path.exists():
            with h5py.File(path.with_suffix(".part"), "w") as file:
                file["images"] = images(rows)
            path.with_suffix(".part").rename(path)
        name.unlink(missing_ok=True)
        name.symlink_to(path.name)
        for reference in self._folder.glob("ideal*.h5"):  # of other rows
            reference.unlink()
        self._rows = rows

    def speed(self, name: str) -> float:
        """Rows/s of a contender on the first dataset, measured once."""
        path = self._folder / f"{name.replace(' ', '-')}.speed"
        if not path.exists():
            self.use(FIRST_ROWS)
            path.write_text(str(self.once(name, -1).steady))
        return float(path.read_text())

    def once(self, name: str, number: int) -> Run:
        """Run a contender and measure it."""
        file = name.replace(" ", "-")
        arguments = [part.format(folder=self._folder, name=file) for part in CONTENDERS[name]]
        if not arguments:
            shutil.rmtree(self._folder / f"{file}.run", ignore_errors=True)
            (self._folder / f"{file}.h5").unlink(missing_ok=True)
            arguments = ["-m", "hpcens", "submit", "--local", "dataset.h5", "-c", f"{file}.yaml"]
        measure = [str(HERE / "benchmark_measure.py"), "--memory", str(MEMORY_SECONDS), "--"]
        command = [*self._prefix, sys.executable, *measure]
        with (self._folder / f"{file}.log").open("w") as log:
            done = subprocess.run(
                [*command, sys.executable, *arguments],
                cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            sys.exit(f"{name} failed: see {self._folder / file}.log")
        measured = Measured(**json.loads(done.stdout.splitlines()[-1]))
        if not CONTENDERS[name]:
            self._note_hpcens(file)
        return self._figures(name, number, measured, json.loads((self._folder / f"{file}.json").read_text()))

    def _note_hpcens(self, file: str) -> None:
        """What its events say, in the form that the others leave it; and its setting, for those who are tuned to it."""
        epoch = max((self._folder / f"{file}.run" / "epochs").iterdir())
        events = [json.loads(line) for line in (epoch / "events.jsonl").read_text().splitlines()]
        done = [(event["time"], event["rows"]) for event in events if event["event"] == "progress"]
        timeline = [
            (moment, rows - before) for (moment, rows), (_, before) in zip(done, [(0.0, 0), *done], strict=False)
        ]
        plan = json.loads((epoch / "plan.json").read_text())
        how = {name: (of["runtime"], of["batch"]) for name, of in plan["numerics"]["members"].items()}
        setting = Setting(len(plan["devices"]), plan["devices"][0]["cores"], how)
        signed = [path.read_text().splitlines() for path in (epoch / "ranks").glob("*.jsonl")]
        ranks = [json.loads(line) for lines in signed for line in lines if line]
        pids = {of["role"]: of["pid"] for of in ranks if of["role"] in ("reader", "reducer")}
        Setting.path(self._folder, file).write_text(json.dumps(asdict(setting)))
        (self._folder / f"{file}.json").write_text(json.dumps({"timeline": timeline, "inputs": 0, "ranks": pids}))

    def _figures(self, name: str, number: int, measured: Measured, told: dict[str, Any]) -> Run:
        timeline = told["timeline"]
        done, begin, before = 0, timeline[0][0], 0
        for moment, rows in timeline:
            done += rows
            if not before and done >= self._rows / 10:
                begin, before = moment, done
        end, rest = timeline[-1][0], done - before
        reference, mine = (self._folder / f"{of.replace(' ', '-')}.h5" for of in ("ideal eager", name))
        difference = 0.0
        if reference.exists() and number >= 0:
            with h5py.File(reference) as one, h5py.File(mine) as other:
                difference = float(np.abs(one["prediction"][:] - other["prediction"][:]).max())
        if not difference <= TOLERANCE:
            sys.exit(f"{name} gives other numbers: by up to {difference:.2g}")
        shares = {
            role: measured.cpu_between(begin, end, pid) / (end - begin) for role, pid in told.get("ranks", {}).items()
        }
        return Run(
            name, number, shares=shares,
            steady=rest / (end - begin), cpu=1000 * measured.cpu_between(begin, end) / rest,
            start=timeline[0][0] - measured.began, total=measured.ended - measured.began,
            memory=measured.memory - told["inputs"], difference=difference,
        )  # fmt: skip


def images(count: int) -> np.ndarray[Any, Any]:
    """Smooth blobs of three colours with a little noise, (count, 3, 64, 64) float32, mean 0 and deviation about 1."""
    draw = np.random.default_rng(0)
    x = np.linspace(0, 6, 64, dtype=np.float32)
    phase = draw.random((count, 3, 2, 1, 1), np.float32) * 6
    wide = draw.random((count, 1, 1, 1), np.float32) + 0.5
    blobs = np.sin(wide * x[:, None] + phase[:, :, 0]) * np.cos(wide * x + phase[:, :, 1])
    noisy = 2 * blobs + draw.normal(0, 0.1, (count, 3, 64, 64)).astype(np.float32)
    return noisy.astype(np.float32)


def configuration(folder: Path, runtime: str) -> str:
    members = "\n".join(
        f"  - {{name: {path.stem}, factory: 'benchmark_models:{path.stem.capitalize()}', weights: weights/{path.name}}}"
        for path in sorted((folder / "weights").iterdir())
    )
    return f"""members:
{members}
task: multiclass
rule: mean
plan: {{runtime: {runtime}}}
output: {{path: hpcens-{runtime}.h5, datasets: [prediction]}}
"""


def of_rounds(runs: list[Run], name: str) -> dict[int, Run]:
    return {run.round: run for run in runs if run.name == name}


def ratio(runs: list[Run], name: str, to: str) -> list[float]:
    """Steady rows/s of one to another's, round by round, ascending."""
    mine, other = of_rounds(runs, name), of_rounds(runs, to)
    return sorted(mine[i].steady / other[i].steady for i in mine.keys() & other.keys())


def table(runs: list[Run]) -> Iterator[str]:
    yield ""
    heads = ("rows/s", "of ideal eager", "of ideal", "CPU s/1000", "start s", "total s", "PSS MB", "difference")
    yield f"{'':<16}" + "".join(head.rjust(18 if head.startswith("of") else 12) for head in heads)
    shares: list[str] = []
    for name in dict.fromkeys(run.name for run in runs):
        mine = list(of_rounds(runs, name).values())
        ratios = (spread(ratio(runs, name, to)).rjust(18) for to in ("ideal eager", "ideal"))
        steady, cpu, start, total = (
            statistics.median(getattr(r, f) for r in mine) for f in ("steady", "cpu", "start", "total")
        )
        memory, difference = max(r.memory for r in mine), max(r.difference for r in mine)
        for role in mine[0].shares:
            shares.append(f"{name}: {role} {100 * statistics.median(run.shares[role] for run in mine):.1f} % of a core")
        yield (
            f"{name:<16}{steady:>12.1f}{''.join(ratios)}{cpu:>12.2f}{start:>12.2f}{total:>12.1f}"
            f"{memory / 1e6:>12.0f}{difference:>12.1e}"
        )
    yield from shares
    for name, to in (("hpcens auto", "ideal"), ("hpcens eager", "ideal eager")):
        mine, other = of_rounds(runs, name), of_rounds(runs, to)
        if rounds := mine.keys() & other.keys():
            cpu = sorted(mine[i].cpu / other[i].cpu for i in rounds)
            memory = max(mine[i].memory - other[i].memory for i in rounds) / 1e6
            yield f"{name} to {to}: CPU s a row {spread(cpu)}, at most {memory:.0f} MB of PSS more"
    if tuned := ratio(runs, "hpcens auto", "Lightning tuned"):
        yield f"hpcens auto to Lightning tuned: rows/s {spread(tuned)}"


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} {ratios[0]:.2f}–{ratios[-1]:.2f}" if ratios else "–"


def draw(runs: list[Run], path: Path) -> None:
    """Rows/s of every contender over the ideal's of the same round: a bar for the median, a dot for a round."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(run.name for run in runs))[::-1]
    figure, axes = pyplot.subplots(figsize=(8, 0.45 * len(names) + 1))
    for place, name in enumerate(names):
        found = ratio(runs, name, "ideal")
        if found:
            colour = (
                "tab:orange" if name.startswith("hpcens") else "tab:gray" if name.startswith("ideal") else "tab:blue"
            )
            axes.barh(place, statistics.median(found), color=colour, alpha=0.6)
            axes.plot(found, [place] * len(found), "k.", markersize=4)
    axes.set_yticks(range(len(names)), names)
    axes.axvline(1, color="k", linewidth=0.6)
    axes.set_xlabel("steady rows/s, of the ideal's in the same round")
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
