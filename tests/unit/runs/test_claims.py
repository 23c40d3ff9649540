"""Claims of starts: whole or not there, one winner of many, on any file system; and who is taken for dead."""

import errno
import json
import os
import shutil
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from support.disks import fill_names, small_disk

from hpcens.errors import INCOMPLETE, Incomplete, UsageError
from hpcens.files import claim_folder, unsealed
from hpcens.processes import Process
from hpcens.runs import AGAIN, Claim, RunDirectory, SlurmJob, Verdict, liveness, sign, signatures
from hpcens.runs.announcement import Announcement, announced
from hpcens.runs.cancellation import ask_to_end, asked_to_end, withdraw
from hpcens.runs.liveness import DEAD_SECONDS, beating, read_beat, stands_still, survivor
from hpcens.scheduler import jobs
from hpcens.scheduler.jobs import Answer


@pytest.fixture
def run(tmp_path):
    (tmp_path / "x.run").mkdir()
    return RunDirectory(tmp_path / "x.run")


@pytest.fixture
def links_refused(monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refused)


def test_a_start_appears_whole(run, monkeypatch):
    """Story: whoever looks between two calls of a beginning start sees nothing of it, or its claim."""
    seen = []
    rename = Path.rename

    def looked(path, target):
        seen.append((run.newest, sorted(entry.name for entry in path.iterdir())))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", looked)
    epoch = run.begin(order="{}")
    assert seen == [(None, [".room-for-a-verdict", "claim.json", "job.json", "ranks"])]
    assert run.newest.number == epoch.number == 1 and Claim.load(epoch.claim).epoch == 1


@pytest.mark.usefixtures("links_refused")
def test_of_many_claims_at_once_one_succeeds(tmp_path):
    folder = tmp_path / "epochs" / "0001"
    folder.parent.mkdir()
    together, won = threading.Barrier(8), []

    def claim(number):
        together.wait()
        if claim_folder(folder, {"claim.json": str(number), "ranks/": ""}):
            won.append(number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(folder / "claim.json").read_text()] == list(map(str, won))
    assert [path.name for path in folder.parent.iterdir()] == ["0001"]


def test_a_claim_that_a_file_server_was_asked_for_twice_counts(tmp_path, monkeypatch):
    rename = Path.rename

    def answered_late(path, target):
        rename(path, target)
        raise FileNotFoundError(errno.ENOENT, "asked again, and it is gone")

    monkeypatch.setattr(Path, "rename", answered_late)
    assert claim_folder(tmp_path / "0001", {"claim.json": "mine"})
    assert not claim_folder(tmp_path / "0001", {"claim.json": "yours"})


def test_what_a_dead_start_left_of_its_claim_is_swept_and_never_listed(run):
    dead = run.path / "epochs" / ".0001.00ff"
    later = run.path / "epochs" / ".0009.00ff"
    for draft in (dead, later):
        (draft / "ranks").mkdir(parents=True)
    assert run.newest is None
    run.begin()
    assert [epoch.number for epoch in run.epochs()] == [1]
    assert not dead.exists() and later.exists()


def test_a_full_disk_leaves_no_claim(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        run.begin()
    assert list((run.path / "epochs").iterdir()) == []


@pytest.mark.usefixtures("links_refused")
def test_the_first_verdict_stands_where_hard_links_are_refused(run):
    epoch = run.begin()
    first = Verdict(INCOMPLETE, "drained", AGAIN)
    assert epoch.judge(first) == first
    assert epoch.judge(Verdict(0, "done")) == first == epoch.verdict
    assert not list(epoch.folder.glob(".verdict*"))


def test_only_the_same_element_of_an_array_takes_over(run):
    jobs = {number: SlurmJob(f"7{number}", "c", 0, "x", number) for number in ("0", "1")}
    again = SlurmJob("70", "c", 1, "x", "0")
    assert again.succeeds(jobs["0"]) and not jobs["1"].succeeds(jobs["0"])
    run.begin(jobs["0"])
    with pytest.raises(UsageError, match="is being worked on"):
        run.begin(jobs["1"])
    assert run.begin(again).number == 2


def abroad(run, job=None):
    """A start of another host without a verdict."""
    epoch = run.begin(job)
    claim = unsealed(epoch.claim.read_text()) | asdict(Process("elsewhere", "another boot", 1, 1))
    epoch.claim.write_text(json.dumps(claim))
    return epoch


class Clock:
    """A clock that only sleeping moves, and looks that take as long as they are said to."""

    def __init__(self, beats=lambda time: 0, late=()):
        self.time, self.looks, self.beats, self.late = 0.0, 0, beats, dict(late)

    def look(self):
        self.time += self.late.get(self.looks, 0.0)
        self.looks += 1
        return self.beats(self.time)

    def sleep(self, seconds):
        self.time += seconds

    def stands(self):
        return stands_still(self.look, clock=lambda: self.time, sleep=self.sleep)


def test_a_counter_is_looked_at_for_180_seconds():
    clock = Clock()
    assert clock.stands() and clock.time == DEAD_SECONDS == 180
    assert not Clock(lambda time: time > 179).stands()


def test_a_late_look_starts_the_count_anew():
    clock = Clock(late={100: 6.0})
    assert clock.stands() and clock.time == pytest.approx(106 + 180, abs=1)
    assert not Clock(lambda time: time > 250, late={100: 6.0}).stands()
    assert Clock(late={100: 4.0}).stands()


def test_a_start_elsewhere_is_dead_once_its_counter_stood(run, monkeypatch, capsys):
    epoch = abroad(run)
    monkeypatch.setattr(liveness, "stands_still", lambda look: look() is not None)
    assert survivor(epoch) == ""
    assert "epoch 1 on elsewhere left no verdict; watching its heartbeat for 180 s" in capsys.readouterr().err
    monkeypatch.setattr(liveness, "stands_still", lambda look: False)
    with pytest.raises(UsageError, match="worked on by ranks on elsewhere"):
        run.begin()


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (Answer("FAILED", name="hpcens-d-5ab"), ""),
        (Answer("RUNNING", name="hpcens-d-5ab"), "Slurm's job 7"),
        (Answer("RUNNING", name="another"), "watched"),
        (Answer(""), "watched"),
        (None, "watched"),
    ],
)
def testlives_by_slurm_is_taken_where_it_is_of_that_job(run, monkeypatch, answer, end):
    epoch = abroad(run, SlurmJob("7", "c", 0, "5ab"))
    monkeypatch.setattr(jobs, "ask", lambda job: answer)

    def watched(look):
        raise TimeoutError("watched")

    monkeypatch.setattr(liveness, "stands_still", watched)
    try:
        assert survivor(epoch) == end
    except TimeoutError:
        assert end == "watched"


def test_a_start_without_ranks_beats_too(run):
    epoch = run.begin()
    path = epoch.beat_of("n1")
    with beating(epoch.beat_of("n1")):
        while not read_beat(path):
            pass
    assert read_beat(path) == b"%016d" % 1


def test_a_request_ends_whom_it_names_and_outlives_a_start(run):
    first = run.begin(SlurmJob("7", "c", 0, "x"))
    ask_to_end(run.cancel, "cancelled", Claim.load(first.claim).names)
    for again in (SlurmJob("7", "c", 1, "x"), SlurmJob("8", "c", 0, "x")):
        with pytest.raises(Incomplete, match="cancelled, before anything was scored"):
            run.begin(again)
        assert run.newest.verdict.code == INCOMPLETE
    assert asked_to_end(run.cancel, {"x"}) == "cancelled", "a start does not take it away"
    other = run.begin(SlurmJob("9", "c", 0, "y"))
    assert not asked_to_end(run.cancel, Claim.load(other.claim).names)
    withdraw(run.cancel, {"x"})
    assert run.cancel.exists()
    withdraw(run.cancel)
    assert not run.cancel.exists()


def test_a_request_by_hand_is_for_whoever_has_begun(run):
    run.cancel.write_text("the disk is to be moved\n")
    assert asked_to_end(run.cancel, {"any"}) == "the disk is to be moved"
    run.begin()
    assert not run.cancel.exists()


def test_an_announced_start_can_be_asked_to_end(run):
    word = Announcement(run.path)
    word.make()
    assert list(announced(run.path)) == [word.name]
    ask_to_end(run.cancel, "cancelled", announced(run.path))
    with pytest.raises(Incomplete):
        run.begin(announcement=word.name)
    word.end()
    assert announced(run.path) == {}


def test_the_word_of_a_dead_process_and_an_empty_directory_go(tmp_path):
    run = tmp_path / "x.run"
    word = Announcement(run)
    here = Process.current()
    word.make(Process(here.host, here.boot, here.pid, here.born + 1))
    assert announced(run) == {} and not run.exists()
    shutil.rmtree(tmp_path)
    Announcement(run).make()
    assert not run.exists()


def test_a_fingerprint_that_an_obsolete_start_fixes_does_not_count(run):
    first = run.begin(SlurmJob("7", "c", 0, "x"))
    second = run.begin(SlurmJob("7", "c", 1, "x"))
    run.fix_fingerprint({"numerics": 2}, second)
    with pytest.raises(Exception, match="epoch 2 took this run over"):
        run.fix_fingerprint({"numerics": 1}, first)
    assert run.fixed_fingerprint == {"numerics": 2} == unsealed(run.fingerprint.read_text())


def test_a_verdict_finds_room_where_a_disk_has_no_names_left(tmp_path):
    with small_disk(tmp_path / "disk", "size=1m,nr_inodes=40") as disk:
        (disk / "x.run").mkdir()
        epoch = RunDirectory(disk / "x.run").begin()
        fill_names(disk)
        verdict = Verdict(INCOMPLETE, "no names are left", AGAIN)
        assert epoch.judge(verdict) == verdict == epoch.verdict
        assert epoch.judge(Verdict(0, "done")) == verdict


def test_ranks_of_a_node_sign_in_one_file_and_their_last_line_counts(run, monkeypatch):
    epoch = run.begin()
    for name, rank, role in (("n2", 3, "starting"), ("n1", 0, "reader"), ("n2", 3, "parked"), ("n2", 12, "reducer")):
        monkeypatch.setenv("SLURMD_NODENAME", name)
        sign(epoch, rank, role)
    file = epoch.signatures_of("n2")
    assert sorted(path.name for path in epoch.ranks.iterdir()) == ["n1.jsonl", "n2.jsonl"]
    with file.open("a") as torn:
        torn.write('{"rank": 4, "role": "dev')  # the disk was full
    sign(epoch, 3, "device n2/cpu0")
    assert [(s.rank, s.role) for s in signatures(epoch)] == [(0, "reader"), (3, "device n2/cpu0"), (12, "reducer")]
    assert all(signature.process == Process.current() for signature in signatures(epoch))


def test_who_finds_a_verdict_leaves_nothing_behind(run, monkeypatch):
    """Of a hundred witnesses whose ranks were killed at once each would write one, and be killed meanwhile."""
    epoch = run.begin()
    first = epoch.judge(Verdict(75, "drained"))
    monkeypatch.setattr(Path, "write_text", lambda *_: pytest.fail("a draft"))
    assert epoch.judge(Verdict(1, "killed")) == first
