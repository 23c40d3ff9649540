"""Slurm clusters of drills, and the processes that run on their nodes."""

import os
import subprocess
from pathlib import Path

CLUSTER = Path(__file__).parents[2] / "slurm" / "cluster"


class Cluster:
    """A cluster of a drill's own, in its folder. conf: lines for slurm.conf; more: further arguments."""

    def __init__(self, folder, conf="", nodes=3, gpus="2", more=()):
        self.folder = folder
        folder.mkdir()
        self.renew(folder, conf, f"nodes={nodes}", f"gpus={gpus}", *more)

    def renew(self, folder, conf, *arguments):
        """Another cluster."""
        folder.mkdir(exist_ok=True)
        (folder / "extra.conf").write_text(conf)
        self.cluster = folder / "cluster"
        command = [CLUSTER, "up", self.cluster, f"conf={folder / 'extra.conf'}", *arguments]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.environment = {"SLURM_CONF": said.strip().splitlines()[-1].partition("=")[2]}

    def slurm(self, *command):
        return subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True).stdout

    def close(self):
        subprocess.run([CLUSTER, "down", self.cluster], check=False)


def processes():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def job_of(pid):
    try:
        variables = dict(line.partition("=")[::2] for line in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    except OSError:
        return None
    return variables.get("SLURM_JOB_ID"), variables.get("SLURMD_NODENAME")


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
