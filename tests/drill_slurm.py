"""Slurm drills, on a cluster of their own; each prints a line, and the script exits 1 on any fault.

python tests/drill_slurm.py walltime       # a limit shorter than the work: at least 3 requeues, and nobody helps
python tests/drill_slurm.py preemption     # by REQUEUE and by CANCEL, with and without the user signal
python tests/drill_slurm.py controller     # the controller is away for 60 s in mid-run
python tests/drill_slurm.py node           # a whole node dies: slurmd, stepd, ranks
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from conftest import ENSEMBLE, MEMBERS, Project
from safetensors.torch import save_file

from hpcens.store.journal import Kind, read_journal

CLUSTER = Path(__file__).parent.parent / "slurm" / "cluster"
SITE = "slurm: {{time: {time}, drain_seconds: {drain}}}\n"
SLOW = """
import time
from nets_fast import *

class SlowLinear(Linear):
    def forward(self, x):
        time.sleep({seconds})
        return super().forward(x)
"""
ROWS = 800


class Drill:
    """A cluster, the bytes of an undisturbed run on this host, and projects to submit."""

    def __init__(self, folder, conf=""):
        self.folder = folder
        (folder / "extra.conf").write_text(conf)
        self.cluster = folder / "cluster"
        arguments = ["up", self.cluster, "nodes=3", f"conf={folder / 'extra.conf'}"]
        said = subprocess.run([CLUSTER, *arguments], capture_output=True, text=True, check=True).stdout
        self.environment = {"SLURM_CONF": said.strip().splitlines()[-1].partition("=")[2]}
        (folder / "weights").mkdir()
        sys.path.insert(0, str(ENSEMBLE))
        import nets

        torch.manual_seed(7)
        for name, factory in MEMBERS.items():
            save_file(getattr(nets, factory)().state_dict(), folder / "weights" / f"{name}.safetensors")
        first = self.project("undisturbed", 0.0)
        first.hpcens("plan", "dataset.h5", "-o", "plan.json")
        plan = json.loads((first.folder / "plan.json").read_text())
        plan["numerics"]["segment_rows"] = 16
        plan |= {"window": 8, "read_ahead": 6}
        self.plan = folder / "plan.json"
        self.plan.write_text(json.dumps(plan))
        first.hpcens("run", "dataset.h5", "--plan", str(self.plan))
        self.expected = first.predictions().tobytes()

    def project(self, name, seconds, time=10, drain=30):
        (self.folder / name).mkdir()
        made = Project(self.folder / name, self.folder / "weights", self.folder / "cache").data(ROWS)
        made.yaml(members=MEMBERS | {"linear": "SlowLinear"})
        (made.folder / "nets_fast.py").write_text((ENSEMBLE / "nets.py").read_text())
        (made.folder / "nets.py").write_text(SLOW.format(seconds=seconds))
        (made.folder / "hpcens.site.yaml").write_text(SITE.format(time=time, drain=drain))
        made.environment = made.environment | self.environment
        if seconds:
            made.hpcens("profile", "dataset.h5")
        return made

    def submit(self, project, *more):
        return project.hpcens("submit", "dataset.h5", "--plan", str(self.plan), "--parsable", *more).split()[0]

    def slurm(self, *command):
        return subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True).stdout

    def close(self):
        subprocess.run([CLUSTER, "down", self.cluster], check=False)

    def judge(self, name, project, began, **more):
        """The line of a drill that came to its end; whether it is without fault."""
        starts = sorted(project.run.glob("epochs/*/journal"))
        again = []
        for earlier, later in itertools.pairwise(starts):
            kept = len(read_journal(earlier).written())
            again.append(next(r.segment for r in read_journal(later).records if r.kind == Kind.INHERITED) == kept)
        status = json.loads(project.hpcens("status", str(project.run), "--json"))
        checks = {
            "complete": status["state"] == "complete",
            "identical": project.output.exists() and project.predictions().tobytes() == self.expected,
            "nothing durable scored again": all(again),
        }
        seconds = time.monotonic() - began
        print(
            f"{name}: {len(starts)} starts, {seconds:.0f} s, requeues {status['requeues']}, {checks}, {more}",
            flush=True,
        )
        return all(checks.values())


def wait(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("did not come to pass")
        time.sleep(0.05)
    return found


def durable(project, segments=3):
    contents = [read_journal(path) for path in project.run.glob("epochs/*/journal")]
    return max((len(content.written()) for content in contents if content), default=0) >= segments


def walltime(folder):
    drill = Drill(folder)
    try:
        project = drill.project("walltime", 0.5, time=1, drain=30)
        began = time.monotonic()
        drill.submit(project)
        wait(project.output.exists, 400)
        return drill.judge("walltime", project, began) and len(list(project.run.glob("epochs/*/requeue.json"))) >= 3
    finally:
        drill.close()


def preemption(folder):
    fine = True
    for mode in ("REQUEUE", "CANCEL"):
        for warns in (False, True):
            conf = f"PreemptType=preempt/partition_prio\nPreemptMode={mode}\n"
            conf += "SlurmctldParameters=preempt_send_user_signal\n" if warns else ""
            conf += f"PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=15 PreemptMode={mode} State=UP\n"
            conf += "PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP\n"
            place = folder / f"{mode}-{warns}"
            place.mkdir()
            drill = Drill(place, conf)
            try:
                project = drill.project("preempted", 0.3)
                began = time.monotonic()
                drill.submit(project, "--slurm", "partition=low", "--slurm", "nodes=3")
                wait(lambda project=project: durable(project))
                drill.slurm("sbatch", "-p", "high", "-N3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3")
                first = wait(lambda project=project: verdict(project, 1), 60)
                with contextlib.suppress(TimeoutError):
                    wait(project.output.exists, 90 if mode == "REQUEUE" or warns else 1)
                if not project.output.exists():
                    wait(lambda drill=drill: not drill.slurm("squeue", "-h").strip(), 60)
                    drill.submit(project, "--slurm", "nodes=3")
                    wait(project.output.exists, 120)
                name = f"preempted by {mode}, {'with' if warns else 'without'} user signal"
                fine = drill.judge(name, project, began, first=first["reason"]) and fine
            finally:
                drill.close()
    return fine


def controller(folder):
    drill = Drill(folder)
    try:
        project = drill.project("away", 1.0)
        began = time.monotonic()
        drill.submit(project, "--slurm", "nodes=2")
        wait(lambda: durable(project))
        os.kill(int((drill.cluster / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
        gone = time.monotonic()
        states, asked = set(), []
        while time.monotonic() - gone < 60:
            before = time.monotonic()
            states.add(json.loads(project.hpcens("status", str(project.run), "--json"))["state"])
            asked.append(time.monotonic() - before)
            time.sleep(5)
        subprocess.run(["slurmctld"], env=os.environ | drill.environment, check=True)
        wait(project.output.exists, 120)
        return drill.judge("controller away", project, began, states=states, slowest_status=round(max(asked), 2))
    finally:
        drill.close()


def node(folder):
    drill = Drill(folder)
    try:
        project = drill.project("node", 0.5)
        began = time.monotonic()
        drill.submit(project, "--slurm", "nodes=2")
        wait(lambda: durable(project))
        ranks = [json.loads(path.read_text()) for path in project.run.glob("epochs/0001/ranks/*.json")]
        pids = [rank["pid"] for rank in ranks if rank["role"].startswith("device n2")]
        stepd = parent(parent(pids[0]))
        os.kill(int((drill.cluster / "run" / "slurmd-n2.pid").read_text()), signal.SIGKILL)
        os.kill(stepd, signal.SIGKILL)
        for pid in pids:
            for one in (parent(pid), pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
        killed = time.monotonic()
        second = wait(lambda: (project.run / "epochs" / "0002" / "claim.json").exists() or project.output.exists(), 180)
        ended = time.monotonic() - killed
        wait(project.output.exists, 180)
        return drill.judge("node died", project, began, again_after=round(ended), second=bool(second))
    finally:
        drill.close()


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def verdict(project, number):
    path = project.run / "epochs" / f"{number:04d}" / "verdict.json"
    return json.loads(path.read_text()) if path.exists() else None


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        drills = {"walltime": walltime, "preemption": preemption, "controller": controller, "node": node}
        sys.exit(0 if drills[sys.argv[1]](Path(place)) else 1)
