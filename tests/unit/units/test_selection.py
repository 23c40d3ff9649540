"""What verbs on several runs are given: paths, folders, patterns; and the table they show."""

import json
from pathlib import Path

import pytest

from hpcens.cli import main
from hpcens.errors import COMPLETE, INCOMPLETE, UsageError
from hpcens.runs import RunDirectory, Verdict
from hpcens.units import Attempt, Outcome, Round, Unit, UnitList, UnitsDirectory, World
from hpcens.units.selection import select


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two runs in `alone`, one complete; many files in `out`, one done, one failed, one left."""
    monkeypatch.chdir(tmp_path)
    for name, verdict in (("a", Verdict(COMPLETE, "scored")), ("b", Verdict(INCOMPLETE, "drained", "run again"))):
        run = RunDirectory(tmp_path / "alone" / f"{name}.run")
        run.path.mkdir(parents=True)
        run.begin().judge(verdict)
    units = UnitsDirectory.of(tmp_path / "out")
    units.make()
    (tmp_path / "out").mkdir()
    keys = [f"{number:016x}" for number in range(3)]
    units.keep(
        UnitList(0, "{}", {}, tuple(Unit(k, f"d{i}.h5", f"out/d{i}.predictions.h5", 9) for i, k in enumerate(keys)))
    )
    units.keep_round(Round("0" * 8, 1.0))
    for key, kind, outcome in (
        (keys[0], "done", Outcome(0, "scored", 40, 2.0)),
        (keys[1], "failed", Outcome(65, "bad")),
    ):
        units.claim(Attempt(key, 1), "f" * 8, "0" * 8)
        units.settle(Attempt(key, 1), kind, outcome)
    return tmp_path


def names(items):
    return [item.path.name for item in items]


def test_runs_are_selected_by_path_folder_and_pattern(folder):
    assert names(select([Path("alone")])) == ["a.run", "b.run"]
    assert names(select([Path("alone/*.run"), Path("alone/a.run"), Path("out")])) == ["a.run", "b.run", "out.run"]
    assert names(select([Path()])) == ["out.run", "a.run", "b.run"]
    with pytest.raises(UsageError, match="nothing matches"):
        select([Path("none-*.run")])
    with pytest.raises(UsageError, match="is no run directory"):
        select([Path("nowhere")])


def test_status_of_many_is_one_table(folder, capsys):
    assert main(["status", "out", "alone"]) == COMPLETE
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()[1:4]] == [
        ["resumable", "1", "of", "3", "files,", "1", "failed", "·", "·", "·", "out.run"],
        ["complete", "0", "of", "0", "rows", "·", "·", "·", "alone/a.run"],
        ["resumable", "0", "of", "0", "rows", "·", "·", "·", "alone/b.run"],
    ]
    assert said.splitlines()[4] == "3 runs: 2 resumable, 1 complete; 3 files: 1 done, 1 queued, 1 failed"
    assert "out.run: failed (65): d1.h5: bad" in said and "alone/b.run: drained" in said
    assert "out.run: next: run the same command again" in said
    assert main(["status", "out"]) == COMPLETE
    said = capsys.readouterr().out
    assert "resumable: 1 of 3 files done, 1 queued, 1 failed" in said and "40 rows scored" in said
    assert main(["status", "out", "--json"]) == COMPLETE
    assert json.loads(capsys.readouterr().out)["failed"][0]["code"] == 65
    assert main(["status", "alone/a.run", "alone/b.run", "--watch"]) == INCOMPLETE
    assert main(["wait", "alone/a.run"]) == COMPLETE
    capsys.readouterr()
    assert main(["wait", "out", "alone"]) == INCOMPLETE
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 runs: 2 resumable, 1 complete; 3 files: 1 done")
    assert main(["list"]) == COMPLETE and "of 3 files, 1 failed" in capsys.readouterr().out


def test_a_living_world_is_cancelled_and_what_nothing_works_on_is_refused(folder, capsys):
    assert main(["cancel", "out", "alone"]) == 2
    units = UnitsDirectory.of(folder / "out")
    World.new("0" * 8, None).enter(units.worlds)
    assert main(["cancel", "out"]) == COMPLETE
    assert json.loads(units.cancel.read_text())["names"] == ["0" * 8]
    assert main(["status", "out"]) == COMPLETE and "running: 1 of 3 files done" in capsys.readouterr().out


def test_what_takes_one_result_refuses_the_folder_of_many(folder, capsys):
    assert main(["combine", "out", "--rule", "median", "-o", "x.h5"]) == 2
    assert main(["export", "out", "-o", "x.csv"]) == 2
    assert main(["verify", "out"]) == 2
    said = capsys.readouterr().err
    assert said.count("is the folder of many results") == 2 and "there is no result in out" in said


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--each", "-o", "x.h5"], "-o names one result"),
        (["--each", "--plan", "p.json"], "--plan is for one dataset"),
        (["--each", "--trace", "t.json"], "--trace is for one dataset"),
        (["-o", "x.h5"], "output: {path: "),
    ],
)
def test_options_of_one_dataset_are_refused_by_name(folder, capsys, options, why):
    assert main(["run", "d.h5", *options]) == 2
    assert why in capsys.readouterr().err
