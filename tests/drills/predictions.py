"""Predicted against measured, and simulated against real: ensembles × resources, run here one after another.

PYTHONPATH=tests python tests/drills/predictions.py FOLDER [ROUNDS [sleeping]]
    default 1; earlier calls on the folder count too

sleeping: members that only take their time, so that neither cores nor caches are shared and what is compared is the
reading, the messages, the waiting and the writing of real ranks with those of simulated ones.

A round runs every pair once, so that what else the machine does falls on all alike. Throughput is the rows of a run
over the seconds of its scoring; the prediction is the run's own plan, made from profiles measured before. Simulated is
that plan; replayed the same with every instance as fast as it was while it ran, which leaves out what profiles are off.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import save_file

from hpcens.planning.simulation import simulate
from hpcens.runs import Report
from hpcens.vocabulary import Plan

NETS = """
import time
import torch

class Wide(torch.nn.Module):
    def __init__(self, width=1024):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(768, width), torch.nn.ReLU(),
            torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    def forward(self, x):
        return self.layers(x)

class Conv(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(width, width, 3, padding=1),
            torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(width, 10))
    def forward(self, x):
        return self.layers(x)

class Sleeping(torch.nn.Module):
    def __init__(self, width=100):
        super().__init__()
        self.seconds = 1e-6 * width
        self.scale = torch.nn.Parameter(torch.ones(10))
    def forward(self, x):
        time.sleep(self.seconds * len(x))
        return x.flatten(1)[:, :10] * self.scale
"""
MEMBERS = {"wide": ("Wide", 1024), "wider": ("Wide", 2048), "conv": ("Conv", 16), "broad": ("Conv", 32)}
ENSEMBLES = {"one": ["wider"], "two": ["wide", "conv"], "four": list(MEMBERS)}
# Members that only take so many microseconds a row.
SLEEPING = {"s10": ("Sleeping", 10), "s40": ("Sleeping", 40), "s160": ("Sleeping", 160), "s400": ("Sleeping", 400)}
DOZING = {"quick": ["s10"], "mixed": ["s40", "s160"], "slow": ["s160", "s400"]}
RESOURCES = {"1 device": "{cpu: 1}", "2 devices": "{cpu: 2}"}
SECONDS = 6.0
ROWS = 60_000


def build(folder):
    """The nets, their weights, and a dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nets.py").write_text(NETS)
    sys.path.insert(0, str(folder))
    import nets

    torch.manual_seed(3)
    for name, (factory, width) in (MEMBERS | SLEEPING).items():
        save_file(getattr(nets, factory)(width).state_dict(), folder / f"{name}.safetensors")
    if not (folder / "dataset.h5").exists():
        with h5py.File(folder / "dataset.h5", "w") as file:
            file["images"] = np.random.default_rng(0).random((ROWS, 3, 16, 16), np.float32)


def hpcens(folder, *arguments):
    environment = os.environ | {"HPCENS_CACHE": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-m", "hpcens", *arguments], cwd=folder, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(folder, pair):
    """Rows/s predicted, measured and simulated of a pair, as many rows as take some seconds."""
    ensemble, resources = pair
    name = f"{ensemble}-{resources}".replace(" ", "-")
    lines = ["members:"]
    for member in (ENSEMBLES | DOZING)[ensemble]:
        factory, width = (MEMBERS | SLEEPING)[member]
        lines.append(f"  - {{name: {member}, factory: 'nets:{factory}', arguments: {{width: {width}}},"
                     f" weights: {member}.safetensors}}")  # fmt: skip
    lines += [f"devices: {RESOURCES[resources]}", "plan: {batch_sizes: [8, 32, 128], runtime: eager}"]
    lines += ["task: multiclass", f"output: {{path: {name}.h5}}"]
    config = folder / f"{name}.yaml"
    config.write_text("\n".join(lines) + "\n")
    plan = Plan.from_json(hpcens(folder, "plan", "dataset.h5", "-c", config.name, "--json"))
    rows = min(ROWS, int(plan.throughput * SECONDS))
    hpcens(folder, "run", "dataset.h5", "-c", config.name, "--limit", str(rows))
    (epochs,) = folder.glob(f"{name}*.run/epochs")
    (epoch,) = epochs.iterdir()
    report, plan = Report.load(epoch / "report.json"), Plan.load(epoch / "plan.json")
    for left in folder.glob(f"{name}.first*"):
        subprocess.run(["rm", "-r", str(left)], check=True)
    return {
        "pair": list(pair),
        "predicted": plan.throughput,
        "measured": report.rows_per_second,
        "simulated": simulate(plan).rows_per_second,
        "replayed": simulate(at_their_speed(plan, report)).rows_per_second,
    }


def at_their_speed(plan, report):
    """The plan with instances as fast as they were: what else a run takes is all that a simulation can be wrong in."""
    was = {(of.device, of.member): of.measured_speed or of.speed for of in report.instances}
    alone = ((of, device) for of in plan.hostings for device in of.devices)
    hostings = (replace(of, devices=(d,), speeds={m: was[d, m] for m in of.speeds}) for of, d in alone)
    return replace(plan, hostings=tuple(hostings))


def main(folder, rounds, ensembles):
    folder = Path(folder).resolve()
    build(folder)
    kept = folder / "figures.json"
    figures = json.loads(kept.read_text()) if kept.exists() else []
    pairs = [(ensemble, resources) for ensemble in ensembles for resources in RESOURCES]
    for _ in range(rounds):
        for pair in pairs:
            figures.append(run(folder, pair))
            print(figures[-1], flush=True)
            kept.write_text(json.dumps(figures))
    errors = {"predicted": [], "simulated": [], "replayed": []}
    for pair in pairs:
        of = [figure for figure in figures if tuple(figure["pair"]) == pair]
        middle = {key: statistics.median(f[key] for f in of) for key in ("measured", *errors)}
        for key, found in errors.items():
            found.append(middle[key] / middle["measured"] - 1)
        print(f"{pair}: {len(of)} runs, medians", *(f"{key} {value:,.0f}" for key, value in middle.items()),
              *(f"{100 * found[-1]:+.1f} %" for found in errors.values()))  # fmt: skip
    for key, found in errors.items():
        size = sorted(map(abs, found))
        print(f"{key}: median error {100 * statistics.median(size):.1f} %, worst {100 * size[-1]:.1f} %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Predicted and simulated against measured.")
    parser.add_argument("folder", help="keeps the figures of earlier calls")
    parser.add_argument("rounds", type=int, nargs="?", default=1)
    parser.add_argument("members", nargs="?", choices=["sleeping"], help="members that only take their time")
    options = parser.parse_args()
    main(options.folder, options.rounds, DOZING if options.members else ENSEMBLES)
