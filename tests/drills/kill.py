"""Kill drill: kill -9 of each role at random moments of a run under real MPI, then the same command again.

PYTHONPATH=tests python tests/drills/kill.py [KILLS_PER_ROLE]
    default 20; prints a line a role, exits 1 on any fault
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import h5py
import torch
from safetensors.torch import save_file
from support.project import ENSEMBLE, MEMBERS, Project

from hpcens.result.journal import Kind, read_journal

SLOW = """
import time
from nets_fast import *

class SlowLinear(Linear):
    def forward(self, x):
        time.sleep(0.06)
        return super().forward(x)
"""
ROWS = 800


def prepare(folder):
    """Weights, a plan of 50 segments, and the bytes and seconds of an undisturbed run."""
    sys.path.insert(0, str(ENSEMBLE))
    import nets

    (folder / "weights").mkdir()
    torch.manual_seed(7)
    for name, factory in MEMBERS.items():
        save_file(getattr(nets, factory)().state_dict(), folder / "weights" / f"{name}.safetensors")
    first = project(folder, "undisturbed")
    first.hpcens("plan", "dataset.h5", "-o", "plan.json")
    plan = json.loads((first.folder / "plan.json").read_text())
    plan["numerics"]["segment_rows"] = 16
    plan |= {"window": 8, "read_ahead": 6}
    (folder / "plan.json").write_text(json.dumps(plan))
    began = time.monotonic()
    first.hpcens("run", "dataset.h5", "--plan", str(folder / "plan.json"))
    return first.predictions().tobytes(), time.monotonic() - began


def project(folder, name):
    (folder / name).mkdir()
    made = Project(folder / name, folder / "weights", folder / "cache").data(ROWS)
    made.yaml(members=MEMBERS | {"linear": "SlowLinear"})
    (made.folder / "nets_fast.py").write_text((ENSEMBLE / "nets.py").read_text())
    (made.folder / "nets.py").write_text(SLOW)
    return made


def signature(run, role):
    """The signature of the rank with that role in the newest epoch, as soon as it is there."""
    for path in sorted(run.run.glob("epochs/*/ranks/*.json")):
        found = json.loads(path.read_text())
        if found["role"].startswith(role):
            return found
    return None


def kill_once(folder, name, role, moment, expected):
    """One kill and one resume; what came of it, or None where the run was over before its moment."""
    run = project(folder, name)
    command = ["run", "dataset.h5", "--plan", str(folder / "plan.json")]
    began = time.monotonic()
    process = run.start(*command)
    while (victim := signature(run, role)) is None or time.monotonic() - began < moment:
        if process.poll() is not None:
            return None
        time.sleep(0.002)
    try:
        os.kill(victim["pid"], signal.SIGKILL)
    except ProcessLookupError:
        process.communicate(timeout=60)
        return None
    killed = time.monotonic()
    _, error = process.communicate(timeout=60)
    if process.returncode == 0:
        return None
    ended = time.monotonic() - killed
    opens = True
    for path in run.run.glob("working-*.h5"):
        with h5py.File(path) as file:
            opens = opens and file["prediction"].shape[0] == ROWS
    content = read_journal(next(iter(sorted(run.run.glob("epochs/*/journal"), reverse=True)), Path("none")))
    kept = len(content.written()) if content else 0
    run.hpcens(*command)
    records = read_journal(max(run.run.glob("epochs/*/journal"))).records
    inherited = next(record.segment for record in records if record.kind == Kind.INHERITED)
    return {
        "ended": ended,
        "named": f"rank {victim['rank']} ({victim['role']})" in error,
        "opens": opens,
        "kept": kept,
        "only in flight again": inherited == kept,
        "identical": run.predictions().tobytes() == expected,
        "sound": "sound" in run.hpcens("verify", "dataset.predictions.h5"),
    }


def main(kills):
    faults = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        expected, seconds = prepare(folder)
        draw = random.Random(0)
        devices = json.loads((folder / "plan.json").read_text())["devices"]
        for role in ["reader", "reducer", *(f"device {device['name']}" for device in devices)]:
            found = []
            tries = 0
            while len(found) < kills:
                tries += 1
                if tries > 10 * kills:
                    raise RuntimeError(f"{role}: only {len(found)} of {tries} runs could be killed")
                one = kill_once(folder, f"{role.replace('/', '-')}-{tries}", role, draw.uniform(0.5, seconds), expected)
                if one is not None:
                    found.append(one)
            checks = ("named", "opens", "only in flight again", "identical", "sound")
            bad = {check: sum(not one[check] for one in found) for check in checks}
            faults += sum(bad.values()) + sum(one["ended"] > 10 for one in found)
            ends = sorted(one["ended"] for one in found)
            kept = sorted(one["kept"] for one in found)
            print(
                f"{role}: {len(found)} kills; ended after {ends[len(ends) // 2]:.2f} s (most {ends[-1]:.2f});"
                f" kept {kept[0]}–{kept[-1]} of {ROWS // 16} segments; faults {bad}",
                flush=True,
            )
    return 1 if faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill each role at random moments; the same command again.")
    parser.add_argument("kills", type=int, nargs="?", default=20, help="of each role")
    options = parser.parse_args()
    sys.exit(main(options.kills))
