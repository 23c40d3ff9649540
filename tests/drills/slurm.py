"""Slurm drills, on a cluster of their own each, side by side; each prints a line, and the exit code is how many failed.

PYTHONPATH=tests python tests/drills/slurm.py DRILL…
    digits         the quickstart over 4 nodes of 2 devices
    walltime       a limit shorter than the work: at least 3 requeues, and nobody helps
    requeue, requeue-warned, cancel, cancel-warned     preempted, without and with the user signal
    reader, reducer, device, stepd, slurmd, node, first    killed: a rank; what keeps the second node; all on a node
    survivor       ranks cut off with their node outlive their job, and go on writing when it is continued elsewhere
    controller     away for 60 s in mid-run; controller-warned: just when the job was warned of its end
    gpus           uneven nodes, and one GPU visible to each rank
    segments       status of a run of 100,000
    accounting, no-accounting     a job that the controller has forgotten, and what sacct says of it
    reused         a new cluster counts job ids from where the old one did
"""

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import torch
from safetensors.torch import save_file
from support.clusters import CLUSTER, Cluster, job_of, name_of, parent, processes
from support.interruption import signatures
from support.project import ENSEMBLE, MEMBERS, Project

from hpcens.processes import born
from hpcens.result.journal import Kind, read_journal

SITE = "slurm: {{time: {time}, drain_seconds: {drain}}}\n"
# so many seconds as the file `slow` says, if there is one: all projects share the profile of a member that is fast
SLOW = """
import time
from pathlib import Path
from nets_fast import *

class SlowLinear(Linear):
    def forward(self, x):
        slow = Path(__file__).with_name("slow")
        if slow.exists():
            time.sleep(float(slow.read_text()))
        return super().forward(x)
"""
ROWS = 800
QUICKSTART = Path(__file__).parents[2] / "jobs" / "quickstart.py"
FAKE_GPUS = Path(__file__).parents[1] / "support" / "fake_gpus"
RANKS = ("reader", "reducer", "device")
TARGETS = (*RANKS, "stepd", "slurmd", "node", "first")


def prepare(place):
    """What all drills share: weights, a plan of 50 segments, and the bytes of a run that nothing disturbs."""
    (place / "weights").mkdir()
    sys.path.insert(0, str(ENSEMBLE))
    import nets

    torch.manual_seed(7)
    for name, factory in MEMBERS.items():
        save_file(getattr(nets, factory)().state_dict(), place / "weights" / f"{name}.safetensors")
    here = a_project(place, place / "here")
    here.hpcens("plan", "dataset.h5", "-o", "../plan.json")
    plan = json.loads((place / "plan.json").read_text())
    plan["numerics"]["segment_rows"] = 16
    plan |= {"window": 8, "read_ahead": 6}
    (place / "plan.json").write_text(json.dumps(plan))
    here.hpcens("run", "dataset.h5", "--plan", "../plan.json")
    (place / "expected").write_bytes(here.predictions().tobytes())


def a_project(place, folder, devices="{cpu: 2}"):
    folder.mkdir()
    made = Project(folder, place / "weights", place / "cache").data(ROWS)
    made.yaml(members=MEMBERS | {"linear": "SlowLinear"}, devices=devices)
    (folder / "nets_fast.py").write_text((ENSEMBLE / "nets.py").read_text())
    (folder / "nets.py").write_text(SLOW)
    return made


class Drill(Cluster):
    """A cluster, and projects to submit to it; beside its folder lies what `prepare` made."""

    def __init__(self, folder, conf="", nodes=3, gpus="2", more=()):
        super().__init__(folder, conf, nodes, gpus, more)
        self.plan = folder.parent / "plan.json"

    def project(self, name, seconds, time=10, drain=30, devices="{cpu: 2}"):
        """One whose member `linear` takes so many seconds more for a segment."""
        made = a_project(self.folder.parent, self.folder / name, devices)
        (made.folder / "hpcens.site.yaml").write_text(SITE.format(time=time, drain=drain))
        made.environment = made.environment | self.environment
        if seconds:
            (made.folder / "slow").write_text(str(seconds))
        return made

    def submit(self, project, *more):
        return project.hpcens("submit", "dataset.h5", "--plan", str(self.plan), "--parsable", *more).split()[0]

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
            "identical": project.output.exists()
            and project.predictions().tobytes() == (self.folder.parent / "expected").read_bytes(),
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
        project = drill.project("walltime", 10.0, time=2, drain=30)  # warned 30 to 60 s before the end
        began = time.monotonic()
        drill.submit(project)
        wait(project.output.exists, 900)
        return drill.judge("walltime", project, began) and len(list(project.run.glob("epochs/*/requeue.json"))) >= 3
    finally:
        drill.close()


def preemption(folder, mode, warns):
    conf = f"PreemptType=preempt/partition_prio\nPreemptMode={mode}\n"
    conf += "SlurmctldParameters=preempt_send_user_signal\n" if warns else ""
    conf += f"PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=15 PreemptMode={mode} State=UP\n"
    conf += "PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP\n"
    drill = Drill(folder, conf)
    try:
        project = drill.project("preempted", 1.0)
        began = time.monotonic()
        drill.submit(project, "--slurm", "partition=low")
        wait(lambda: durable(project))
        drill.slurm("sbatch", "-p", "high", "-N3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3")
        first = wait(lambda: verdict(project, 1), 60)
        by_hand = mode == "CANCEL" and not warns
        if by_hand:
            wait(lambda: not drill.slurm("squeue", "-h").strip(), 60)
            told = json.loads(project.hpcens("status", str(project.run), "--json"))
            drill.submit(project)
        wait(project.output.exists, 150)
        name = f"preempted by {mode}, {'with' if warns else 'without'} user signal"
        more = {"first": first["reason"], "remedy": first["remedy"]} | ({"status": told["reason"]} if by_hand else {})
        return drill.judge(name, project, began, **more)
    finally:
        drill.close()


def controller(folder):
    drill = Drill(folder)
    try:
        project = drill.project("away", 6.0)
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
        rows = json.loads(project.hpcens("status", str(project.run), "--json"))["rows"]
        wait(project.output.exists, 120)
        wait(lambda: not drill.slurm("squeue", "-h").strip(), 60)
        seen = {"states": states, "slowest status": round(max(asked), 2), "rows when it was back": rows}
        return drill.judge("controller away", project, began, **seen)
    finally:
        drill.close()


def controller_warned(folder):
    drill = Drill(folder)
    try:
        project = drill.project("warned", 1.0)
        began = time.monotonic()
        job = drill.submit(project, "--slurm", "nodes=2")
        wait(lambda: durable(project))
        drill.slurm("scancel", "--signal=USR2", job)
        wait(lambda: '"draining"' in (project.run / "epochs" / "0001" / "events.jsonl").read_text())
        os.kill(int((drill.cluster / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
        wait(lambda: verdict(project, 1), 60)
        time.sleep(15)
        subprocess.run(["slurmctld"], env=os.environ | drill.environment, check=True)
        wait(project.output.exists, 120)
        return drill.judge("controller away at the warning", project, began, first=verdict(project, 1)["reason"])
    finally:
        drill.close()


def survivor(folder):
    """The writer's node is cut off while its ranks stand still; they go on once the job has begun elsewhere."""
    drill = Drill(folder, nodes=4)
    try:
        project = drill.project("survivor", 4.0)
        began = time.monotonic()
        job = drill.submit(project, "--slurm", "nodes=2")
        wait(lambda: durable(project))
        ranks = signatures(project)
        writer = next(rank["pid"] for rank in ranks if rank["role"] == "reducer")
        old = (project.run / "working-0001.h5").open("rb")
        tasks = [pid for pid in processes() if job_of(pid) == (job, "n1") and name_of(pid) != "slurmstepd"]
        stepds = {parent(pid) for pid in tasks if name_of(parent(pid)) == "slurmstepd"}
        for pid in (int((drill.cluster / "run" / "slurmd-n1.pid").read_text()), *stepds):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)  # a group that loses its last parent outside while it stands still is ended by the kernel
        for pid in tasks:
            os.kill(pid, signal.SIGSTOP)
        cut = time.monotonic()
        new = project.run / "epochs" / "0002" / "journal"
        kept = len(read_journal(project.run / "epochs" / "0001" / "journal").written())
        wait(lambda: (content := read_journal(new)) is not None and len(content.written()) > kept)
        again = time.monotonic() - cut
        before, stood = os.fstat(old.fileno()).st_mtime_ns, bool(born(writer))
        for pid in tasks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        woken = time.monotonic()
        wait(lambda: not born(writer), 120)
        seen = {"again after": round(again, 1), "writer lived": stood, "left after": round(time.monotonic() - woken, 1)}
        seen["wrote"] = os.fstat(old.fileno()).st_mtime_ns != before
        wait(project.output.exists, 240)
        seen["into another file"] = os.fstat(old.fileno()).st_ino != project.output.stat().st_ino
        return drill.judge("survivor", project, began, **seen) and seen["into another file"]
    finally:
        drill.close()


def kill(folder, target):
    """target: a rank by its role, what keeps the second node (stepd, slurmd), or all on a node (node, first)"""
    drill = Drill(folder)
    try:
        project = drill.project("killed", 1.0 if target in RANKS else 4.0)
        began = time.monotonic()
        job = drill.submit(project, "--slurm", "nodes=2")
        wait(lambda: durable(project))
        for pid in victims(drill, project, job, target):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        second = project.run / "epochs" / "0002" / "claim.json"
        over = lambda: second.exists() or project.output.exists() or not drill.slurm("squeue", "-h").strip()  # noqa: E731
        wait(lambda: verdict(project, 1) or over(), 240)
        known = time.monotonic() - killed
        wait(over, 240)
        ended = time.monotonic() - killed
        again, left = "by itself", 0.0
        if not second.exists() and not project.output.exists():
            found = wait(lambda: gone(project), 120)
            left, again = time.monotonic() - killed, found["reason"]
            drill.submit(project)
        wait(project.output.exists, 240)
        first = (verdict(project, 1) or {"reason": "none"})["reason"]
        seconds = {"known": round(known, 1), "job ended": round(ended, 1), "survivors left": round(left, 1)}
        return drill.judge(f"killed {target}", project, began, **seconds, first=first, again=again)
    finally:
        drill.close()


def gone(project):
    """The status of a run of which no rank lives any more."""
    (project.run / "controller.json").unlink(missing_ok=True)
    found = json.loads(project.hpcens("status", str(project.run), "--json"))
    return found if found["state"] in ("failed", "resumable") else None


def victims(drill, project, job, target):
    ranks = signatures(project)
    if target in RANKS[:2]:
        return [rank["pid"] for rank in ranks if rank["role"] == target]
    if target == "device":
        return [rank["pid"] for rank in ranks if rank["role"].startswith("device n2")][:1]
    node = "n1" if target == "first" else "n2"
    slurmd = int((drill.cluster / "run" / f"slurmd-{node}.pid").read_text())
    tasks = [pid for pid in processes() if job_of(pid) == (job, node)]
    stepds = {parent(pid) for pid in tasks if name_of(parent(pid)) == "slurmstepd"}
    return {"slurmd": [slurmd], "stepd": [*stepds]}.get(target, [slurmd, *stepds, *tasks])


def digits(folder):
    """The quickstart over 4 nodes of 2 devices each, after the same on this host."""
    drill = Drill(folder, nodes=4)
    try:
        place = folder / "digits"
        here = {k: v for k, v in os.environ.items() if k != "SLURM_CONF"}
        subprocess.run([sys.executable, QUICKSTART, place], check=True, env=here, stdout=subprocess.DEVNULL)
        (place / "far.yaml").write_text((place / "hpcens.yaml").read_text().replace("digits.predictions.h5", "far.h5"))
        command = ["submit", "digits.h5", "-c", "far.yaml", "--plan", "digits.predictions.run/epochs/0001/plan.json"]
        far = subprocess.Popen(
            [sys.executable, "-m", "hpcens", *command, "--slurm", "nodes=4", "--slurm", "time=5", "--parsable"],
            cwd=place,
            env=os.environ | drill.environment,
        )
        began = time.time()
        wait((place / "far.h5").exists, 120)
        ended = time.time()
        events = [json.loads(line) for line in (place / "far.run/epochs/0001/events.jsonl").read_text().splitlines()]
        first = next(e["time"] for e in events if e["event"] == "progress" and e["rows"])
        world = next(e for e in events if e["event"] == "world")
        with h5py.File(place / "far.h5") as there, h5py.File(place / "digits.predictions.h5") as near:
            same = {name: there[name][:].tobytes() == near[name][:].tobytes() for name in ("prediction", "label")}
            members = near["members"]
            same |= {name: there["members"][name][:].tobytes() == members[name][:].tobytes() for name in members}
        figures = {"first batch": round(first - began, 1), "end": round(ended - began, 1), "world": world["nodes"]}
        print(f"digits: identical {same}, seconds from submit {figures}", flush=True)
        return far.wait() == 0 and all(same.values())
    finally:
        drill.close()


def gpus(folder):
    """Uneven nodes (2+1+2), all GPUs of a node visible to every rank; then one visible to each."""
    drill = Drill(folder, gpus="2,1,2")
    try:
        fine = True
        seen = {
            "uneven, all visible": (["nodes=3", "tasks_per_node=4", "gpus=5"], 5),
            "one visible": (["nodes=2", "exclude=n2", "tasks_per_node=2", "gpus-per-task=1"], 2),
        }
        for name, (asks, devices) in seen.items():
            project = drill.project(name, 0.0, devices="{cuda: {}}")
            project.environment["PYTHONPATH"] = f"{FAKE_GPUS}:{project.environment.get('PYTHONPATH', '')}"
            project.environment["PATH"] = f"{FAKE_GPUS}:{project.environment['PATH']}"
            began = time.monotonic()
            said = project.hpcens("submit", "dataset.h5", *(o for ask in asks for o in ("--slurm", ask)), "--wait")
            plan = json.loads((project.run / "epochs/0001/plan.json").read_text())
            names = [device["name"] for device in plan["devices"]]
            idle = [line for line in said.splitlines() if "idle" in line]
            fine = project.output.exists() and len(names) == devices and fine
            print(f"{name}: {time.monotonic() - began:.0f} s, devices {names}, {idle}", flush=True)
        return fine
    finally:
        drill.close()


def accounting(folder, keeps):
    """A job the controller has forgotten: what became of it, from sacct where there is one, else from files."""
    drill = Drill(folder, "MinJobAge=2\n", more=(f"accounting={int(keeps)}",))
    try:
        project = drill.project("forgotten", 0.5)
        job = drill.submit(project)
        wait(lambda: durable(project))
        drill.slurm("scancel", "--signal=KILL", "--full", job)
        wait(lambda: "JobState" not in drill.slurm("scontrol", "show", "job", job), 90)
        said = drill.slurm("sacct", "-nPX", "-j", job, "-o", "State,ExitCode").strip()
        (project.run / "epochs" / "0001" / "verdict.json").unlink(missing_ok=True)  # as where all were killed at once
        told = gone(project)
        print(f"forgotten: sacct {said!r}, {told['state']}: {told['reason']}; next: {told['remedy']}", flush=True)
        second = drill.submit(project, "--slurm", "begin=now+1hour")
        drill.slurm("scancel", second)
        wait(lambda: "JobState" not in drill.slurm("scontrol", "show", "job", second), 90)
        then = gone(project)
        print(f"forgotten in the queue: {then['state']}: {then['reason']}; next: {then['remedy']}", flush=True)
        began = time.monotonic()
        drill.submit(project)
        wait(project.output.exists, 120)
        words = "it was cancelled" if keeps else ("processes on", "before the run began")
        fine = all(any(w in one["reason"] for w in ([words] if keeps else words)) for one in (told, then))
        return drill.judge("forgotten", project, began) and fine
    finally:
        drill.close()


def reused(folder):
    """The number of a run's job is another's on a new cluster; and on the next one its own again."""
    ids = "FirstJobId=54321\n"
    drill = Drill(folder, ids)
    try:
        project = drill.project("reused", 1.0)
        job = drill.submit(project)
        wait(lambda: durable(project))
        for rank in signatures(project):
            os.kill(rank["pid"], signal.SIGKILL)
        drill.close()
        (project.run / "epochs" / "0001" / "verdict.json").unlink(missing_ok=True)
        drill.renew(folder / "b", ids)
        project.environment |= drill.environment
        drill.slurm("sbatch", "-o", "/dev/null", "--wrap", "sleep 120")
        wait(lambda: "RUNNING" in drill.slurm("scontrol", "show", "job", job))
        told = gone(project)
        print(f"number {job} is another's: {told and (told['state'], told['reason'])}", flush=True)
        drill.close()
        drill.renew(folder / "c", ids)
        project.environment |= drill.environment
        began = time.monotonic()
        same = drill.submit(project)
        wait(project.output.exists, 120)
        return drill.judge("number reused", project, began, numbers=(job, same)) and told is not None and job == same
    finally:
        drill.close()


def segments(folder):
    """`status` on a run of 100,000 segments."""
    folder.mkdir()
    project = Project(folder, folder, folder / "cache")
    epoch = project.run / "epochs" / "0001"
    epoch.mkdir(parents=True)
    with (epoch / "events.jsonl").open("w") as file:
        for i in range(100_001):
            file.write(json.dumps({"time": i / 100, "event": "progress", "rows": 16 * i, "of": 1_600_000}) + "\n")
    (epoch / "claim.json").write_text(
        json.dumps({"epoch": 1, "id": "", "began": 0.0, "job": None, "host": "h", "boot": "b", "pid": 1, "born": 1})
    )
    (epoch / "verdict.json").write_text(
        json.dumps({"code": 75, "reason": "cancelled", "remedy": "", "rank": None, "role": ""})
    )
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        found = json.loads(project.hpcens("status", str(project.run), "--json"))
        seconds.append(round(time.monotonic() - began, 2))
    print(f"status on 100,000 segments: {found['rows']} rows, seconds {seconds}", flush=True)
    return found["rows"] == 1_600_000 and min(seconds) < 0.5


def verdict(project, number):
    path = project.run / "epochs" / f"{number:04d}" / "verdict.json"
    return json.loads(path.read_text()) if path.exists() else None


DRILLS = {
    "walltime": walltime,
    "requeue": lambda folder: preemption(folder, "REQUEUE", False),
    "requeue-warned": lambda folder: preemption(folder, "REQUEUE", True),
    "cancel": lambda folder: preemption(folder, "CANCEL", False),
    "cancel-warned": lambda folder: preemption(folder, "CANCEL", True),
    "controller": controller,
    "controller-warned": controller_warned,
    "survivor": survivor,
    **{target: lambda folder, target=target: kill(folder, target) for target in TARGETS},
    "digits": digits,
    "gpus": gpus,
    "segments": segments,
    "accounting": lambda folder: accounting(folder, True),
    "no-accounting": lambda folder: accounting(folder, False),
    "reused": reused,
}


def main(names):
    """All of them side by side; how many failed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place, ThreadPoolExecutor() as pool:
        prepare(Path(place))
        found = {name: pool.submit(DRILLS[name], Path(place) / name) for name in names}
        try:
            return sum(_fails(name, future) for name, future in found.items())
        except KeyboardInterrupt:
            for name in names:
                subprocess.run([CLUSTER, "down", Path(place) / name / "cluster"], check=False)
            os._exit(1)


def _fails(name, future):
    try:
        return not future.result()
    except (TimeoutError, AssertionError, OSError) as error:
        print(f"{name}: {type(error).__name__}: {error}", flush=True)
        return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Drills on Slurm clusters; exits with how many failed.")
    parser.add_argument("drills", nargs="+", choices=sorted(DRILLS), metavar="DRILL")
    options = parser.parse_args()
    sys.exit(main(options.drills))
