"""Describe one start of a run: the folder that it alone writes to, and the verdict it ends with."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcens.files import read_json, write_atomically
from hpcens.vocabulary import Plan

_ROOM = 4096
AGAIN = "run the same command again: what is journalled is kept"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a start ended.

    code    exit code, see `hpcens.errors`
    reason  why, in words
    remedy  what to do next; empty where nothing is
    rank    that it ended by; None where no rank is to name
    role    of that rank, in words
    """

    code: int
    reason: str
    remedy: str = ""
    rank: int | None = None
    role: str = ""


class Epoch:
    """One start of a run: a number, a random id, and a folder that only this start writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = int(folder.name)

    job = property(lambda self: self.folder / "job.json")
    claim = property(lambda self: self.folder / "claim.json")
    plan = property(lambda self: self.folder / "plan.json")
    events = property(lambda self: self.folder / "events.jsonl")
    report = property(lambda self: self.folder / "report.json")
    log = property(lambda self: self.folder / "output.log")
    ranks = property(lambda self: self.folder / "ranks")
    requeue = property(lambda self: self.folder / "requeue.json")
    _room = property(lambda self: self.folder / ".room-for-a-verdict")

    def beat_of(self, node: str) -> Path:
        """Return the path of a node's heartbeat: a counter that moves while one of its ranks lives."""
        return Path(self.ranks / f"{node}.beat")

    def keep_plan(self, plan: Plan) -> None:
        """Write the plan that this start follows."""
        plan.save(self.plan)

    @property
    def successor(self) -> Path:
        """The folder of the start after this one."""
        return self.folder.with_name(f"{self.number + 1:04d}")

    @property
    def verdict(self) -> Verdict | None:
        raw = read_json(self.folder / "verdict.json")
        return Verdict(**raw) if raw else None

    def judge(self, verdict: Verdict) -> Verdict:
        """State how this start ended. The first verdict stands; return it.

        Where the disk is full there still is the room that `RunDirectory.begin` has set aside.
        """
        draft = self.folder / f".verdict.{os.getpid()}.{secrets.token_hex(4)}"
        text = json.dumps(asdict(verdict), indent=1)
        with contextlib.suppress(OSError):  # FileExistsError: another was first
            try:
                draft.write_text(text)
            except OSError:
                self._room.replace(draft)
                with draft.open("r+") as file:
                    file.write(text.ljust(_ROOM))
            os.link(draft, self.folder / "verdict.json")
        draft.unlink(missing_ok=True)
        return self.verdict or verdict

    def keep_order(self, order: str) -> None:
        """Keep what this start is to do, as its rank 0 reads it."""
        write_atomically(self.job, order)

    def set_room_aside(self) -> None:
        """Take the room that a verdict needs, so that a full disk still has it."""
        self._room.write_text(" " * _ROOM)
