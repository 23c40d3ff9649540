"""Figures that were taken beside other work: seen, kept, and taken again where the machine is idle, not for ever."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from support.profiles import KEY, profile

from hpcens.profiling import load
from hpcens.profiling.load import CoreShare, is_idle
from hpcens.vocabulary import BatchProfile, Profile

LOADED = Profile(1, 0, 1.0, (4,), {4: BatchProfile(4, 10.0, 0, 0.1, 5, 0.4)}, (4,))
IDLE = replace(LOADED, batches={4: replace(LOADED.batches[4], core_share=0.95)})

BURN = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
children = [os.fork() for _ in range(2)] if os.fork() else [0]
from hpcens.profiling.load import CoreShare
share, end = CoreShare(), time.perf_counter() + 0.4
while time.perf_counter() < end: pass
if all(children): print(share.value(1))
"""


def test_work_on_a_core_that_others_use_too_is_seen():
    done = subprocess.run([sys.executable, "-c", BURN], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 0.6


@pytest.fixture
def clocks(monkeypatch):
    """Sets how much time went by, how much of it this process computed, and how much it waited for a core."""
    now = {"wall": 100.0, "cpu": 10.0, "waited": 1.0}
    monkeypatch.setattr(load.time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(load.time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(load, "_waited", lambda: now["waited"])

    def share(cores, wall, cpu, waited):
        begun = CoreShare()
        now.update(wall=now["wall"] + wall, cpu=now["cpu"] + cpu, waited=now["waited"] + waited)
        return begun.value(cores)

    return share


@pytest.mark.parametrize(
    ("cores", "wall", "cpu", "waited", "share"),
    [
        (1, 1.0, 1.0, 0.0, 1.0),
        (1, 1.0, 0.5, 0.0, 0.5),  # where the system does not say who waited
        (4, 1.0, 2.0, 0.0, 1.0),  # parts that do not run on all of its cores are no other work
        (4, 1.0, 2.0, 2.0, 0.5),
        (1, 1.0, 1.2, 0.0, 1.0),
        (1, 0.0, 0.0, 0.0, 1.0),
    ],
)
def test_the_share_of_a_core(clocks, cores, wall, cpu, waited, share):
    assert clocks(cores, wall, cpu, waited) == pytest.approx(share)


def test_a_system_that_says_nothing_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "_THREADS", tmp_path / "none")
    assert 0 < CoreShare().value(2) <= 1


@pytest.mark.parametrize(("average", "idle"), [(0.0, True), (0.5, True), (0.6, False)])
def test_an_idle_machine(monkeypatch, average, idle):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (4 * average, 0.0, 0.0))
    assert is_idle() == idle


@pytest.mark.usefixtures("one_thread")
def test_a_measurement_says_how_many_passes_it_is_of(member):
    for batch in profile(member).batches.values():
        assert batch.passes >= 1 and 0 < batch.core_share <= 1


def lack(book, *, idle, sizes=(4,)):
    return book.lack(KEY, sizes, rows=100, tolerance=1e-4, idle=idle)


def test_what_was_taken_on_a_loaded_machine_is_taken_again_when_it_is_idle(book):
    assert lack(book, idle=False) == "not measured before"
    book.put(KEY, LOADED)
    assert lack(book, idle=False) == ""
    assert lack(book, idle=True) == "measured on a loaded machine"
    book.put(KEY, IDLE)
    assert lack(book, idle=True) == ""


def test_a_machine_that_is_always_loaded_is_not_tried_for_ever(book):
    for _ in range(3):
        assert lack(book, idle=True)
        book.put(KEY, LOADED)
    assert lack(book, idle=True) == "" and book.get(KEY).repeats == 2
    book.put(KEY, IDLE)
    assert book.get(KEY).repeats == 0


def test_more_rows_say_which_batches_are_new_and_which_are_measured_again(book):
    book.put(KEY, IDLE)
    assert lack(book, idle=True, sizes=(4, 8, 16)) == (
        "batches of 8, 16 rows were not tried before; 4 again, to compare with"
    )
    assert lack(book, idle=True, sizes=(8,)) == "batches of 8 rows were not tried before"


def test_a_book_of_an_earlier_version_is_read(book):
    book.put(KEY, replace(IDLE, batches={4: BatchProfile(4, 10.0, 0, 0.1)}))
    [file] = book.folder.glob("*.json")
    raw = json.loads(file.read_text())
    for later in ("name", "measured", "repeats"):
        del raw[later]
    for later in ("passes", "core_share"):
        del raw["batches"]["4"][later]
    file.write_text(json.dumps(raw))
    found = book.get(KEY)
    assert found is not None and not found.loaded and found.batches[4].passes == 0
