"""Many files, each into its own result: one world after another, with real members and files but without MPI."""

import json
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.project import Project
from support.unit_ranks import Ranks, Verdicted, without_mpi

from hpcens.config import load
from hpcens.errors import BAD_DATA, FAILURE, INCOMPLETE, FingerprintMismatch, MemberError, UsageError
from hpcens.files import digest_file
from hpcens.members import kept_digests
from hpcens.result.verify import verify
from hpcens.runs import Claim, SlurmJob, Verdict
from hpcens.runs.cancellation import ask_to_end, asked_to_end
from hpcens.units import Attempt, Outcome, World
from hpcens.units.status import status_of_units
from hpcens.worlds.files import list_files, made_of
from hpcens.worlds.world import UnitsWorld

FAULTY = {"day-2/part-1", "day-3/part-0", "day-1/part-3"}


@pytest.fixture
def project(tmp_path, weights, cache, monkeypatch):
    made = Project(tmp_path, weights, cache).yaml("output: {folder: out}", members={"linear": "Linear"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "nets", None)
    del sys.modules["nets"]
    monkeypatch.setenv("HPCENS_CACHE", str(tmp_path / "cache"))
    without_mpi(monkeypatch)
    for number in range(12):
        name = f"day-{number // 4 + 1}/part-{number % 4}"
        path = tmp_path / f"{name}.h5"
        path.parent.mkdir(exist_ok=True)
        x = np.random.default_rng(number).random((8 + number, 3, 8, 8), np.float32)
        if name == "day-2/part-1":
            x = x[:, :2]
        if name == "day-3/part-0":
            x[3, 0, 0, 0] = np.nan
        with h5py.File(path, "w") as file:
            file["images"] = x
    (tmp_path / "day-1" / "part-3.h5").write_bytes(b"this is no HDF5 file")
    return made


def listed(project, pattern="day-*/part-*.h5", **options):
    return list_files(load(project.folder / "hpcens.yaml"), [pattern], **options)


def world(directory, files, round_id="r", **options):
    return UnitsWorld(directory, files, round_id, **options)


def names(project):
    return {
        str(path.relative_to(project.folder / "out")).removesuffix(".predictions.h5")
        for path in (project.folder / "out").rglob("*.predictions.h5")
    }


def test_faulty_files_fail_alone_and_the_same_command_does_only_these(project):
    directory, files = listed(project)
    lines = []
    tally = world(directory, files, tell=lines.append).live()
    assert (tally.done, tally.failed, tally.verdict) == (9, 3, None)
    assert tally.left == 0, "rows of another shape, on which ranks end here, are no failure that may pass"
    status = status_of_units(directory)
    assert (status.state, status.code, status.done, status.of) == ("failed", BAD_DATA, 9, 12)
    reasons = {failure.dataset.removeprefix(f"{project.folder}/"): failure.reason for failure in status.failed}
    assert {name.removesuffix(".h5") for name in reasons} == FAULTY
    assert "row 3" in reasons["day-3/part-0.h5"] and "HDF5" in reasons["day-1/part-3.h5"]
    assert "its rows are <f4[2, 8, 8], and the members were tried on <f4[3, 8, 8]: " in reasons["day-2/part-1.h5"]
    assert len(lines) == 12 and len(names(project)) == 9
    for output in (project.folder / "out").rglob("*.predictions.h5"):
        assert verify(output).sound
    with h5py.File(project.folder / "day-3" / "part-0.h5", "r+") as file:
        file["images"][3, 0, 0, 0] = 0.5
    Ranks.given = 0
    tally = world(directory, files, "s").live()
    assert (tally.done, tally.failed, Ranks.given) == (1, 2, 2)
    assert "day-3/part-0" in names(project)
    assert world(directory, files, "s").live().verdict is None and Ranks.given == 2


def test_a_node_that_ends_ranks_on_other_rows_is_not_excused_by_them(project, monkeypatch):
    directory, files = listed(project, "day-2/part-[01].h5")

    def before(epoch):
        raise Verdicted(Verdict(FAILURE, "rank 2 was killed", node="n7"))

    monkeypatch.setattr(Ranks, "before", staticmethod(before))
    assert world(directory, files).live().failed
    assert {failure.code for failure in status_of_units(directory).failed} == {FAILURE}


def test_a_member_that_fails_on_other_rows_alone_is_the_fault_of_the_data(project, monkeypatch):
    directory, files = listed(project, "day-2/part-[0-2].h5")

    def check_members(job, preflight, **others):
        if "part-0" not in str(job.output):  # part-1 has rows of another shape, part-2 has not
            raise MemberError("member linear cannot be run")
        return ()

    monkeypatch.setattr("hpcens.launch.start.check_members", check_members)
    assert world(directory, files).live().failed == 2
    codes = {
        Path(failure.dataset).stem: (failure.code, failure.reason) for failure in status_of_units(directory).failed
    }
    assert codes["part-2"] == (FAILURE, "member linear cannot be run")
    reason = "its rows are <f4[2, 8, 8], and the members were tried on <f4[3, 8, 8]: member linear cannot be run"
    assert codes["part-1"] == (BAD_DATA, reason)


def test_small_files_share_a_start(project):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    assert world(directory, files).live().done == 3
    assert (Ranks.starts, Ranks.given) == (1, 3)


def test_a_world_that_finds_nothing_to_do_starts_nothing(project, monkeypatch):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    world(directory, files).live()
    monkeypatch.setattr("hpcens.launch.local.ranks_of", lambda job: pytest.fail("it looks for devices"))
    assert world(directory, files).live().done == 0
    assert len(list(directory.worlds.iterdir())) == 1


def test_ranks_that_die_are_started_again_and_a_file_that_ends_them_twice_fails(project, monkeypatch):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    bad = [unit for unit in files.units if unit.dataset.endswith("part-2.h5")]

    def before(epoch):
        if str(epoch.folder).startswith(bad[0].output.removesuffix(".h5")):
            raise Verdicted(Verdict(FAILURE, "rank 2 was killed"))

    monkeypatch.setattr(Ranks, "before", staticmethod(before))
    tally = world(directory, files).live()
    assert (tally.done, tally.left, tally.failed) == (2, 1, 1)
    assert [failure.reason for failure in status_of_units(directory).failed] == ["rank 2 was killed"]


def test_a_node_on_which_nothing_works_does_not_use_up_the_files(project, monkeypatch):
    directory, files = listed(project, "day-[23]/part-[23].h5")

    def before(epoch):
        raise Verdicted(Verdict(FAILURE, "ECC error"))

    monkeypatch.setattr(Ranks, "before", staticmethod(before))
    tally = world(directory, files).live()
    assert tally.verdict.code == FAILURE and "3 files in a row" in tally.verdict.reason
    assert tally.failed <= 1 and status_of_units(directory).state == "resumable"


def test_what_a_dead_world_held_is_taken_over(project):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    dead = World.new("r", None)
    folder = dead.enter(directory.worlds)
    raw = json.loads((folder / "world.json").read_text())
    raw.pop("checksum")
    (folder / "world.json").write_text(json.dumps(raw | {"born": 1}))
    assert directory.claim(Attempt(files.units[0].key, 1), dead.id, "r")
    assert world(directory, files).live().done == 3
    assert directory.attempts()[files.units[0].key][-1] == Attempt(files.units[0].key, 2, "done")


def test_what_a_living_world_holds_is_left_to_it(project):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    other = World.new("r", None)
    other.enter(directory.worlds)
    held = Attempt(files.units[0].key, 1)
    assert directory.claim(held, other.id, "r")
    assert world(directory, files).live().done == 2
    assert status_of_units(directory).state == "running"
    directory.settle(held, "left", Outcome(INCOMPLETE, "drained"))
    assert world(directory, files).live().done == 1


def test_a_file_on_which_worlds_die_again_and_again_fails(project):
    directory, files = listed(project, "day-1/part-0.h5")
    for number in (1, 2, 3):
        directory.claim(Attempt(files.units[0].key, number), f"{number:08x}", "r")
    tally = world(directory, files).live()
    assert tally.failed == 1 and Ranks.given == 0
    assert "3 worlds ended without a word" in status_of_units(directory).failed[0].reason
    assert world(directory, files, "s").live().done == 1


def test_a_world_that_is_asked_to_end_gives_the_rest_back(project, monkeypatch):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    monkeypatch.setattr(Ranks, "before", staticmethod(lambda epoch: ask_to_end(directory.cancel, "cancelled", {"r"})))
    tally = world(directory, files).live()
    assert (tally.done, tally.verdict.code, tally.verdict.reason) == (1, INCOMPLETE, "cancelled")
    assert status_of_units(directory).state == "resumable"
    assert world(directory, files, "s").live().done == 2


class DrainedRanks(Ranks):
    """Ranks that score nothing until their run is asked to end by a name of this start."""

    def give(self, epoch):
        self.lives = True
        threading.Thread(target=self._drain, args=(epoch,), daemon=True).start()

    def _drain(self, epoch):
        claim = Claim.load(epoch.claim)
        while not (reason := asked_to_end(epoch.folder.parents[1] / "cancel", claim.names)):
            time.sleep(0.01)
        epoch.judge(Verdict(INCOMPLETE, reason))


def test_a_file_that_was_drained_is_gone_on_with_by_the_same_job(project, monkeypatch):
    directory, files = listed(project, "day-1/part-0.h5")
    job = SlurmJob("7", "c", 0, "r", "5_0")
    monkeypatch.setattr("hpcens.worlds.world.UnitRanks", DrainedRanks)
    threading.Timer(1.0, ask_to_end, (directory.cancel, "the time limit is near", {"r"})).start()
    tally = world(directory, files, slurm=job).live()
    assert tally.left == 1 and tally.verdict.reason == "the time limit is near"
    directory.cancel.unlink()
    monkeypatch.setattr("hpcens.worlds.world.UnitRanks", Ranks)
    assert world(directory, files, slurm=replace(job, restart=1)).live().done == 1


def test_an_element_that_was_started_again_takes_over_what_its_predecessor_held_before_all_else(project):
    """Its node went down at a file, of which some rows may be durable: that file is not left for the end."""
    directory, files = listed(project, "day-1/part-[0-2].h5")
    job = SlurmJob("7", "c", 0, "r", "5_0")
    lost, other = World.new("r", job), World.new("r", replace(job, id="8", element="5_1"))
    for each, unit in ((lost, files.units[-1]), (other, files.units[0])):
        each.enter(directory.worlds)  # of this process, which lives
        assert directory.claim(Attempt(unit.key, 1), each.id, "r")
    scored = []
    assert world(directory, files, slurm=replace(job, restart=1), tell=scored.append).live().done == 2
    assert scored[0].startswith(f"done: {files.units[-1].name}")
    assert directory.attempts()[files.units[-1].key][-1] == Attempt(files.units[-1].key, 2, "done")
    assert directory.attempts()[files.units[0].key] == (Attempt(files.units[0].key, 1),)


def test_only_what_fits_the_time_left_is_claimed(project):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    tally = world(directory, files, ends=1.0).live()
    assert tally.done == 0 and tally.short and not directory.attempts()
    tally = world(directory, files, ends=9e9).live()
    assert tally.done == 3 and not tally.short


def test_weights_are_digested_once_unless_they_change(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(kept_digests, "digest_file", lambda file: read.append(file) or digest_file(file))
    weights = tmp_path / "a.pt"
    weights.write_bytes(b"first")
    with kept_digests.digests_kept():
        first = [kept_digests.digest(weights) for _ in range(3)]
        weights.write_bytes(b"other")
        assert kept_digests.digest(weights) == digest_file(weights) != first[0]
    assert len(set(first)) == 1 and len(read) == 2
    assert kept_digests.digest(weights) and kept_digests.digest(weights) and len(read) == 4


def test_masked_rows_of_one_file_are_its_own(project):
    project.yaml("output: {folder: out}\nbad_rows: mask", members={"linear": "Linear"})
    directory, files = listed(project, "day-3/part-*.h5")
    assert world(directory, files).live().done == 4
    with h5py.File(project.folder / "out" / "part-0.predictions.h5") as file:
        assert file["valid"][:].tolist() == [1, 1, 1, 0] + [1] * 12


def test_another_ensemble_is_refused_once_something_was_scored(project):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    world(directory, files).live()
    assert listed(project, "day-1/part-[0-1].h5")[1].number == 2
    project.yaml("output: {folder: out, datasets: [prediction]}", members={"linear": "Linear"})
    with pytest.raises(FingerprintMismatch, match="made of something else: outputs") as error:
        listed(project, "day-1/part-[0-2].h5")
    assert "output.folder" in error.value.remedy
    project.yaml("output: {folder: out}", members={"linear": "Linear", "conv": "Conv"})
    with pytest.raises(FingerprintMismatch, match="member conv: "):
        listed(project, "day-1/part-[0-2].h5")


def test_weights_that_change_after_the_list_end_the_world_and_no_file(project, monkeypatch):
    directory, files = listed(project, "day-1/part-[0-2].h5")
    now = made_of
    monkeypatch.setattr(
        "hpcens.worlds.world.made_of", lambda checked: now(checked) | {"member linear: weights": "other"}
    )
    tally = world(directory, files).live()
    assert tally.verdict.code == 78 and "member linear: weights" in tally.verdict.reason
    assert (tally.done, tally.failed) == (0, 0)


def test_a_fault_of_all_files_is_told_at_once(project):
    for number in range(4):
        (project.folder / "day-1" / f"part-{number}.h5").write_bytes(b"no HDF5")
    with pytest.raises(Exception, match="HDF5") as error:
        listed(project, "day-1/part-*.h5")
    assert error.value.exit_code == BAD_DATA


def test_one_name_for_many_results_is_refused(project):
    project.yaml("output: {path: out.h5}", members={"linear": "Linear"})
    with pytest.raises(UsageError, match=r"output\.path names one result"):
        listed(project)
