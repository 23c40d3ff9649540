"""The watch: names the rank that died first, whoever looks how late."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest

from hpcens.launch.watch import Watch
from hpcens.rundir import Epoch, boot_id, born


@pytest.fixture
def epoch(tmp_path):
    folder = tmp_path / "0001"
    (folder / "ranks").mkdir(parents=True)
    return Epoch(folder)


@pytest.fixture
def ranks(epoch):
    """Six processes that sleep, signed as ranks."""
    sleepers = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(6)]
    for rank, process in enumerate(sleepers):
        told = {"rank": rank, "role": f"role {rank}", "pid": process.pid, "born": born(process.pid), "boot": boot_id()}
        (epoch.ranks / f"{rank:04d}.json").write_text(json.dumps(told))
    yield sleepers
    for process in sleepers:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("seed", range(8))
def test_the_first_death_is_named_though_all_are_dead_by_the_time_one_looks(epoch, ranks, seed):
    watch = Watch(epoch, len(ranks))
    watch.wait(0)
    order = random.Random(seed).sample(range(6), 6)
    for rank in order:
        os.kill(ranks[rank].pid, signal.SIGKILL)
        os.waitid(os.P_PID, ranks[rank].pid, os.WEXITED | os.WNOWAIT)
    watch.wait(0)
    assert watch.first_dead["rank"] == order[0]
    watch.end()


def test_whatever_lives_on_is_ended(epoch, ranks):
    watch = Watch(epoch, len(ranks))
    watch.wait(0)
    watch.end()
    assert [process.wait(10) for process in ranks] == [-signal.SIGKILL] * 6


def test_a_heart_that_stops_is_heard_but_only_over_watched_time(epoch, ranks):
    beats = [epoch.ranks / f"{rank:04d}.beat" for rank in range(6)]
    watch = Watch(epoch, len(ranks), silence=-1.0)
    for beat in beats:
        beat.write_text("1")
    assert watch.silent() is None
    for beat in beats[:4] + beats[5:]:
        beat.write_text("2")
    assert watch.silent()["rank"] == 4
    patient = Watch(epoch, len(ranks), silence=60.0)
    patient.silent()
    patient._listened -= 3600
    assert patient.silent() is None, "an hour in which nobody watched counted"
    watch.end()
