"""Keep what Slurm last said of the worlds of many units in their directory, for whoever asks next."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcens.files import read_as, sealed, write_atomically
from hpcens.runs.submission import SlurmJob
from hpcens.scheduler.jobs import elements
from hpcens.units.directory import UnitsDirectory
from hpcens.units.worlds import has_ended, living_worlds, load_world

ASK_SECONDS = 40.0
"""The controller is asked at most this often, whoever asks."""
AT_THE_END_SECONDS = 5.0
"""The same where no world lives any more: whether others are to come is to be known soon."""
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED")
_NEWEST = 5  # commands of which jobs may still live

AskElements = Callable[[Sequence[str]], Mapping[str, str] | None]
"""Returns element of job arrays, as ARRAY_NUMBER → its state; None where the controller does not answer."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Which elements of job arrays wait or run.

    arrays  ids of those that Slurm was asked about, and has answered
    states  element, as ARRAY_NUMBER → its state; such as have ended are not in it
    """

    arrays: tuple[str, ...] = ()
    states: Mapping[str, str] | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(state in _WAITING for state in (self.states or {}).values())

    @property
    def running(self) -> int:
        """How many run."""
        return sum(state == "RUNNING" for state in (self.states or {}).values())

    def state(self, job: SlurmJob | None) -> str | None:
        """Return the state of a world's job, empty: it has ended; None where Slurm was not asked, or did not answer."""
        if job is None or self.states is None or job.element.partition("_")[0] not in self.arrays:
            return None
        return self.states.get(job.element, "")

    def runs(self, job: SlurmJob | None) -> bool | None:
        """Return whether a world's job runs; None where that is not known. One that waits is yet to have its world."""
        state = self.state(job)
        return None if state is None else state not in ("", *_WAITING)


def jobs_of(directory: UnitsDirectory) -> tuple[str, ...]:
    """Return the ids of job arrays that may still live."""
    return tuple(job for own in directory.rounds()[-_NEWEST:] for job in own.jobs)


def queue_of(
    directory: UnitsDirectory, jobs: tuple[str, ...], within: float = ASK_SECONDS, ask: AskElements = elements
) -> Queue:
    """Return what Slurm says of job arrays: what is kept, where that is not older than so many seconds."""
    if not jobs:
        return Queue()
    asked, kept = read_as(directory.path / "queue.json", _kept) or (0.0, Queue())
    if 0 <= time.time() - asked < within and set(jobs) <= set(kept.arrays):
        return kept
    queue = Queue(jobs, ask(jobs))
    text = json.dumps({"asked": time.time(), "arrays": jobs, "states": queue.states})
    with contextlib.suppress(OSError):  # another's directory, or a full disk: nothing is kept
        write_atomically(directory.path / "queue.json", sealed(text), durable=False)
    return queue


def living_in(directory: UnitsDirectory, ask: AskElements = elements) -> tuple[Queue, set[str]]:
    """Return which elements of the newest commands wait or run, and the worlds that live.

    What is kept of the first is asked for again where it is older than what the second have left.
    """
    jobs = jobs_of(directory)
    queue = queue_of(directory, jobs, ask=ask)
    living = living_worlds(directory.worlds, queue.runs)
    if (queue.running and not living) or _is_outdated(queue, directory):
        queue = queue_of(directory, jobs, AT_THE_END_SECONDS, ask)
        living = living_worlds(directory.worlds, queue.runs)
    return queue, living


def _is_outdated(queue: Queue, directory: UnitsDirectory) -> bool:
    """Whether an element has a world that has not ended, and is said to wait: it may run by now."""
    if not queue.waiting:
        return False
    worlds = (load_world(path) for _, path in directory.world_folders() if not has_ended(path))
    return any(queue.state(world.job) in _WAITING for world in worlds if world is not None)


def _kept(raw: dict[str, Any]) -> tuple[float, Queue]:
    states = raw["states"]
    said = None if states is None else {str(element): str(state) for element, state in states.items()}
    return float(raw["asked"]), Queue(tuple(map(str, raw["arrays"])), said)


def forget(directory: UnitsDirectory) -> None:
    """Forget what Slurm said: what was done to the jobs meanwhile is not in it."""
    (directory.path / "queue.json").unlink(missing_ok=True)
