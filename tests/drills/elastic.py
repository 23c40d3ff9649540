"""Elastic drill: 12 worlds on 4 nodes of a Slurm cluster share one dataset, and rarely in peace; round after round.

PYTHONPATH=tests python tests/drills/elastic.py [--rounds 20] [--seed 0]

Two submissions (one of 6 worlds, 4 at once, on a partition that others may preempt; one of 3 that starts late), 2
worlds whose time limit is shorter than a block takes them, and one that joins without Slurm. Meanwhile, at moments
drawn anew: a rank is killed, the process that watches over a world is, a node with all that runs on it, a node's slurmd
and steps alone so that its ranks live on, and a node is taken by a job that preempts. Of each round: is the result
whole, and that of one world byte for byte? Was any batch scored whose segment was durable before? How often had the
same command to be run again? Each round prints a line, and the exit code is how many failed.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import save_file
from support.clusters import CLUSTER, Cluster, name_of, parent, processes
from support.project import ENSEMBLE, Project

from hpcens.result.journal import read_journal

NODES, ROWS, BATCH = 4, 19200, 16
MOST_AGAIN, MOST_SECONDS = 3, 400
# A batch takes a while where there is a file `slow`, twelve times as long in jobs that the file `slower` names. What
# ranks score is noted by the number that is each row's first value; rows made up for profiles have none.
LOGGED = f"""
import os
import time
from pathlib import Path
import nets_fast

HERE = Path(__file__).parent
JOB, _, ARRAY = os.environ.get("DRILL", "..").split(".")

class Linear(nets_fast.Linear):
    def forward(self, x):
        first = int(x[0, 0, 0, 0]) if x[0, 0, 0, 1] == {ROWS + 1} else -1
        began = time.time()
        slower = HERE / "slower"
        if (HERE / "slow").exists():
            time.sleep(0.2 * (12 if ARRAY and slower.exists() and ARRAY in slower.read_text().split() else 1))
        if first >= 0 and "PMI_RANK" in os.environ and (HERE / "scored").exists():
            with open(HERE / "scored" / str(os.getpid()), "a") as file:
                file.write(f"{{first}} {{began}} {{JOB}}\\n")
        return super().forward(x)
"""
# Ranks are started without what Slurm leaves in the environment.
SETUP = "setup=export DRILL=$SLURM_JOB_ID.$SLURMD_NODENAME.$SLURM_ARRAY_JOB_ID"
CONF = """PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=15 PreemptMode=REQUEUE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""
KINDS = ("rank", "watcher", "node", "slurmd", "preempt", "rank")


def prepare(place):
    """What all rounds share: weights, and a dataset of which every row knows its number."""
    (place / "weights").mkdir()
    sys.path.insert(0, str(ENSEMBLE))
    import nets

    torch.manual_seed(7)
    save_file(nets.Linear().state_dict(), place / "weights" / "linear.safetensors")
    rows = np.random.default_rng(0).random((ROWS, 3, 8, 8), np.float32)
    rows[:, 0, 0, 0] = np.arange(ROWS)
    rows[:, 0, 0, 1] = ROWS + 1
    with h5py.File(place / "dataset.h5", "w") as file:
        file["images"] = rows


def a_project(place, folder):
    folder.mkdir()
    made = Project(folder, place / "weights", place / "cache")
    made.patience = MOST_SECONDS
    os.link(place / "dataset.h5", made.dataset)
    made.yaml("slurm: {time: 10}", {"linear": "Linear"}, "[16], runtime: eager", "{cpu: 1}")
    shutil.copy(ENSEMBLE / "nets.py", folder / "nets_fast.py")
    (folder / "nets.py").write_text(LOGGED)
    return made


def content(path):
    with h5py.File(path) as file:
        names = [*file.attrs["outputs"], "hpcens/checksums", "hpcens/written"]
        return {name: file[name][:].tobytes() for name in names} | {"made of": file.attrs["fingerprint"]}


class Round:
    """One dataset that worlds share from the first submission to the result."""

    def __init__(self, drill, place, number, seed):
        self.drill = drill
        self.place = place
        self.name = f"round {number}"
        self.draw = random.Random(seed)
        self.project = a_project(place, place / f"round-{number}")
        self.project.environment |= drill.environment
        (self.project.folder / "scored").mkdir()
        (self.project.folder / "slow").touch()
        self.run = self.project.run
        self.blocks = self.run / "blocks"
        self.durable = {}  # segment → when it was seen to be
        self.looked = {}
        self.survivors = set()  # jobs whose ranks outlived their node
        self.happened = Counter()

    def go(self):
        """Live it; whether it is without fault."""
        began = time.monotonic()
        joined = self._begin()
        moments = sorted(self.draw.uniform(0.02, 0.85) for _ in KINDS)
        plans = list(zip(moments, self.draw.sample(KINDS, len(KINDS)), strict=True))
        again = 0
        while True:
            self._look()
            self._mend_nodes()
            share = len(self.scored()) * BATCH / ROWS
            if plans and share >= plans[0][0]:
                self._disturb(plans.pop(0)[1])
            if share > 0.9:
                (self.project.folder / "slower").unlink(missing_ok=True)
            idle = joined.poll() is not None and not self._queue()
            if self.project.output.exists() and idle:
                break
            if idle:
                again += 1
                if again > MOST_AGAIN:
                    break
                joined = self.project.start("run", "--join", "dataset.predictions.run")
            if time.monotonic() - began > MOST_SECONDS:
                break
            time.sleep(0.2)
        return self._judge(time.monotonic() - began, again)

    def _begin(self):
        submit = ["submit", "dataset.h5", "--no-wait", "--parsable", "--slurm", SETUP]
        self.project.hpcens(*submit, "--array", "6%4", "--slurm", "partition=low")
        self.project.hpcens(*submit, "--array", "3", "--slurm", "begin=now+15")
        slow = self.project.hpcens(*submit, "--array", "2", "--slurm", "time=2", "--slurm", "drain_seconds=59")
        (self.project.folder / "slower").write_text(slow)
        return self.project.start("run", "--join", "dataset.predictions.run")

    def scored(self):
        """Return first row of a batch → when it was begun, and in which job."""
        found = defaultdict(list)
        for path in (self.project.folder / "scored").iterdir():
            for line in path.read_text().splitlines():
                if len(words := line.split(" ")) == 3:
                    found[int(words[0])].append((float(words[1]), words[2]))
        return found

    def _queue(self):
        return self.drill.slurm("squeue", "-h", "-o", "%A").split()

    def _look(self):
        """See which segments are durable."""
        for path in self.blocks.glob("*.run/epochs/*/journal"):
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                if self.looked.get(path) != size and (kept := read_journal(path)) is not None:
                    self.looked[path] = size
                    for segment in kept.written():
                        self.durable.setdefault(segment, time.time())

    def _tasks(self):
        """Return this round's processes of jobs: pid → job, node."""
        return {pid: own for pid in processes() if (own := self._job_of(pid))}

    def _job_of(self, pid):
        try:
            if not Path(f"/proc/{pid}/cwd").resolve().is_relative_to(self.project.folder):
                return None
            variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        except OSError:
            return None
        words = next((each.partition("=")[2].split(".") for each in variables if each.startswith("DRILL=")), None)
        return (words[0], words[1]) if words else None

    def _disturb(self, kind):
        tasks = self._tasks()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if kind in ("rank", "watcher"):
                word = "hpcens.worlds.rank" if kind == "rank" else "hpcens.worlds.elements"
                pids = [pid for pid in tasks if word in Path(f"/proc/{pid}/cmdline").read_text()]
                if pids:
                    os.kill(self.draw.choice(pids), signal.SIGKILL)
                    self.happened[kind] += 1
                return
        node = self.draw.choice(sorted({node for _, node in tasks.values()}) or ["n1"])
        if kind == "preempt":
            self.drill.slurm("sbatch", "-p", "high", "-w", node, "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
            self.happened[kind] += 1
            return
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            own = [pid for pid, (_, where) in tasks.items() if where == node]
            steps = {parent(pid) for pid in own if name_of(parent(pid)) == "slurmstepd"}
            slurmd = int((self.drill.cluster / "run" / f"slurmd-{node}.pid").read_text())
            if kind == "slurmd":
                self.survivors |= {job for job, where in tasks.values() if where == node}
            for pid in (slurmd, *steps, *(own if kind == "node" else ())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.happened[kind] += 1

    def _mend_nodes(self):
        """Start the slurmd of nodes that Slurm has taken note of."""
        for node in self.drill.slurm("sinfo", "-h", "-N", "-t", "down", "-p", "main", "-o", "%N").split():
            subprocess.run([CLUSTER, "node", self.drill.cluster, node], check=False, capture_output=True)

    def _judge(self, seconds, again):
        plan = json.loads((self.run / "epochs" / "0001" / "plan.json").read_text())
        size = plan["numerics"]["segment_rows"]
        scored, repeated, wrong = self.scored(), 0, []
        scored.pop(0, None)  # on the first rows members are tried where they are loaded
        for first, times in scored.items():
            repeated += len(times) - 1
            known = self.durable.get(first // size, float("inf"))
            wrong += [(first, job) for at, job in times if at > known + 1 and job not in self.survivors]
        whole = self.project.output.exists()
        checks = {
            "complete": whole and "complete" in self.project.hpcens("status", str(self.run), code=None),
            "identical": whole and content(self.project.output) == self._expected(plan),
            "sound": whole and "sound" in self.project.hpcens("verify", str(self.project.output), code=None),
            "nothing durable scored again": not wrong,
            "all gone": not self.blocks.exists() and not self._queue(),
        }
        worlds = [json.loads(path.read_text()) for path in (self.run / "worlds").glob("*/world.json")]
        back = sum(bool(world["job"] and world["job"]["restart"]) for world in worlds)
        more = {
            "worlds": len(worlds),
            "of them put back into the queue": back,
            "batches again": f"{repeated} of {ROWS // BATCH}",
            "run again": again,
        }
        print(f"{self.name}: {seconds:.0f} s, {dict(self.happened)}, {more}, {checks}, {wrong[:5]}", flush=True)
        if not all(checks.values()):
            for verb in ("status", "logs"):
                print(self.project.hpcens(verb, str(self.run), code=None), flush=True)
        return all(checks.values())

    def _expected(self, plan):
        """What one world makes of the numbers that are fixed."""
        key = f"expected-{plan['numerics']['segment_rows']}"
        if not (self.place / key).exists():
            alone = a_project(self.place, self.place / key)
            (alone.folder / "plan.json").write_text(json.dumps(plan))
            alone.hpcens("run", "dataset.h5", "--plan", "plan.json")
        return content(self.place / key / "dataset.predictions.h5")

    def end(self):
        self.drill.slurm("scancel", *self._queue())
        self.project.end()
        for pid in processes():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cwd").resolve().is_relative_to(self.project.folder):
                    os.kill(pid, signal.SIGKILL)


def main(rounds, seed):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        place = Path(name)
        prepare(place)
        drill = Cluster(place / "slurm", CONF, nodes=NODES)
        failed = 0
        try:
            for number in range(1, rounds + 1):
                own = Round(drill, place, number, seed * 1000 + number)
                try:
                    failed += not own.go()
                finally:
                    own.end()
            return failed
        finally:
            drill.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Worlds that share a dataset; exits with how many rounds failed.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(main(options.rounds, options.seed))
