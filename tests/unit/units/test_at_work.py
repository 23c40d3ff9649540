"""What worlds are at: which is where, what it works on, how fast; and what Slurm is asked for it, and how often."""

import json
import time
from collections import Counter

import pytest

from hpcens.cli import main
from hpcens.cli.several import status_of_any, table
from hpcens.errors import COMPLETE
from hpcens.files import sealed
from hpcens.reports.table import table_lines
from hpcens.runs import Events, ProgressMade, RunDirectory, SlurmJob
from hpcens.runs.scheduler_answer import OneQuestion
from hpcens.scheduler import jobs
from hpcens.units import Attempt, Outcome, Round, Unit, UnitList, UnitsDirectory, World, queue
from hpcens.units.queue import forget
from hpcens.units.status import status_of_units

KEYS = [f"{number:016x}" for number in range(6)]


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """Six files of 1,000 bytes, handed to Slurm as the array 40."""
    monkeypatch.chdir(tmp_path)
    made = UnitsDirectory.of(tmp_path / "out")
    made.make()
    (tmp_path / "out").mkdir()
    units = [Unit(key, f"d{i}.h5", str(tmp_path / "out" / f"d{i}.predictions.h5"), 1000) for i, key in enumerate(KEYS)]
    made.keep(UnitList(0, "{}", {}, tuple(units)))
    made.keep_round(Round("0" * 8, time.time(), ("40",), worlds=4))
    return made


def enter(directory, element, host, restart=0):
    """Leave what a world of another host leaves."""
    world = World.new("0" * 8, SlurmJob(f"4{element}", "c", restart, "0" * 8, f"40_{element}"))
    path = world.enter(directory.worlds) / "world.json"
    raw = json.loads(path.read_text())
    raw.pop("checksum")
    path.write_text(sealed(json.dumps(raw | {"host": host, "boot": "another"})))
    return world


def work_on(directory, world, number, *, rows=None, seconds=0.0):
    """Have a world claim a file. rows: that it has scored of it; None: it goes on."""
    attempt = Attempt(KEYS[number], 1)
    assert directory.claim(attempt, world.id, world.round)
    if rows is not None:
        directory.settle(attempt, "done", Outcome(0, "scored", rows, seconds))


def progress(directory, number, *made):
    """Leave the progress of a start at a file: (rows, moment)."""
    epoch = RunDirectory.of(directory.path.with_suffix("") / f"d{number}.predictions.h5").begin()
    events = Events(epoch.events)
    for rows, moment in made:
        events.add(ProgressMade(rows, 400, time=moment))
    events.close()


@pytest.fixture
def slurm(monkeypatch):
    """What squeue answers, and how often it was asked."""
    answer = {"40_0": "RUNNING", "40_1": "RUNNING", "40_2": "PENDING", "40_3": "PENDING"}
    asked = Counter()

    def elements(wanted):
        asked[tuple(wanted)] += 1
        return dict(answer)

    monkeypatch.setattr(jobs, "ask_all", lambda of: pytest.fail("one question is enough"))
    return answer, asked, elements


def test_worlds_are_shown_where_they_are_with_what_they_work_on(directory, slurm, capsys):
    _, asked, elements = slurm
    first, second = enter(directory, 0, "n1"), enter(directory, 1, "n2")
    work_on(directory, first, 0, rows=400, seconds=4.0)
    work_on(directory, first, 1)
    work_on(directory, second, 2)
    progress(directory, 2, (100, 10.0), (200, 12.0))
    status = status_of_units(directory, elements)
    assert (status.state, status.done, status.running, status.queued) == ("running", 1, 2, 3)
    assert (status.worlds, status.waiting, status.rows) == (2, 2, 600)
    assert status.rows_per_second == pytest.approx(100 + 50)
    # bytes: 5,000 less half a file, by 250/s of the one and 125/s of the other
    assert status.seconds_left == pytest.approx(4500 / 375)
    shown = [line.split() for line in table([status])]
    assert ["world", "host", "job", "age", "done", "rows/s", "for", "works", "on"] in shown
    rows = {line[1]: line for line in shown if line[0] in (first.id, second.id)}
    assert (rows["n1"][2], rows["n1"][4:6], rows["n1"][-1]) == ("40_0", ["1", "100"], "d1.h5")
    assert (rows["n2"][2], rows["n2"][4:6], rows["n2"][-1]) == ("40_1", ["0", "50"], "d2.h5")
    beside = [line for line in table([status, status]) if first.id in line]
    assert beside[0].endswith("out.run: d1.h5") and asked == {("40",): 1}


def test_slurm_is_asked_once_in_40_seconds_whoever_asks(directory, slurm):
    """Story: `wait` put a question to the controller, or two, every two seconds."""
    answer, asked, elements = slurm
    enter(directory, 0, "n1")
    for _ in range(5):
        status_of_units(UnitsDirectory(directory.path), elements)
    assert asked.total() == 1
    forget(directory)
    status_of_units(directory, elements)
    assert asked.total() == 2
    answer.clear()
    assert status_of_units(directory, elements).worlds == 1  # as was said just now
    forget(directory)
    assert status_of_units(directory, elements).state == "resumable"


def test_what_is_kept_of_slurm_does_not_hide_a_world_that_came_since(directory, slurm, monkeypatch):
    answer, asked, elements = slurm
    answer |= {"40_0": "PENDING", "40_1": "PENDING"}
    assert status_of_units(directory, elements).state == "queued"
    answer["40_1"] = "RUNNING"
    enter(directory, 1, "n2")
    monkeypatch.setattr(queue, "AT_THE_END_SECONDS", 0.0)
    status = status_of_units(directory, elements)
    assert (status.state, status.worlds, status.waiting, asked.total()) == ("running", 1, 3, 2)


def test_a_world_whose_element_was_started_again_is_gone(directory, slurm):
    """Its node went down, and Slurm put its element back: the job of that number runs, and is another world's."""
    *_, elements = slurm
    lost, other = enter(directory, 0, "n1"), enter(directory, 0, "n3", restart=1)
    work_on(directory, lost, 0)
    status = status_of_units(directory, elements)
    assert [world.id for world in status.at_work] == [other.id] and status.running == 0
    slurm[0]["40_0"] = "PENDING"
    forget(directory)
    assert status_of_units(directory, elements).worlds == 0


def test_files_that_are_all_done_are_complete_while_elements_wait(directory, slurm):
    *_, elements = slurm
    world = enter(directory, 0, "n1")
    for number in range(6):
        work_on(directory, world, number, rows=10, seconds=1.0)
    assert status_of_units(directory, elements).code == COMPLETE


def test_what_was_read_of_claims_is_not_read_again(directory, slurm, monkeypatch):
    """Of 10,000 files a look every two seconds read 20,000 small files."""
    *_, elements = slurm
    world = enter(directory, 0, "n1")
    for number in range(5):
        work_on(directory, world, number, rows=10, seconds=1.0)
    status_of_units(directory, elements)
    kept = directory.outcome, directory.claimant
    (directory.path / "claims").rename(directory.path / "gone")
    for number in range(5):
        attempt = Attempt(KEYS[number], 1, "done")
        assert (kept[0](attempt).rows, kept[1](attempt)[0]) == (10, world.id)
    assert UnitsDirectory(directory.path).outcome(attempt) is None


def test_runs_and_many_files_are_one_table(directory, slurm, capsys, tmp_path):
    *_, elements = slurm
    enter(directory, 0, "n1")
    (tmp_path / "a.run").mkdir()
    RunDirectory(tmp_path / "a.run").begin()
    run = status_of_any(RunDirectory(tmp_path / "a.run"), OneQuestion([]))
    lines = list(table_lines([status_of_units(directory, elements), run], lambda name: name.rpartition("/")[2]))
    assert lines[0].split() == ["state", "done", "rows/s", "left", "job", "run"]
    assert lines[1].split() == ["running", "0", "of", "6", "files", "·", "·", "40", "out.run"]
    assert lines[2].split() == ["running", "0", "of", "0", "rows", "·", "·", "·", "a.run"]
    assert lines[3] == "2 runs: 2 running; 6 files: 6 queued"
    assert main(["list"]) == COMPLETE and "of 6 files" in capsys.readouterr().out
