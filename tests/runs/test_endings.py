"""Ranks and launchers that die at bad moments: named at once, and nothing of a start outlives who started it."""

import os
import signal
import time
from pathlib import Path

import pytest
from support.interruption import signatures, wait_for

from hpcens.processes import born


def descendants(pid):
    """Return the processes below one, as process id → command."""
    found, parents = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(folder.name)] = parent, (folder / "cmdline").read_text().split("\0")
        except (OSError, IndexError):
            continue
    below = [pid]
    while below:
        parent = below.pop()
        for child, (of, command) in parents.items():
            if of == parent:
                found[child] = command
                below.append(child)
    return found


def ranks_below(pid):
    """Return ranks, which are children of a process of the same command: their witness."""
    below = descendants(pid)
    witnesses = [child for child, command in below.items() if "hpcens.launch.witness" in command[:4]]
    return [child for child in witnesses if any(child in descendants(other) for other in witnesses if other != child)]


def test_a_rank_that_dies_before_mpi_is_up_ends_the_start_at_once(project):
    """Story: a rank is killed while it still imports; the others would wait for it for two minutes."""
    process = project.start("run", "dataset.h5")
    [victim, *_] = wait_for(lambda: ranks_below(process.pid), process)
    os.kill(victim, signal.SIGKILL)
    _, error = process.communicate(timeout=60)  # half of what MPI waits for a rank
    assert process.returncode == 1
    assert f"process {victim} on" in error and "was killed by SIGKILL" in error
    project.hpcens("run", "dataset.h5")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_end_of_who_started_the_ranks_is_theirs(project, number):
    """Story: the terminal closes, or the command is killed: ranks drain or die, and do not go on unseen."""
    process = project.start("run", "dataset.h5")
    wait_for(lambda: len(signatures(project)) == 4, process)
    process.send_signal(number)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while any(born(s["pid"]) == s["born"] for s in signatures(project)):
        assert time.monotonic() < deadline, "a rank was left behind"
        time.sleep(0.05)
    assert process.returncode in ((-number,) if number == signal.SIGKILL else (75, 0))
    project.hpcens("run", "dataset.h5")


@pytest.mark.parametrize("verb", ["run", "submit"])
def test_cancel_works_from_the_first_instant(project, verb):
    """Story: the job is still being checked, and nothing of its start is on disk."""
    hold = project.folder / "hold"
    hold.touch()
    with (project.folder / "nets.py").open("a") as module:
        module.write(f"\nimport os, time\nwhile os.path.exists({str(hold)!r}):\n    time.sleep(0.05)\n")
    process = project.start(verb, "dataset.h5")
    wait_for(lambda: list(project.run.glob("announced/*.json")), process)
    assert not (project.run / "epochs").exists()
    assert "it will end before it begins" in project.hpcens("cancel", str(project.run))
    hold.unlink()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75 and "cancelled, before" in error, error
    project.hpcens(verb, "dataset.h5")


def test_more_devices_than_the_host_has_cores_are_refused(project):
    project.yaml(devices="{cpu: 100000}")
    cores = os.cpu_count()
    for verb in ("run", "submit"):
        assert f"100000 × 1 cores, and there are {cores} cores" in project.hpcens(verb, "dataset.h5", code=2)


def test_of_two_submits_at_once_one_is_refused(project):
    project.hpcens("profile", "dataset.h5")
    both = [project.start("submit", "dataset.h5") for _ in range(2)]
    ends = [process.communicate(timeout=project.patience) for process in both]
    assert sorted(process.returncode for process in both) in ([0, 2], [0, 0]), ends
    assert project.output.exists()
