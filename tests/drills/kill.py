"""Kill drill: kill -9 of each role in each stage of a run under real MPI, then the same command again.

PYTHONPATH=tests python tests/drills/kill.py [KILLS] [--seed N]
    default 2 of each role in each stage, 72 in all; prints a line each, exits 1 on any fault
"""

import argparse
import contextlib
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

from hpcens.processes import born
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
ROLES = ("reader", "reducer", "device", "witness", "mpiexec", "parent")


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
    made.yaml("output: {compression: gzip}", members=MEMBERS | {"linear": "SlowLinear"})
    (made.folder / "nets_fast.py").write_text((ENSEMBLE / "nets.py").read_text())
    (made.folder / "nets.py").write_text(SLOW)
    return made


def signature(run, role):
    """The signature of the rank with that role in the newest epoch, as soon as it is there."""
    return next((found for found in signed(run) if found["role"].startswith(role)), None)


def signed(run):
    """The signatures of all starts."""
    for path in sorted(run.run.glob("epochs/*/ranks/*.jsonl")):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):  # not (yet) whole
                yield json.loads(line)


def children(pid):
    """Processes that a process has started."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(path.parent.name)


def victim_of(run, process, role):
    """Return the process id of who plays a role, and its signature if it is a rank; None before it is there."""
    if role == "parent":
        return process.pid, None
    if role == "mpiexec":
        found = (pid for pid in children(process.pid) if "mpiexec" in Path(f"/proc/{pid}/cmdline").read_text())
        with contextlib.suppress(OSError):
            pid = next(found, None)
            return None if pid is None else (pid, None)
        return None
    found = signature(run, "device" if role == "witness" else role)
    if found is None:
        return None
    if role != "witness":
        return found["pid"], found
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{found['pid']}/stat").read_text().rpartition(")")[2].split()[1]), None
    return None


def newest(run, name):
    return next(iter(sorted(run.run.glob(f"epochs/*/{name}"), reverse=True)), None)


def scored(run):
    """Whether every row is durable: what follows is read back, packed and renamed."""
    events = newest(run, "events.jsonl")
    last = events.read_text().splitlines()[-1:] if events else []
    with contextlib.suppress(ValueError):
        return bool(last) and json.loads(last[0]).get("rows") == ROWS
    return False


STAGES = {
    "first second": lambda run: True,
    "planning": lambda run: newest(run, "events.jsonl") is not None and newest(run, "plan.json") is None,
    "scoring": lambda run: newest(run, "journal") is not None,
    "read back": scored,
    "compression": lambda run: any(run.run.glob("packed-*.h5")),
    "rename": lambda run: run.output.exists(),
}


def ended(run):
    """Wait until no rank lives: of some deaths the ranks learn late, or not at all, and complete what they do."""
    deadline = time.monotonic() + 150
    for one in signed(run):
        while born(one["pid"]) == one["born"]:
            assert time.monotonic() < deadline, f"rank {one['rank']} lives on"
            time.sleep(0.05)


def kill_once(folder, name, role, stage, delay, expected):
    """One kill and one resume; what came of it, or None where the run was over before its moment.

    delay  seconds after the stage has begun
    """
    run = project(folder, name)
    command = ["run", "dataset.h5", "--plan", str(folder / "plan.json")]
    process = run.start(*command)
    reached = None
    while (victim := victim_of(run, process, role)) is None or reached is None or time.monotonic() < reached + delay:
        if reached is None and STAGES[stage](run):
            reached = time.monotonic()
        if process.poll() is not None:
            return None
        time.sleep(0.002)
    pid, signed = victim
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        process.communicate(timeout=60)
        return None
    killed = time.monotonic()
    _, error = process.communicate(timeout=150)
    if process.returncode == 0:
        return None
    ended_after = time.monotonic() - killed
    ended(run)
    opens, whole = True, run.output.exists()
    for path in run.run.glob("working-*.h5"):
        with h5py.File(path) as file:
            opens = opens and file["prediction"].shape[0] == ROWS
    content = read_journal(newest(run, "journal") or Path("none"))
    kept = len(content.written()) if content else 0
    run.hpcens(*command)
    records = [] if whole else read_journal(max(run.run.glob("epochs/*/journal"))).records
    inherited = kept if whole else next(record.segment for record in records if record.kind == Kind.INHERITED)
    return {
        "ended": ended_after,
        "named": signed is None or f"rank {signed['rank']} ({signed['role']})" in error or "killed by" in error,
        "opens": opens,
        "kept": kept,
        "only in flight again": inherited == kept,
        "identical": run.predictions().tobytes() == expected,
        "sound": "sound" in run.hpcens("verify", "dataset.predictions.h5"),
    }


def main(kills, seed):
    faults = total = missed = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        expected, seconds = prepare(folder)
        draw = random.Random(seed)
        for stage in STAGES:
            for role in ROLES:
                found = []
                for number in range(kills):
                    name = f"{stage}-{role}-{number}".replace(" ", "-")
                    length = {"scoring": seconds / 2, "first second": 1.0}.get(stage, 0.05)
                    one = kill_once(folder, name, role, stage, draw.uniform(0, length), expected)
                    missed += one is None
                    found += [one] if one is not None else []
                checks = ("named", "opens", "only in flight again", "identical", "sound")
                bad = {check: n for check in checks if (n := sum(not one[check] for one in found))}
                faults += sum(bad.values()) + sum(one["ended"] > 150 for one in found)
                total += len(found)
                ends = max((one["ended"] for one in found), default=0.0)
                kept = [one["kept"] for one in found]
                print(
                    f"{stage}, {role}: {len(found)} kills; ended after {ends:.1f} s at most; kept {kept} of"
                    f" {ROWS // 16} segments; faults {bad}",
                    flush=True,
                )
    print(f"{total} kills, {missed} came too late, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill each role in each stage; the same command again.")
    parser.add_argument("kills", type=int, nargs="?", default=2, help="of each role in each stage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(main(options.kills, options.seed))
