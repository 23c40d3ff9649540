"""Describe one start of a run: the folder that it alone writes to, and the verdict it ends with."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcens.errors import Superseded
from hpcens.files import checked, make_first, read_as, sealed, write_atomically
from hpcens.vocabulary import Plan

_ROOM = 4096
ROOM_FOR_A_VERDICT = ".room-for-a-verdict"
"""Name of a file that takes the room a verdict needs, so that a full disk still has it."""
AGAIN = "run the same command again: what is journalled is kept"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a start ended.

    code    exit code, see `hpcens.errors`
    reason  why, in words
    remedy  what to do next; empty where nothing is
    rank    that it ended by; None where no rank is to name
    role    of that rank, in words
    node    that it ended by, where the node may be to blame: a rank was killed, silent or stopped there, or its GPU
            failed; empty where not
    """

    code: int
    reason: str
    remedy: str = ""
    rank: int | None = None
    role: str = ""
    node: str = ""


def superseded(epoch: Epoch) -> Superseded:
    """Say that a newer start than this one has taken the run over."""
    return Superseded(f"epoch {epoch.number + 1} took this run over", "nothing is to be done: the newer start goes on")


class Epoch:
    """One start of a run: a number, a random id, and a folder that only this start writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = int(folder.name)

    job = property(lambda self: self.folder / "job.json")
    claim = property(lambda self: self.folder / "claim.json")
    fingerprint = property(lambda self: self.folder / "fingerprint.json")
    plan = property(lambda self: self.folder / "plan.json")
    decision = property(lambda self: self.folder / "decision.json")
    events = property(lambda self: self.folder / "events.jsonl")
    report = property(lambda self: self.folder / "report.json")
    log = property(lambda self: self.folder / "output.log")
    ranks = property(lambda self: self.folder / "ranks")
    requeue = property(lambda self: self.folder / "requeue.json")
    _room = property(lambda self: self.folder / ROOM_FOR_A_VERDICT)

    def beat_of(self, node: str) -> Path:
        """Return the path of a node's heartbeat: a counter that moves while one of its ranks lives."""
        return Path(self.ranks / f"{node}.beat")

    def loads_of(self, node: str) -> Path:
        """Return the path of what a node's ranks did so far, which they write now and then."""
        return Path(self.ranks / f"{node}.loads")

    def signatures_of(self, node: str) -> Path:
        """Return the path of a node's signatures: a line of JSON whenever one of its ranks takes a role."""
        return Path(self.ranks / f"{node}.jsonl")

    @property
    def warnings(self) -> list[str]:
        """What looked wrong of the members before this start, as it was told then."""
        found = read_as(self.job, lambda order: json.loads(order["preflight"]).get("warnings", []))
        return [str(warning) for warning in found or ()]

    def keep_plan(self, plan: Plan) -> None:
        """Write the plan that this start follows."""
        write_atomically(self.plan, sealed(plan.to_json()))

    @property
    def successor(self) -> Path:
        """The folder of the start after this one."""
        return self.folder.with_name(f"{self.number + 1:04d}")

    @property
    def verdict(self) -> Verdict | None:
        """How this start ended; None while it goes on, or where it died before it could say."""
        return read_as(self.folder / "verdict.json", lambda raw: checked(Verdict(**raw)))

    def judge(self, verdict: Verdict) -> Verdict:
        """State how this start ended. The first verdict stands; return it. Of many ranks all but one find it there.

        Where the disk is full there still is the room that `RunDirectory.begin` has set aside.
        """
        if (first := self.verdict) is not None:
            return first
        draft = self.folder / f".verdict.{os.getpid()}.{secrets.token_hex(4)}"
        text = sealed(json.dumps(asdict(verdict)))
        with contextlib.suppress(OSError):  # FileExistsError: another was first
            try:
                draft.write_text(text)
            except OSError:
                self._room.replace(draft)
                with draft.open("r+") as file:
                    file.write(text.ljust(_ROOM))
            make_first(self.folder / "verdict.json", draft)
        with contextlib.suppress(OSError):
            draft.unlink()
        return self.verdict or verdict

    def require_newest(self) -> None:
        """Raise Superseded where a newer start has taken the run over."""
        if self.successor.exists():
            raise superseded(self)


def contents(claim: str, order: str) -> dict[str, str]:
    """Return what is in a start's folder when it appears, for `files.claim_folder`.

    claim  JSON of its claim
    order  what it is to do, as its rank 0 reads it; empty where it has no ranks
    """
    return {
        "claim.json": sealed(claim),
        ROOM_FOR_A_VERDICT: " " * _ROOM,
        "ranks/": "",
    } | ({"job.json": sealed(order)} if order else {})
