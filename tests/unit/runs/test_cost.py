"""What a run cost whose dataset worlds have shared: all starts of all worlds, each once."""

import json
import os
from dataclasses import replace

import pytest

from hpcens.files import sealed
from hpcens.processes import Process
from hpcens.runs import Claim, Events, ProgressMade, RunDirectory, Verdict, WorldFormed
from hpcens.runs.cost import cost_of_run, cost_of_worlds
from hpcens.runs.status import status
from hpcens.units import World


@pytest.fixture
def run(tmp_path):
    made = RunDirectory(tmp_path / "x.run")
    made.own("worlds")
    return made


def enter(run, pid, gpus, seconds, last="ended"):
    """Leave what a world leaves that lived so many seconds. last: of its files."""
    world = replace(World.new("abcd", None), gpus=gpus, process=Process("n1", "b", pid, 1))
    folder = world.enter(run.path / "worlds")
    began = (folder / "world.json").stat().st_mtime
    (folder / last).touch()
    os.utime(folder / last, (began + seconds, began + seconds))
    return world.process


def begin(run, process, seconds):
    """Leave what a start leaves that was one node's for so many seconds."""
    epoch = run.begin()
    claim = Claim.load(epoch.claim)
    epoch.claim.write_text(sealed(replace(claim, process=process).to_json()))
    events = Events(epoch.events)
    events.add(WorldFormed("mpi", {"n1": 3}, False, (), time=claim.began))
    events.add(ProgressMade(10, 10, time=claim.began + seconds))
    events.close()
    epoch.plan.write_text(json.dumps({"devices": [{"family": "cuda"}]}))
    epoch.judge(Verdict(0, "scored"))


def test_all_worlds_count_once_and_starts_of_none_beside_them(run):
    """Story: once the blocks were put together, nothing but the assembly's seconds was counted."""
    first = enter(run, 11, 4, 3600.0)
    enter(run, 12, 4, 1800.0, "beat")  # it was killed
    enter(run, 13, 0, 900.0)
    begin(run, first, 60.0)  # the plan, and the assembly: within the world's hour
    begin(run, first, 30.0)
    begin(run, Process("n9", "b", 99, 1), 1800.0)  # of one world alone, before
    cost = cost_of_run(run)
    assert cost.node_seconds == pytest.approx(3600 + 1800 + 900 + 1800, abs=0.1)
    assert cost.gpu_seconds == pytest.approx(4 * 5400 + 1800, abs=0.5)
    assert status(run.path).node_hours == pytest.approx(2.25, abs=1e-3)
    assert cost_of_worlds(run.path / "worlds").node_seconds == pytest.approx(6300, abs=0.1)


def test_a_world_whose_record_is_damaged_or_of_an_earlier_version_costs_no_gpus(run):
    enter(run, 11, 4, 60.0)
    for path in (run.path / "worlds").glob("*/world.json"):
        raw = json.loads(path.read_text())
        moment = path.stat().st_mtime
        path.write_text(json.dumps({key: raw[key] for key in raw if key not in ("gpus", "checksum")}))
        os.utime(path, (moment, moment))
    assert cost_of_worlds(run.path / "worlds").node_seconds == pytest.approx(60, abs=0.1)
    assert cost_of_worlds(run.path / "worlds").gpu_seconds == 0
    for path in (run.path / "worlds").glob("*/world.json"):
        path.write_text("{")
    assert cost_of_worlds(run.path / "worlds").node_seconds == 0
