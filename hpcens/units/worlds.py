"""Tell which worlds have ended: by their own word, their processes, Slurm's word, or a counter that stands."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcens.files import checked, claim_folder, read_as, sealed
from hpcens.processes import Process
from hpcens.runs.liveness import DEAD_SECONDS, beating, lives_by_slurm, read_beat, stands_still
from hpcens.runs.submission import SlurmJob

_BEAT_SECONDS = 1.0
_QUICK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class World:
    """One start of MPI on one node.

    id       random
    round    the command that started it
    job      Slurm's job; None outside of one
    process  that watches over it
    """

    id: str
    round: str
    job: SlurmJob | None
    process: Process

    @staticmethod
    def new(round_id: str, job: SlurmJob | None) -> World:
        """Describe the world that this process is to watch over."""
        return World(secrets.token_hex(4), round_id, job, Process.current())

    def to_json(self) -> str:
        """Write the world as JSON: its job and its process, with the version of its format."""
        own = {"format": 1, "id": self.id, "round": self.round, "job": self.job and asdict(self.job)}
        return json.dumps(own | asdict(self.process))

    def enter(self, worlds: Path) -> Path:
        """Leave word of it in the folder of worlds; return its own folder."""
        claim_folder(worlds / self.id, {"world.json": sealed(self.to_json())})
        return worlds / self.id


def load_world(folder: Path) -> World | None:
    """Return the world of a folder; None where there is none."""
    return read_as(folder / "world.json", _world)


def _world(raw: dict[str, Any]) -> World:
    raw.pop("format")
    job = raw.pop("job")
    own = raw.pop("id"), raw.pop("round"), checked(SlurmJob(**job)) if job else None
    return World(*own, checked(Process(**raw)))


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


def certainly(folder: Path, own: World | None = None) -> bool | None:
    """Return whether a world lives, as far as that can be told at once; None where only its counter tells.

    own  the world that asks, whose job may have taken the place of the other's
    """
    world = load_world(folder)
    if has_ended(folder) or world is None:
        return False
    if own is not None and own.job is not None and own.job.succeeds(world.job):
        return False
    if world.process.local:
        return world.process.lives
    return lives_by_slurm(world.job) if world.job is not None else None


def dead_worlds(worlds: Path, asked: Iterable[str], own: World | None = None, *, patient: bool = True) -> set[str]:
    """Return those of some worlds that have ended for certain.

    patient  wait for counters that stand, up to `DEAD_SECONDS`; those that move are left alone at once
    """
    known = {name: certainly(worlds / name, own) for name in asked}
    dead = {name for name, lives in known.items() if lives is False}
    unknown = [name for name, lives in known.items() if lives is None]
    if not unknown or not patient:
        return dead

    def look(names: Iterable[str]) -> dict[str, bytes]:
        return {name: read_beat(worlds / name / "beat") for name in names}

    before, deadline = look(unknown), time.monotonic() + _QUICK_SECONDS
    while time.monotonic() < deadline and look(unknown) == before:
        time.sleep(_BEAT_SECONDS / 10)
    time.sleep(_BEAT_SECONDS)
    still = [name for name, beat in look(unknown).items() if beat == before[name]]
    if not still:
        return dead
    print(
        f"hpcens: {len(still)} worlds of other hosts left no word; watching their counters for {DEAD_SECONDS:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    watch: Callable[[], object] = lambda: (look(still), [has_ended(worlds / name) for name in still])  # noqa: E731
    return dead | (set(still) if stands_still(watch) else {name for name in still if has_ended(worlds / name)})


def living_worlds(worlds: Path) -> set[str]:
    """Return the worlds that live, as far as seconds tell: those whose counter stands meanwhile do not count."""
    known = {path.name: certainly(path) for path in worlds.glob("[0-9a-f]*")}
    unknown = [name for name, lives in known.items() if lives is None]
    living = {name for name, lives in known.items() if lives}
    if not unknown:
        return living
    before = {name: read_beat(worlds / name / "beat") for name in unknown}
    deadline = time.monotonic() + _QUICK_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_BEAT_SECONDS / 10)
        moved = {name for name in unknown if read_beat(worlds / name / "beat") != before[name]}
        if len(moved) == len(unknown):
            break
    return living | moved
