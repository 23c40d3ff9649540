"""Tell whether a start still lives, by the processes and heartbeats it has left word of; end those of this host."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcens.files import MALFORMED, checked, read_as, sealed, unsealed
from hpcens.processes import Process, node
from hpcens.runs.claim import Claim
from hpcens.runs.epoch import Epoch
from hpcens.runs.submission import SlurmJob
from hpcens.scheduler import jobs

_BEAT_SECONDS = 1.0
DEAD_SECONDS = 180.0
"""A heartbeat that stands for so long, at one's own looks, is that of a dead start."""
_LATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Signature:
    """Which process a rank is, and its role in words: starting, reader, reducer, `device NAME` or parked."""

    rank: int
    role: str
    process: Process


def sign(epoch: Epoch, rank: int, role: str) -> None:
    """Leave word of which process this rank is, for whoever has to name it later, in its node's file.

    Only processes of one node write to that file, each whole lines at its end. Raises OSError where the disk is full.
    """
    signature = {"rank": rank, "role": role} | asdict(Process.current())
    line = f"\n{sealed(json.dumps(signature), indent=None)}\n".encode()  # begins anew behind what a full disk cut off
    file = os.open(epoch.signatures_of(node()), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    try:
        if os.write(file, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(epoch.ranks))
    finally:
        os.close(file)


def signatures(epoch: Epoch, node: str = "*") -> list[Signature]:
    """Return what the ranks left last, in rank order. node: whose; by default of all."""
    last = {}
    for path in epoch.ranks.glob(f"{node}.jsonl"):
        with contextlib.suppress(OSError):
            for line in path.read_text(errors="replace").splitlines():
                with contextlib.suppress(*MALFORMED):  # not (yet) whole
                    signature = _signature(unsealed(line))
                    last[signature.rank] = signature
    for path in epoch.ranks.glob("[0-9]*.json"):  # of earlier versions, a file a rank
        if (own := read_as(path, _signature)) is not None:
            last[own.rank] = own
    return [last[rank] for rank in sorted(last)]


def _signature(raw: dict[str, Any]) -> Signature:
    return checked(Signature(raw.pop("rank"), raw.pop("role"), checked(Process(**raw))))


def alive(epoch: Epoch) -> str:
    """Name who of a start that left no verdict still lives, in words; empty where nobody does.

    Processes of this host are looked up; those of other hosts by whether a heartbeat moves within a few seconds. Where
    it does not they may live nevertheless: whoever takes their place asks `survivor`.
    """
    if epoch.verdict is not None:
        return ""
    here, elsewhere = _processes(epoch)
    if not here and elsewhere and (before := _beats(epoch)):
        deadline = time.monotonic() + 3 * _BEAT_SECONDS
        while time.monotonic() < deadline:
            time.sleep(_BEAT_SECONDS / 10)
            if _beats(epoch) != before:
                return f"ranks on {elsewhere}"
    return here


def survivor(epoch: Epoch) -> str:
    """Name who of a start that left no verdict still lives, in words; empty where it is certain that nobody does.

    Of a start on other hosts that is so once Slurm says that its job has ended, or its heartbeat has stood for
    `DEAD_SECONDS`: no host's clock is compared with another's.
    """
    if epoch.verdict is not None:
        return ""
    here, elsewhere = _processes(epoch)
    if here or not elsewhere:
        return here
    claim = Claim.load(epoch.claim)
    if claim and claim.job and (lives := lives_by_slurm(claim.job)) is not None:
        return f"Slurm's job {claim.job.id}" if lives else ""
    print(
        f"hpcens: epoch {epoch.number} on {elsewhere} left no verdict; watching its heartbeat for {DEAD_SECONDS:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    stands = stands_still(lambda: (_beats(epoch), epoch.verdict))
    return "" if stands or epoch.verdict is not None else f"ranks on {elsewhere}"


def stands_still(
    look: Callable[[], object],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Return whether what one looks at stays the same for `DEAD_SECONDS`; False as soon as it changes.

    A look that took long may have found what was there long before, and a process that was stopped has not looked:
    either starts the count anew.
    """
    before = look()
    since = last = clock()
    while last - since < DEAD_SECONDS:
        sleep(_BEAT_SECONDS)
        if look() != before:
            return False
        now = clock()
        if now - last > _LATE_SECONDS:
            since = now
        last = now
    return True


def lives_by_slurm(job: SlurmJob) -> bool | None:
    """Return whether a job lives; None where Slurm does not say, or another cluster may be the one that answers."""
    return _lives(job, jobs.ask(job.id))


def live_by_slurm(asked: Mapping[str, SlurmJob]) -> dict[str, bool | None]:
    """Return of each name whether its job lives, as `lives_by_slurm` does, by one question for all."""
    answers = (jobs.ask_all({job.id for job in asked.values()}) if asked else None) or {}
    return {name: _lives(job, answers.get(job.id)) for name, job in asked.items()}


def _lives(job: SlurmJob, answer: jobs.Answer | None) -> bool | None:
    if answer is None or not answer.state:
        return None
    if job.submission and answer.name:
        same = job.submission in answer.name
    else:
        same = bool(job.cluster) and job.cluster == os.environ.get("SLURM_CLUSTER_NAME")
    return answer.lives if same else None


def _processes(epoch: Epoch) -> tuple[str, str]:
    """Name a living process of this host, in words, and the other hosts that have processes; each may be empty."""
    claim = Claim.load(epoch.claim)
    roles = [(claim.process, "launcher")] if claim else []
    roles += [(signature.process, signature.role) for signature in signatures(epoch)]
    here = next((f"process {p.pid} ({role}) on {p.host}" for p, role in roles if p.lives), "")
    return here, ", ".join(sorted({process.host for process, _ in roles if not process.local}))


@contextlib.contextmanager
def beating(path: Path) -> Iterator[None]:
    """Move a counter within the block, for who has no ranks that would."""
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(_BEAT_SECONDS if count else 0):
            count += 1
            with contextlib.suppress(OSError):
                write_beat(path, count)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def write_beat(path: Path, count: int) -> None:
    """Write a node's counter. The file is opened and closed for it, because that is when NFS passes it on."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        os.pwrite(file, b"%016d" % count, 0)
    finally:
        os.close(file)


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
