"""The list of files: paths mirrored, names that would collide refused, written once."""

import json
import threading
from pathlib import Path

import pytest

from hpcens.errors import DataError, UsageError
from hpcens.units import (
    Outcome,
    Round,
    Unit,
    UnitList,
    UnitsDirectory,
    World,
    claim_next,
    dead_worlds,
    list_units,
    units_at,
)
from hpcens.units.worlds import beating_world


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("day-1/part-0.h5", "day-1/part-1.h5", "day-2/part-0.h5", "day-2/notes.txt")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * (number + 1))
    return tmp_path


def outputs(units, folder):
    return [str(Path(unit.output).relative_to(folder)) for unit in units]


def test_paths_are_mirrored_below_the_output_folder_the_largest_first(files):
    out = files / "out"
    mirrored = ["day-2/part-0.predictions.h5", "day-1/part-1.predictions.h5", "day-1/part-0.predictions.h5"]
    assert outputs(list_units(["day-*/part-*.h5"], out), out) == mirrored
    assert outputs(list_units([f"{files}/day-*/part-*.h5"], out), out) == mirrored
    shell_expanded = ["day-1/part-0.h5", "day-1/part-1.h5", "day-2/part-0.h5"]
    assert outputs(list_units(shell_expanded, out), out) == mirrored
    assert outputs(list_units(["day-2/*.h5"], out), out) == ["part-0.predictions.h5"]
    assert outputs(list_units(["day-2/*.h5"], out, limit=5), out) == ["part-0.first-5.predictions.h5"]


def test_results_of_one_name_are_refused_with_both_files(files, monkeypatch):
    (files / "day-1" / "part-0.hdf5").touch()
    with pytest.raises(UsageError, match=r"day-1/part-0.h5 and .*day-1/part-0.hdf5 would both be scored into"):
        list_units(["day-1/part-0*"], files / "out")
    monkeypatch.chdir(files / "day-2")
    both = [str(files / "day-1" / "part-0.h5"), str(files / "day-1" / ".." / "day-1" / "part-0.h5")]
    with pytest.raises(UsageError, match="named more than once"):
        list_units(both, files / "out")
    (files / "elsewhere").mkdir()
    monkeypatch.chdir(files / "elsewhere")
    with pytest.raises(UsageError, match=r"day-1/part-0.h5 and .*day-2/part-0.h5 would") as error:
        list_units([str(files / "day-1" / "part-0.h5"), str(files / "day-2" / "part-0.h5")], files / "out")
    assert error.value.exit_code == 2 and "quoted pattern" in error.value.remedy


def test_results_of_before_are_no_files_to_score(files):
    (files / "day-1" / "part-0.predictions.h5").touch()
    assert len(list_units(["day-1/*.h5"], files / "out")) == 2
    with pytest.raises(DataError, match="no file matches"):
        list_units(["day-9/*.h5"], files / "out")


def unit_list(*names, job="{}"):
    return UnitList(1, job, {"member a": "d"}, tuple(Unit(f"{i:016x}", n, f"{n}.out", 1) for i, n in enumerate(names)))


@pytest.fixture
def directory(tmp_path):
    made = UnitsDirectory.of(tmp_path / "out.v2")
    made.make()
    return made


def test_a_list_is_written_once_and_another_gets_the_next_number(directory):
    assert directory.path.name == "out.v2.run" and directory.newest_list is None
    first = directory.keep(unit_list("a", "b"))
    assert directory.keep(unit_list("a", "b")) == first == directory.newest_list
    second = directory.keep(unit_list("a", "b", "c"))
    assert (first.number, second.number, directory.newest_list) == (1, 2, second)
    assert sorted(path.name for path in (directory.path / "lists").iterdir()) == ["0001.json", "0002.json"]


def test_a_flipped_bit_in_the_list_is_seen(directory):
    directory.keep(unit_list("a", "b"))
    path = directory.path / "lists" / "0001.json"
    path.write_text(path.read_text().replace('"bytes": 1', '"bytes": 3', 1))
    with pytest.raises(UsageError, match=r"0001\.json is damaged"):
        _ = directory.newest_list


def test_of_many_claims_at_once_one_succeeds_and_its_outcome_stands(directory):
    units = directory.keep(unit_list("a"))
    together, won = threading.Barrier(6), []

    def claim(number):
        together.wait()
        if claimed := claim_next(directory, units, f"w{number}", "r", dead=lambda names: ()):
            won.append((f"w{number}", claimed.attempt))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [(world, attempt)] = won
    assert directory.claimant(attempt) == (world, "r")
    directory.settle(attempt, "failed", Outcome(65, "no HDF5 file"))
    [standing] = directory.standings(units, "r").values()
    assert standing.state == "failed" and directory.outcome(standing.last).reason == "no HDF5 file"
    assert directory.standings(units, "another")[attempt.unit].state == "free"


def test_a_directory_of_units_is_found_by_its_own_path_and_by_its_results_folder(directory, tmp_path):
    for path in (directory.path, tmp_path / "out.v2"):
        assert units_at(path).path == directory.path
    assert units_at(tmp_path) is None


def test_rounds_are_kept_in_their_order(directory):
    first, second = Round("a" * 8, 1.0), Round("0" * 8, 2.0, ("17",), "/logs", 20)
    for own in (second, first):
        directory.keep_round(own)
    assert directory.rounds() == [first, second]


def test_a_world_that_said_so_or_whose_process_is_gone_has_ended(directory):
    living, ended, gone = (World.new("r", None) for _ in range(3))
    folders = {world.id: world.enter(directory.worlds) for world in (living, ended, gone)}
    with beating_world(folders[ended.id]):
        pass
    raw = json.loads((folders[gone.id] / "world.json").read_text())
    raw.pop("checksum")
    (folders[gone.id] / "world.json").write_text(json.dumps(raw | {"born": 1}))
    assert dead_worlds(directory.worlds, folders) == {ended.id, gone.id}
