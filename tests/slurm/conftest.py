"""A user's folder on a cluster, and the bytes that the same rows give on one host."""

import json
import os
import subprocess
import time

import pytest
from support.interruption import write_held
from support.project import MEMBERS, Project

from hpcens.engine import discover
from hpcens.result import torch_version
from hpcens.specs import CpuSpec, DevicesSpec
from hpcens.vocabulary import Hosting, MemberNumerics, Numerics, Plan

SITE = "slurm: {time: 5}\n"
# of each start two segments are durable before they hold
PASSES = "3"


class SlurmProject(Project):
    """A project on the cluster. A busy machine starts a job's ranks late: a command may take long to say so.

    Its members hold while there is a file `hold`: one text for all, so that they are tried and measured once.
    """

    patience = 400

    def yaml(self, extra="", members=MEMBERS, batch_sizes="[16]", devices="{cpu: 1}"):
        held = members | ({"linear": "HeldLinear"} if "linear" in members else {})
        super().yaml(extra, held, batch_sizes, devices)
        write_held(self.folder)
        return self

    def on(self, cluster):
        self.environment = self.environment | cluster
        (self.folder / "hpcens.site.yaml").write_text(SITE)
        return self

    def hold(self):
        """Have every rank stop after some batches of `linear`."""
        (self.folder / "hold").write_text(PASSES)

    def let_go(self):
        (self.folder / "hold").unlink()

    def ask(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    def wait_for(self, condition, seconds=200):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(self.hpcens("status", str(self.run)) + self.hpcens("logs", str(self.run)))
            time.sleep(0.05)
        return found

    def verdict(self, number):
        path = self.run / "epochs" / f"{number:04d}" / "verdict.json"
        return json.loads(path.read_text()) if path.exists() else None

    def status(self):
        return json.loads(self.hpcens("status", str(self.run), "--json"))


@pytest.fixture(scope="session")
def local(tmp_path_factory, weights, cache):
    """The same rows scored on this host, in 50 segments; its plan.json fixes the numerics for others too."""
    project = SlurmProject(tmp_path_factory.mktemp("local"), weights, cache).data(800)
    project.yaml("output: {datasets: [prediction, members]}")
    devices = discover(DevicesSpec(cpu=CpuSpec(count=1)))
    runs = dict.fromkeys(MEMBERS, MemberNumerics(batch=16, runtime="eager"))
    names = tuple(device.name for device in devices)
    speeds, shares = dict.fromkeys(MEMBERS, 1e5), dict.fromkeys(MEMBERS, 3e4)
    plan = Plan(
        planner="optimal",
        devices=devices,
        hostings=(Hosting(names, memory=1 << 28, speeds=speeds, shares=shares),),
        numerics=Numerics(16, runs, (devices[0].kind,), torch_version()),
        rows=800,
        row_bytes=768,
        output_bytes=20,
        differences={},
        loading=0.1,
        throughput=6e4,
        bound=6e4,
        limit="figures by hand",
        window=8,
        read_ahead=6,
    )
    (project.folder / "plan.json").write_text(plan.to_json())
    project.hpcens("run", "dataset.h5", "--plan", "plan.json")
    return project


@pytest.fixture
def project(tmp_path, weights, cache, cluster):
    made = SlurmProject(tmp_path, weights, cache).data(800).yaml().on(cluster)
    yield made
    made.end()
    subprocess.run(["scancel", "--user", str(os.getuid())], env=made.environment, check=False)


@pytest.fixture
def planned(project, local):
    """A project that scores in the segments of `local`."""
    (project.folder / "plan.json").write_text((local.folder / "plan.json").read_text())
    return project
