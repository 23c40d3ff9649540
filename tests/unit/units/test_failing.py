"""Nodes on which starts of many files failed, one after another."""

import json

import pytest

from hpcens.runs import Claim, Events, RunDirectory, SlurmJob, Verdict, WorldFormed
from hpcens.scheduler.jobs import Answer
from hpcens.units import Attempt, Outcome, Unit, UnitList, UnitsDirectory
from hpcens.units.failing import failing_nodes_of_units


@pytest.fixture
def directory(tmp_path):
    made = UnitsDirectory.of(tmp_path / "out")
    made.make()
    units = [Unit(f"{number:016x}", f"/data/{number}.h5", str(tmp_path / f"out/{number}.h5"), 9) for number in range(4)]
    (tmp_path / "out").mkdir()
    made.keep(UnitList(0, "{}", {}, tuple(units)))
    return made


def start(directory, unit, began, node, kind, job="7"):
    """A start of a file in an element of an array, and what came of it."""
    found = directory.newest_list.units[unit]
    run = RunDirectory.of(directory.path.with_name("out") / f"{unit}.h5")
    run.path.mkdir(exist_ok=True)
    epoch = run.begin(SlurmJob(job, "c", 0, "abcd", f"{job}_0"))
    claim = json.loads(epoch.claim.read_text())
    claim.pop("checksum", None)
    epoch.claim.write_text(json.dumps(claim | {"began": began}))
    assert Claim.load(epoch.claim).began == began
    writer = Events(epoch.events)
    writer.add(WorldFormed("mpi", {node: 3}, False, ()))
    writer.close()
    good = kind == "done"
    epoch.judge(Verdict(0, "scored") if good else Verdict(1, "rank 2 was killed by SIGKILL", node=node))
    attempt = Attempt(found.key, epoch.number)
    directory.claim(attempt, "0a" * 4, "0b" * 4)
    directory.settle(attempt, kind, Outcome(0 if good else 1, ""))


def test_a_node_that_failed_two_files_is_left_out_until_a_start_goes_well_there(directory):
    asked = []

    def ask(jobs):
        asked.append(set(jobs))
        return {}

    assert failing_nodes_of_units(directory, ask) == {}
    start(directory, 0, 100.0, "n2", "left", "7")
    start(directory, 1, 110.0, "n3", "left", "8")
    start(directory, 2, 90.0, "n2", "done", "6")
    assert failing_nodes_of_units(directory, ask) == {} and not asked
    start(directory, 1, 120.0, "n2", "failed", "7")
    assert failing_nodes_of_units(directory, ask) == {"n2": 2} and asked == [{"7"}]
    cancelled = {"7": Answer("CANCELLED")}
    assert failing_nodes_of_units(directory, lambda jobs: cancelled) == {}, "what Slurm ended is not the node's"
    start(directory, 3, 130.0, "n2", "done", "9")
    assert failing_nodes_of_units(directory, ask) == {}, "it went well since"
