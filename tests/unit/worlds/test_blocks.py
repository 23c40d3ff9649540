"""One dataset that worlds share, with real members and files but without MPI: the bytes of one world's result."""

import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import one_process
from support.project import Project
from support.results import flip
from support.unit_ranks import Ranks, Verdicted, without_mpi

from hpcens.cli import main
from hpcens.config.job import job_from
from hpcens.errors import COMPLETE, FAILURE, INCOMPLETE, MISMATCH, FingerprintMismatch, UsageError
from hpcens.planning.order import read_order
from hpcens.reports.units import units_lines
from hpcens.result.decision import decision_of
from hpcens.result.verify import look_through
from hpcens.runs import Finding, RunDirectory, Verdict, digest_of_fingerprint
from hpcens.runs.cancellation import ask_to_end
from hpcens.units import Attempt, Outcome, Round, UnitsDirectory, World
from hpcens.units.blocks import blocks_of
from hpcens.units.status import status_of_units
from hpcens.vocabulary import cpu_devices
from hpcens.worlds.blocks import BlocksWorld
from hpcens.worlds.dataset import check_dataset, list_dataset

ROWS = 26
REQUIRE_KIND = BlocksWorld._require_kind


@pytest.fixture
def project(tmp_path, weights, cache, monkeypatch):
    made = Project(tmp_path, weights, cache).yaml(
        "output: {path: out.h5, datasets: [prediction, label]}", members={"linear": "Linear", "conv": "Conv"}
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "nets", None)
    del sys.modules["nets"]
    monkeypatch.setenv("HPCENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(BlocksWorld, "_require_kind", lambda self, decision: None)
    without_mpi(monkeypatch)
    return made.data(ROWS)


def listed(project, worlds=2, **options):
    checked = check_dataset(job_from([str(project.dataset)], config=project.folder / "hpcens.yaml", **options))
    return list_dataset(checked, worlds)


def world(project, round_id="r", **options):
    directory, units = listed(project)
    return BlocksWorld(directory, units, round_id, **options)


def run(project):
    return RunDirectory.of(project.folder / "out.h5")


def content(path):
    with h5py.File(path) as file:
        names = [*file.attrs["outputs"], "hpcens/checksums", "hpcens/written"]
        return {name: file[name][:].tobytes() for name in names} | {"made of": file.attrs["fingerprint"]}


def of_one_world(project):
    output = project.folder / "alone.h5"
    one_process.run(project.folder / "hpcens.yaml", project.dataset, output)
    return content(output)


def check(project):
    assert look_through(project.folder / "out.h5").faults == []
    assert content(project.folder / "out.h5") == of_one_world(project)
    assert not run(project).blocks.exists() and not (run(project).path / "lists").exists()
    assert main(["status", str(run(project).path)]) == 0


def test_one_world_gives_the_bytes_of_a_plain_run(project, capsys):
    lines = []
    tally = world(project, tell=lines.append).live()
    assert tally.verdict is None and tally.failed == 0
    assert lines[0].startswith("done: the plan") and "rows 0–3" in lines[1] and "26 rows scored in" in lines[-1]
    assert tally.done == len(lines) and Ranks.starts == 1  # all in one start of MPI
    check(project)
    [own] = (run(project).path / "worlds").iterdir()
    (own / "output.log").write_text("what its ranks wrote\n")
    capsys.readouterr()
    assert main(["logs", "out.h5"]) == 0 and "what its ranks wrote" in capsys.readouterr().out
    assert check_dataset(job_from([str(project.dataset)], config=Path("hpcens.yaml"))) is None


def test_worlds_beside_each_other_share_the_blocks(project, monkeypatch):
    scored = []
    lock = threading.Lock()  # members and torch are of one process

    def before(epoch):
        lock.acquire()
        scored.append(read_order(epoch)[0].segments)

    class Locked(Ranks):
        def give(self, epoch):
            try:
                super().give(epoch)
            finally:
                lock.release()

    monkeypatch.setattr(Ranks, "before", staticmethod(before))
    monkeypatch.setattr("hpcens.worlds.world.UnitRanks", Locked)
    monkeypatch.setattr("hpcens.launch.follow.signal.signal", lambda *_: None)
    tallies = []
    worlds = [world(project, round_id) for round_id in "ab"]
    threads = [threading.Thread(target=lambda each=each: tallies.append(each.live())) for each in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(scored) == sorted(set(scored)) and scored[0] == (0, 0)
    assert sum(tally.done for tally in tallies) == len(scored) + 1
    check(project)


def test_who_puts_the_blocks_together_has_done_it_though_another_sees_the_result_first(project, monkeypatch):
    """The claims go with whoever finds the result there, maybe before it is said that it was made."""
    settle, other = UnitsDirectory.settle, world(project, "s")

    def late(self, attempt, kind, outcome):
        if (project.folder / "out.h5").exists():
            assert other.live().done == 0
        settle(self, attempt, kind, outcome)

    monkeypatch.setattr(UnitsDirectory, "settle", late)
    lines = []
    tally = world(project, tell=lines.append).live()
    assert tally.done == len(lines) and lines[-1].startswith("done: putting the blocks together")
    check(project)


def test_a_world_that_died_costs_its_block_alone_and_what_is_durable_of_it_is_kept(project, monkeypatch):
    directory, units = listed(project)
    given = []

    def before(epoch):
        given.append(read_order(epoch)[0].segments)
        if len(given) == 3:
            job, preflight = read_order(epoch)
            with monkeypatch.context() as patch:
                patch.setattr(one_process, "begin", lambda run: epoch)
                one_process.score_start(job, preflight, most=1)
            raise Verdicted(Verdict(INCOMPLETE, "drained"))

    monkeypatch.setattr(Ranks, "before", staticmethod(before))
    tally = BlocksWorld(directory, units, "r").live()
    assert tally.left == 1 and tally.verdict is None
    status = status_of_units(directory)
    assert (status.state, status.code, status.noun) == ("resumable", INCOMPLETE, "blocks")
    assert (status.done, status.of, status.of_rows) == (status.of - 1, len(given) - 1, ROWS)
    assert 0 < status.rows < ROWS
    Ranks.given = 0
    assert world(project, "s").live().done == 2 and Ranks.given == 1  # the block, and their assembly
    check(project)


def test_a_world_is_slow_beside_others_and_not_beside_the_plan(project, monkeypatch):
    """Where the plan had promised all too much, all worlds would have left the largest blocks for the end."""
    directory, units = listed(project, worlds=4)
    monkeypatch.setattr(Ranks, "before", staticmethod(lambda epoch: Ranks.given == 2 and ask_to_end(*asked)))
    asked = directory.cancel, "cancelled", {"r"}
    BlocksWorld(directory, units, "r").live()  # it has planned
    blocks = blocks_of(directory.newest_list)
    own = world(project, "s")
    own._follow()
    own._warm = [(blocks[0].bytes, 10.0)]
    for block, rows in zip(blocks, (1, None, None), strict=False):
        attempt = Attempt(block.key, 2)
        assert directory.claim(attempt, "0000beef", "r")
        seconds = 4.0 * block.bytes / blocks[0].bytes
        directory.settle(attempt, "done", Outcome(COMPLETE, "scored", rows or block.rows, seconds))
    monkeypatch.setattr("hpcens.worlds.blocks._LOOKS", 2)
    monkeypatch.setattr("hpcens.worlds.blocks._FEWEST_OTHERS", 2)
    standings = directory.standings(directory.newest_list)
    own._look_at_others(standings)
    assert len(own._others) == 2 and own._pace() == 1.0  # of few nothing is concluded, of a part of a block neither
    own._look_at_others(standings)
    assert own._pace() == pytest.approx(0.4)


def test_what_a_dead_world_held_is_taken_over(project):
    directory, units = listed(project)
    assert directory.claim(Attempt(units.units[0].key, 1), "0000dead", "r")  # it planned
    assert BlocksWorld(directory, units, "r").live().verdict is None
    check(project)


def test_a_late_world_starts_nothing_where_others_hold_what_is_left(project, monkeypatch):
    directory, units = listed(project)
    held = []

    def before(epoch):
        if not held and read_order(epoch)[0].segments != (0, 0):
            other = World.new("r", None)
            other.enter(directory.worlds)
            block = blocks_of(directory.newest_list)[-1]
            held.append(Attempt(block.key, 1))
            assert directory.claim(held[0], other.id, "r")

    monkeypatch.setattr(Ranks, "before", staticmethod(before))
    first = BlocksWorld(directory, units, "r").live()
    assert first.done == len(blocks_of(directory.newest_list))  # the plan, and all blocks but one
    Ranks.starts = 0
    assert world(project).live().done == 0 and Ranks.starts == 0
    assert status_of_units(directory).state == "running"
    directory.settle(held[0], "left", Outcome(INCOMPLETE, "drained"))
    assert world(project).live().done == 2
    check(project)


def test_a_block_that_fails_twice_ends_all_worlds_of_its_round_and_is_named(project, monkeypatch):
    with h5py.File(project.dataset, "r+") as file:
        file["images"][10] = np.nan
    tally = world(project).live()
    assert tally.verdict.code == 65
    assert tally.verdict.reason.startswith("rows ") and "in row 10" in tally.verdict.reason
    directory = listed(project)[0]
    assert world(project).live().done == 0  # of the same round
    status = status_of_units(directory)
    assert [failure.code for failure in status.failed] == [65] and status.failed[0].dataset.startswith("rows ")
    crash = RuntimeError("it crashed")
    monkeypatch.setattr(Ranks, "before", staticmethod(lambda epoch: (_ for _ in ()).throw(crash)))
    tally = world(project, "s").live()
    assert (tally.verdict.code, tally.left, tally.failed) == (FAILURE, 1, 1) and "it crashed" in tally.verdict.reason


def test_a_world_that_is_asked_to_end_gives_back_what_it_holds(project, monkeypatch):
    directory, units = listed(project)
    monkeypatch.setattr(
        Ranks,
        "before",
        staticmethod(lambda epoch: Ranks.given == 3 and ask_to_end(directory.cancel, "cancelled", {"r"})),
    )
    tally = BlocksWorld(directory, units, "r").live()
    assert (tally.verdict.code, tally.verdict.reason) == (INCOMPLETE, "cancelled")
    assert world(project, "s").live().verdict is None
    check(project)


@pytest.mark.parametrize("harm", ["flip", "gone"])
def test_a_block_that_is_damaged_before_all_are_put_together_is_scored_again(project, monkeypatch, harm):
    directory, units = listed(project)
    harmed = []

    def before(epoch):
        there = sorted(run(project).blocks.glob("*.h5"))
        if there and not harmed:
            harmed.append(there[0])
            flip(there[0], "prediction", 1) if harm == "flip" else there[0].unlink()

    monkeypatch.setattr(Ranks, "before", staticmethod(before))
    lines = []
    tally = BlocksWorld(directory, units, "r", tell=lines.append).live()
    assert tally.verdict is None and harmed and any("1 of" in line and "damaged" in line for line in lines)
    check(project)


def test_what_turns_out_void_is_planned_and_scored_again(project, monkeypatch):
    directory, units = listed(project)
    void = []

    def before(epoch):
        job, _ = read_order(epoch)
        if job.segments not in (None, (0, 0)) and not void:
            void.append(digest_of_fingerprint(run(project).fixed_fingerprint))
            Finding("linear", "frozen", void[0], 1.0).save(run(project).path)
            raise Verdicted(Verdict(FAILURE, "runtime frozen of member linear gives wrong values"))
        if void and job.segments == (0, 0):
            monkeypatch.setattr(one_process, "BATCH", 3)

    monkeypatch.setattr(Ranks, "before", staticmethod(before))
    tally = BlocksWorld(directory, units, "r").live()
    assert tally.verdict is None and tally.left == 1
    assert decision_of(run(project)).digest != void[0]
    with h5py.File(project.folder / "out.h5") as file:
        assert '"batch": 3' in file.attrs["fingerprint"]
    check(project)


def test_another_kind_of_device_is_refused_before_it_claims(project, monkeypatch):
    directory, units = listed(project)
    monkeypatch.setattr(
        Ranks, "before", staticmethod(lambda epoch: Ranks.given == 2 and ask_to_end(directory.cancel, "x", {"r"}))
    )
    BlocksWorld(directory, units, "r").live()
    monkeypatch.setattr(BlocksWorld, "_require_kind", REQUIRE_KIND)
    monkeypatch.setattr(
        "hpcens.worlds.blocks.discover", lambda spec: cpu_devices("h", "Z80", count=1, cores=1, memory=1)
    )
    before = directory.attempts()
    directory.keep_round(Round("a", 1.0))
    assert status_of_units(directory).state == "resumable"
    with pytest.raises(FingerprintMismatch, match=r"are fixed for cpu and torch .*; here are .*Z80"):
        world(project, "a").live()
    assert directory.attempts() == before
    status = status_of_units(directory)  # that the same command again would go on was said
    assert (status.state, status.code) == ("failed", MISMATCH)
    last = list(units_lines(status))[-1]
    assert last.startswith("the hosts that came were refused (78): the numbers of") and "constraint=" in last
    directory.keep_round(Round("b", 2.0))  # another command, whose hosts are yet to come
    assert status_of_units(directory).code == INCOMPLETE
    monkeypatch.setattr("hpcens.worlds.blocks.discover", lambda spec: ())
    monkeypatch.setattr(BlocksWorld, "_require_kind", lambda self, decision: None)
    mismatch = Verdicted(Verdict(MISMATCH, "this run's numbers were fixed for other devices"))
    monkeypatch.setattr(Ranks, "before", staticmethod(lambda epoch: (_ for _ in ()).throw(mismatch)))
    tally = world(project, "b").live()  # what only its ranks find out, too, leaves the block to others
    assert (tally.verdict.code, tally.left, tally.failed) == (MISMATCH, 1, 0)
    assert "fixed for other devices" in status_of_units(directory).refused
    directory.keep_round(Round("c", 3.0))
    monkeypatch.setattr(Ranks, "before", staticmethod(lambda epoch: None))
    assert world(project, "c").live().verdict is None


def test_another_ensemble_or_dataset_is_refused(project):
    directory, units = listed(project)
    BlocksWorld(directory, units, "r", ends=1.0).live()
    project.yaml("output: {path: out.h5, datasets: [prediction]}", members={"linear": "Linear", "conv": "Conv"})
    with pytest.raises(FingerprintMismatch, match="scored from something else: outputs"):
        listed(project)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("begun", "one world has begun"),
        ("members", "members would be added"),
        ("keep", "chosen by one world"),
        ("cascade", "cascade: which rows a stage leaves to the next is decided by one world"),
    ],
)
def test_what_one_world_has_begun_is_not_shared(project, change, why):
    config, output = project.folder / "hpcens.yaml", project.folder / "out.h5"
    if change == "begun":
        one_process.run(config, project.dataset, output, most=2)
        run(project).newest.judge(Verdict(INCOMPLETE, "drained"))
    elif change == "cascade":
        stages = "[{members: linear, accept: {entropy: {below: 1}}}, {members: conv}]"
        members = {"linear": "Linear", "conv": "Conv"}
        project.yaml(f"output: {{path: out.h5, datasets: [prediction]}}\ncascade: {stages}", members=members)
    elif change == "keep":
        keep = "keep: {top: 3, by: {dataset: prediction, class: 1}}"
        project.yaml(f"output: {{path: out.h5, datasets: [prediction], {keep}}}", members={"linear": "Linear"})
    else:
        project.yaml("output: {path: out.h5, datasets: [prediction, members]}", members={"linear": "Linear"})
        one_process.run(config, project.dataset, output)
        members = {"linear": "Linear", "conv": "Conv"}
        project.yaml("output: {path: out.h5, datasets: [prediction, members]}", members=members)
    with pytest.raises(UsageError, match=why):
        listed(project)


def test_verbs_for_one_world_refuse_a_shared_dataset_by_name(project, capsys):
    listed(project)
    shared = [str(run(project).path), "out.h5"]
    for path in shared:
        assert main(["status", path]) == COMPLETE
    assert "0 of 1 blocks done" in capsys.readouterr().out
    for arguments in (["run", "dataset.h5"], ["report", shared[0]], ["export", "out.h5", "-o", "x.npy"]):
        assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "hpcens run --join" in said and "yet to be put together" in said
    assert main(["list"]) == COMPLETE and "of 1 blocks" in capsys.readouterr().out
    assert main(["run", "--join", shared[0], "--limit", "5"]) == 2 and "leave out -c" in capsys.readouterr().err
    for option in (["--code"], ["--trace", "t.json"], ["--plan", "p.json"], ["-o", "x.h5"]):
        assert main(["run", "--join", "dataset.h5", *option]) == 2
        assert f"--join does not go with {option[0]}" in capsys.readouterr().err


def test_a_disk_that_is_full_at_the_end_loses_nothing(project, monkeypatch):
    full = Verdict(INCOMPLETE, "out.h5 will take 9.0 GB while it is written")
    with monkeypatch.context() as patched:
        patched.setattr("hpcens.worlds.blocks.assemble", lambda *_: (full, []))
        tally = world(project).live()
    assert tally.verdict == full and tally.left == 1
    status = status_of_units(listed(project)[0])
    assert (status.state, status.done, status.rows) == ("resumable", status.of, ROWS)
    Ranks.given = 0
    assert world(project, "s").live().done == 1 and Ranks.given == 0
    check(project)
