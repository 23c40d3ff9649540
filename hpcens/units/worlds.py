"""Tell which worlds have ended: by their own word, their processes, Slurm's word, or a counter that stands."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from hpcens.files import checked, claim_folder, read_as, sealed
from hpcens.processes import Process
from hpcens.runs.liveness import DEAD_SECONDS, beating, live_by_slurm, read_beat, stands_still
from hpcens.runs.submission import SlurmJob

_BEAT_SECONDS = 1.0
_QUICK_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class World:
    """One start of MPI on one node.

    id       random
    round    the command that started it
    job      Slurm's job; None outside of one
    process  that watches over it
    gpus     that it holds
    """

    id: str
    round: str
    job: SlurmJob | None
    process: Process
    gpus: int = 0

    @staticmethod
    def new(round_id: str, job: SlurmJob | None) -> World:
        """Describe the world that this process is to watch over."""
        return World(secrets.token_hex(4), round_id, job, Process.current())

    def to_json(self) -> str:
        """Write the world as JSON: its job and its process, with the version of its format."""
        own = {"format": 1, "id": self.id, "round": self.round, "job": self.job and asdict(self.job)}
        return json.dumps(own | asdict(self.process) | {"gpus": self.gpus})

    def enter(self, worlds: Path) -> Path:
        """Leave word of it in the folder of worlds; return its own folder."""
        claim_folder(worlds / self.id, {"world.json": sealed(self.to_json())})
        return worlds / self.id


def load_world(folder: Path) -> World | None:
    """Return the world of a folder; None where there is none."""
    return read_as(folder / "world.json", _world)


def _world(raw: dict[str, Any]) -> World:
    raw.pop("format")
    job, gpus = raw.pop("job"), raw.pop("gpus", 0)
    own = raw.pop("id"), raw.pop("round"), checked(SlurmJob(**job)) if job else None
    return checked(World(*own, checked(Process(**raw)), gpus))


def has_ended(folder: Path) -> bool:
    """Whether a world has said that it ended."""
    return (folder / "ended").exists()


@contextlib.contextmanager
def beating_world(folder: Path) -> Iterator[None]:
    """Move a world's counter within the block, and say at its end that it has ended."""
    try:
        with beating(folder / "beat"):
            yield
    finally:
        with contextlib.suppress(OSError):
            (folder / "ended").touch()


def at_once(folder: Path, own: World | None = None) -> bool | None:
    """Return whether a world lives, as far as files and processes of this host tell; None where they do not.

    own  the world that asks, whose job may have taken the place of the other's
    """
    if has_ended(folder) or (world := load_world(folder)) is None:
        return False
    if own is not None and own.job is not None and own.job.succeeds(world.job):
        return False
    return world.process.lives if world.process.local else None


def predecessors(worlds: Path, own: World) -> set[str]:
    """Return the worlds in whose place Slurm has started this one."""
    job = own.job
    if job is None or not job.restart:
        return set()
    there = (load_world(path) for path in worlds.glob("[0-9a-f]*"))
    return {world.id for world in there if world is not None and job.succeeds(world.job)}


def dead_worlds(worlds: Path, asked: Iterable[str], own: World | None = None, *, patient: bool = True) -> set[str]:
    """Return those of some worlds that have ended for certain.

    Slurm is asked about those whose counter stands, all at once: a hundred worlds that end together are not to ask it
    about each other one by one.

    patient  wait for counters that stand, up to `DEAD_SECONDS`; those that move are left alone at once. False: the
             counters of all are known to stand, and whom Slurm does not know is left alone
    """
    known = {name: at_once(worlds / name, own) for name in asked}
    dead = {name for name, lives in known.items() if lives is False}
    still = [name for name, lives in known.items() if lives is None]
    if patient:
        still = _standing(worlds, still)
    said = _by_slurm(worlds, still)
    dead |= {name for name, lives in said.items() if lives is False}
    still = [name for name, lives in said.items() if lives is None]
    if not still or not patient:
        return dead

    def look() -> object:
        return [(read_beat(worlds / name / "beat"), has_ended(worlds / name)) for name in still]

    print(
        f"hpcens: {len(still)} worlds of other hosts left no word; watching their counters for {DEAD_SECONDS:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    return dead | (set(still) if stands_still(look) else {name for name in still if has_ended(worlds / name)})


def living_worlds(worlds: Path, runs: Callable[[SlurmJob | None], bool | None] = lambda job: None) -> set[str]:
    """Return the worlds that live, as far as seconds tell: those whose counter stands meanwhile do not count.

    runs  returns whether a world's job runs, as far as that is known; None: Slurm is asked about it
    """
    known = {path.name: at_once(path) for path in worlds.glob("[0-9a-f]*")}
    elsewhere = {name: load_world(worlds / name) for name, said in known.items() if said is None}
    jobs = [world.job for world in elsewhere.values() if world is not None and world.job is not None]
    for name, world in elsewhere.items():
        job = world.job if world is not None else None
        replaced = job is not None and any(other.same(job) and other.restart > job.restart for other in jobs)
        known[name] = False if replaced else runs(job)
    said = _by_slurm(worlds, (name for name, lives in known.items() if lives is None))
    unknown = [name for name, lives in said.items() if lives is None]
    living = {name for name, lives in (known | said).items() if lives}
    return living | (set(unknown) - set(_standing(worlds, unknown)))


class Counters:
    """Other worlds' counters as one world looks at them, each once a minute: one that stands may be a dead world's.

    worlds  their folder
    own     the world that looks
    """

    def __init__(self, worlds: Path, own: World) -> None:
        self._worlds = worlds
        self._own = own
        self._seen: dict[str, tuple[float, bytes]] = {}

    def known_dead(self, names: Collection[str]) -> set[str]:
        """Return which of some worlds have ended, as far as it can be told without waiting."""
        now = time.monotonic()
        due = [name for name in names if now - self._seen.get(name, (-inf, b""))[0] >= _LOOK_AGAIN_SECONDS]
        before = {name: self._seen[name][1] for name in due if name in self._seen}
        self._seen |= {name: (now, read_beat(self._worlds / name / "beat")) for name in due}
        still = [name for name, beat in before.items() if self._seen[name][1] == beat]
        first = {name for name in due if name not in before and at_once(self._worlds / name, self._own) is False}
        return first | dead_worlds(self._worlds, still, self._own, patient=False)


def _standing(worlds: Path, names: Collection[str]) -> list[str]:
    """Return the worlds whose counter stands for some seconds; ends at once where all move."""
    before = {name: read_beat(worlds / name / "beat") for name in names}
    still, deadline = list(names), time.monotonic() + _QUICK_SECONDS
    while still and time.monotonic() < deadline:
        time.sleep(_BEAT_SECONDS / 10)
        still = [name for name in still if read_beat(worlds / name / "beat") == before[name]]
    return still


def _by_slurm(worlds: Path, names: Iterable[str]) -> dict[str, bool | None]:
    """Return world → whether its job lives; None where Slurm does not say, or there is no job."""
    loaded = {name: load_world(worlds / name) for name in names}
    jobs = {name: world.job for name, world in loaded.items() if world is not None and world.job is not None}
    return dict.fromkeys(loaded) | live_by_slurm(jobs)
