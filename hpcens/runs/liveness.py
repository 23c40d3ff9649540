"""Tell whether a start still lives, by the processes and heartbeats it has left word of; end those of this host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcens.files import read_json, write_atomically
from hpcens.processes import Process
from hpcens.runs.claim import Claim
from hpcens.runs.epoch import Epoch

_BEAT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Signature:
    """Which process a rank is, and its role in words: starting, reader, reducer, `device NAME` or parked."""

    rank: int
    role: str
    process: Process


def sign(epoch: Epoch, rank: int, role: str) -> None:
    """Leave word of which process this rank is, for whoever has to name it later."""
    signature = {"rank": rank, "role": role} | asdict(Process.current())
    write_atomically(epoch.ranks / f"{rank:04d}.json", json.dumps(signature))


def signatures(epoch: Epoch) -> list[Signature]:
    """Return what the ranks left, in rank order."""
    signed = (read_json(path) for path in sorted(epoch.ranks.glob("[0-9]*.json")))
    return [Signature(raw.pop("rank"), raw.pop("role"), Process(**raw)) for raw in signed if raw is not None]


def alive(epoch: Epoch) -> str:
    """Name who of a start that left no verdict still lives, in words; empty where nobody does.

    Processes of this host are looked up; those of other hosts by whether a heartbeat still moves.
    """
    if epoch.verdict is not None:
        return ""
    claim = Claim.load(epoch.claim)
    roles = [(claim.process, "launcher")] if claim else []
    roles += [(signature.process, signature.role) for signature in signatures(epoch)]
    for process, role in roles:
        if process.lives:
            return f"process {process.pid} ({role}) on {process.host}"
    elsewhere = {process.host for process, _ in roles if not process.local}
    before = _beats(epoch)
    if elsewhere and before:
        deadline = time.monotonic() + 3 * _BEAT_SECONDS
        while time.monotonic() < deadline:
            time.sleep(_BEAT_SECONDS / 10)
            if _beats(epoch) != before:
                return f"ranks on {', '.join(sorted(elsewhere))}"
    return ""


def end_ranks(epoch: Epoch) -> None:
    """Kill whatever rank of this host still lives, and wait until it is gone: nothing of a start outlives it."""
    left = [signature.process for signature in signatures(epoch) if signature.process.lives]
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    while any(process.lives for process in left):
        time.sleep(0.005)


def _beats(epoch: Epoch) -> dict[str, bytes]:
    """Each node's counter."""
    return {path.stem: read_beat(path) for path in epoch.ranks.glob("*.beat")}


def read_beat(path: Path) -> bytes:
    """Return a node's counter; nothing where it has not beaten yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
