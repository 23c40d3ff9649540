"""Runs on a real Slurm that are warned, requeued, cancelled or killed, and go on."""

import os
from pathlib import Path

import h5py
import pytest
from support.interruption import rank_of, some_are_durable

from hpcens.result.journal import Kind, read_journal
from hpcens.transports.mpich import fnv1a, shared_memory_of

pytestmark = pytest.mark.timeout(500)


@pytest.fixture
def held(planned):
    """A project whose ranks stop after some segments, until they are let go."""
    planned.hold()
    return planned


def leave_memory_behind(job):
    """What a killed start leaves: MPI_Init of the job's next start hangs or crashes on it."""
    for node in (0, 1):
        Path(f"/dev/shm/mpich_shm_{fnv1a(f'{job}.0'):x}_{node}").write_bytes(b"\xff" * 4233472)


def test_warned_of_the_limit_it_drains_requeues_itself_and_goes_on(held, local):
    job = held.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--parsable").strip()
    held.wait_for(lambda: some_are_durable(held))
    assert held.status()["state"] == "running"
    assert held.ask("scancel", "--signal=USR2", job).returncode == 0
    held.wait_for(lambda: '"draining"' in (held.run / "epochs" / "0001" / "events.jsonl").read_text())
    held.let_go()
    first = held.wait_for(lambda: held.verdict(1))
    assert first["code"] == 75
    assert "time limit" in first["reason"]
    assert "continues by itself (requeue 1 of 10)" in first["remedy"]
    leave_memory_behind(job)
    last = held.wait_for(lambda: held.verdict(2))
    assert last["code"] == 0, last
    assert held.predictions().tobytes() == local.predictions().tobytes()
    kept = len(read_journal(held.run / "epochs" / "0001" / "journal").written())
    records = read_journal(held.run / "epochs" / "0002" / "journal").records
    assert next(record.segment for record in records if record.kind == Kind.INHERITED) == kept > 0
    found = held.status()
    assert (found["state"], len(found["requeues"])) == ("complete", 1)
    assert held.hpcens("logs", str(held.run)).count(": verdict ") == 2, "the log of the first start is kept"
    assert list(shared_memory_of(job, "0")) == []


def test_cancel_drains_and_does_not_requeue(held):
    job = held.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--parsable").strip()
    held.wait_for(lambda: some_are_durable(held))
    assert "draining" in held.hpcens("cancel", str(held.run))
    held.wait_for(lambda: '"draining"' in (held.run / "epochs" / "0001" / "events.jsonl").read_text())
    held.let_go()
    verdict = held.wait_for(lambda: held.verdict(1))
    assert verdict["code"] == 75
    assert verdict["reason"].startswith("cancelled")
    assert held.status()["state"] == "resumable"
    held.wait_for(
        lambda: "Restarts=0" in (said := held.ask("scontrol", "show", "job", job).stdout) and "FAILED" in said
    )
    [working] = held.run.glob("working-*.h5")
    with h5py.File(working) as file:
        assert file["prediction"].shape[0] == 800


def test_a_killed_rank_is_named_and_the_same_command_goes_on(held, local):
    held.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--slurm", "nodes=2")
    held.wait_for(lambda: some_are_durable(held))
    victim = rank_of(held, "device n2")
    os.kill(victim["pid"], 9)
    verdict = held.wait_for(lambda: held.verdict(1))
    assert f"rank {victim['rank']} ({victim['role']})" in verdict["reason"]
    assert "on n2" in verdict["reason"]
    assert held.status()["state"] == "failed"
    held.let_go()
    held.wait_for(lambda: not held.ask("squeue", "-h").stdout.strip())
    held.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--wait")
    assert held.predictions().tobytes() == local.predictions().tobytes()
