"""Liveness: which processes a start has left word of, and whether one of them still lives."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from hpcens.files import read_json, write_atomically
from hpcens.processes import boot_id, born
from hpcens.runs.epoch import Epoch

BEAT_SECONDS = 1.0


def this_process() -> dict[str, Any]:
    """Describe this process so that others can tell whether it lives."""
    return {"host": socket.gethostname(), "boot": boot_id(), "pid": os.getpid(), "born": born(os.getpid())}


def sign(epoch: Epoch, rank: int, role: str) -> None:
    """Leave word of which process this rank is, for whoever has to name it later."""
    write_atomically(epoch.ranks / f"{rank:04d}.json", json.dumps({"rank": rank, "role": role} | this_process()))


def signatures(epoch: Epoch) -> list[dict[str, Any]]:
    """What the ranks left, in rank order."""
    return [raw for path in sorted(epoch.ranks.glob("[0-9]*.json")) if (raw := read_json(path))]


def alive(epoch: Epoch) -> str:
    """Who of an epoch that left no verdict still lives, in words; empty where nobody does.

    Processes of this host are looked up; those of other hosts by whether a heartbeat still moves.
    """
    if epoch.verdict is not None:
        return ""
    claim = read_json(epoch.claim)
    processes = ([claim | {"role": "launcher"}] if claim else []) + signatures(epoch)
    here = boot_id()
    for process in processes:
        if process["boot"] == here and born(process["pid"]) == process["born"]:
            return f"process {process['pid']} ({process['role']}) on {process['host']}"
    elsewhere = [process for process in processes if process["boot"] != here]
    before = beats(epoch)
    if elsewhere and before:
        deadline = time.monotonic() + 3 * BEAT_SECONDS
        while time.monotonic() < deadline:
            time.sleep(BEAT_SECONDS / 10)
            if beats(epoch) != before:
                return f"ranks on {', '.join(sorted({process['host'] for process in elsewhere}))}"
    return ""


def beats(epoch: Epoch) -> dict[str, bytes]:
    """Each node's counter."""
    return {path.stem: read_beat(path) for path in epoch.ranks.glob("*.beat")}


def read_beat(path: Path) -> bytes:
    """A node's counter; nothing where it has not beaten yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
