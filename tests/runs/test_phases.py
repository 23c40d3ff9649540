"""Phases, several readers and several reducers: the same bytes, whatever is killed."""

import json
import os
import signal

import h5py
import numpy as np
import pytest
from support.interruption import journalled, signatures, wait_for, write_held
from support.planned_phases import PHASES, write_plan
from support.project import MEMBERS, Project

from hpcens.result.journal import Kind, read_journal

EXTRA = "output: {datasets: [prediction, label, members, variance]}\nbad_rows: mask"
EAGER = "[16], runtime: eager"


def bad_data(project):
    """400 rows, some of which hold NaN."""
    project.data(400)
    with h5py.File(project.dataset, "r+") as file:
        file["images"][[3, 200, 399], 0, 0, 0] = np.nan
    return project


@pytest.fixture(scope="module")
def at_once(tmp_path_factory, weights, cache):
    """A run of all members at once."""
    project = bad_data(Project(tmp_path_factory.mktemp("at-once"), weights, cache)).yaml(EXTRA, batch_sizes=EAGER)
    project.hpcens("run", "dataset.h5", "--plan", str(write_plan(project, ())))
    return project


def results(project):
    """All datasets of rows, and what the journal notes."""
    with h5py.File(project.output) as file:
        found = {}
        file.visititems(
            lambda name, of: (
                found.update({name: of[()].tobytes()})
                if isinstance(of, h5py.Dataset) and "hpcens" not in name
                else None
            )
        )
    notes = journalled(project)[-1].notes()
    return found, sorted((n.kind, n.segment, n.member, n.batch, n.checksum) for n in notes)


def journals(project, pattern):
    return [read_journal(path) for path in sorted(project.run.glob(f"epochs/*/{pattern}"))]


def durable(project, pattern):
    """Segments that the newest of these journals holds."""
    found = [content for content in journals(project, pattern) if content]
    return len(found[-1].written()) if found else 0


def inherited(project, pattern):
    """How many segments each start took over."""
    return [
        record.segment
        for content in journals(project, pattern)
        for record in content.records
        if record.kind == Kind.INHERITED
    ]


def held_in(folder, weights, cache, at_once, member):
    """The same work in two phases, with a member that stops after some segments while the file `hold` exists."""
    project = bad_data(Project(folder, weights, cache))
    project.yaml(EXTRA, members=MEMBERS | {member: f"Held{MEMBERS[member]}"}, batch_sizes=EAGER)
    write_held(folder)
    (folder / "plan.json").write_text((at_once.folder / "plan.json").read_text())
    write_plan(project)
    project.hpcens("profile", "dataset.h5")
    (folder / "hold").write_text("4")
    return project


@pytest.mark.parametrize(("phases", "readers", "reducers"), [(PHASES, 1, 1), ((), 4, 1), (PHASES, 2, 3)])
def test_any_number_of_phases_readers_and_reducers_gives_the_same_bytes(project, at_once, phases, readers, reducers):
    bad_data(project).yaml(EXTRA, batch_sizes=EAGER)
    (project.folder / "plan.json").write_text((at_once.folder / "plan.json").read_text())
    out = project.hpcens("run", "dataset.h5", "--plan", str(write_plan(project, phases, readers, reducers)))
    assert results(project) == results(at_once)
    assert "400 rows scored" in out and "3 by input of conv, first row 3" in out
    assert ("phase 1 of 2" in out and "phase 2 of 2" in out) == bool(phases)
    assert not list(project.run.glob("phase-*.h5")), "what phases have stored is in the result"
    assert [s["role"] for s in signatures(project)].count("reader") == readers
    report = json.loads((project.run / "epochs/0001/report.json").read_text())
    rows = {}
    for of in report["instances"]:
        rows[of["member"]] = rows.get(of["member"], 0) + of.get("rows", 0)
    assert rows == dict.fromkeys(MEMBERS, 400)
    assert "sound" in project.hpcens("verify", "dataset.predictions.h5")
    events = (json.loads(line) for line in (project.run / "epochs/0001/events.jsonl").read_text().splitlines())
    assert [of["rows"] for of in events if of["event"] == "progress"][-1] == 400


@pytest.mark.parametrize(("member", "role", "crew"), [("conv", "reducer", 1), ("linear", "reader", 2)])
def test_kill_a_rank_in_any_phase_and_run_again(tmp_path, weights, cache, at_once, member, role, crew):
    """Story: kill -9 of the only reducer in the first phase, of the second reader in the second one; again, and the
    phase goes on where it was."""
    project = held_in(tmp_path, weights, cache, at_once, member)
    write_plan(project, PHASES, crew, crew)
    phase = 1 if member == "conv" else 2
    pattern = "phase-*-journal" if phase == 1 else "journal"
    try:
        process = project.start("run", "dataset.h5", "--plan", "plan.json")
        wait_for(lambda: durable(project, pattern) >= 2, process)
        victim = [s for s in signatures(project) if s["role"] == role][-1]
        os.kill(victim["pid"], signal.SIGKILL)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 1 and f"rank {victim['rank']} ({victim['role']})" in error
        status = json.loads(project.hpcens("status", "--json", "dataset.predictions.run"))
        assert (status["phase"], status["phases"], status["of"]) == (phase, 2, 400)
        assert len(list(project.run.glob("phase-????????????.h5"))) == phase - 1
        kept = durable(project, pattern)
        (tmp_path / "hold").unlink()
        project.hpcens("run", "dataset.h5", "--plan", "plan.json")
        assert results(project) == results(at_once)
        assert sorted(inherited(project, pattern)) == [0, kept]
        assert len(list(project.run.glob("epochs/*/phase-*-journal"))) == 3 - phase, "a phase is scored once"
        assert "sound" in project.hpcens("verify", "dataset.predictions.h5")
    finally:
        project.end()


def test_a_signal_drains_all_readers_and_the_same_command_continues_with_one(tmp_path, weights, cache, at_once):
    """Story: two readers and two reducers are interrupted in the first phase; one of each continues."""
    project = held_in(tmp_path, weights, cache, at_once, "conv")
    write_plan(project, PHASES, 2, 2)
    try:
        process = project.start("run", "dataset.h5", "--plan", "plan.json")
        wait_for(lambda: durable(project, "phase-*-journal") >= 2, process)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "draining" in (project.run / "epochs/0001/events.jsonl").read_text(), process)
        (tmp_path / "hold").unlink()
        _, error = process.communicate(timeout=project.patience)
        assert process.returncode == 75, error
        assert "stopped by SIGINT" in error and "rows are durable in phase 1 of 2" in error
        [content] = journals(project, "phase-*-journal")
        assert content.closed and 2 <= len(content.written()) < 25
        write_plan(project)
        project.hpcens("run", "dataset.h5", "--plan", "plan.json")
        assert results(project) == results(at_once)
        assert inherited(project, "phase-*-journal") == [0, len(content.written())]
    finally:
        project.end()
