"""The contract: what each member promised, held against a trial before anything is queued.

All members give one output of one shape, in a space the rule can combine, and say rightly which. A trial
that was passed is kept beside the profiles: a second start tries nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hpcens import __version__
from hpcens.checks.member_process import Trial, write_request
from hpcens.checks.preflight import Preflight
from hpcens.checks.rule_process import rehearse
from hpcens.engine.discovery import discover
from hpcens.errors import USAGE, HpcensError, MemberError, UsageError
from hpcens.files import cache_folder, write_atomically
from hpcens.members import digest_of
from hpcens.result.destination import require_room, room
from hpcens.result.fingerprint import torch_version
from hpcens.result.outputs import outputs_of
from hpcens.runs import RunDirectory
from hpcens.specs import Job, MemberSpec
from hpcens.specs.classes import check_shapes
from hpcens.vocabulary import Device

_SECONDS = 120.0
_START_SECONDS = 300.0
_BYTES_A_SECOND = 50 << 20
_LOOK = 0.02
_NOT_THEIRS = "this is no member's doing: look at torch, the device and the dataset on this host"


class ContractBook:
    """A folder of trials that were passed, one file a key; several runs may read and write it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def default() -> ContractBook:
        """Beside the profiles."""
        return ContractBook(cache_folder() / "trials")

    def get(self, key: str) -> Trial | None:
        """The stored trial; None where there is none or the file is damaged."""
        try:
            raw = json.loads((self.folder / f"{key}.json").read_text())
            return _trial(raw)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, trial: Trial) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{key}.json"
        write_atomically(path, json.dumps(asdict(trial)), durable=False)


def _trial(raw: Mapping[str, Any]) -> Trial:
    return Trial(tuple(map(int, raw["shape"])), tuple(map(str, raw["warnings"])))


def hold(job: Job, preflight: Preflight, book: ContractBook, seconds: float = _SECONDS) -> tuple[str, ...]:
    """Try the members that were never tried on such rows. Returns what is to be told, but is no fault.

    seconds  for one member, besides the time its file takes to be read
    Raises MemberError naming every member that cannot be loaded or run, or gives what it does not say;
    UsageError where members disagree, or do not fit the classes, the rule or the outputs; RuleError where the
    rule is the user's own and fails; Incomplete where there is no room for the result.
    """
    members = [member for member in job.spec.members if member.name not in preflight.stored]
    keys = {member.name: _key(member, job, preflight) for member in members}
    trials = {name: trial for name, key in keys.items() if (trial := book.get(key)) is not None}
    missing = [member for member in members if member.name not in trials]
    devices = discover(job.spec.devices) if missing else ()
    if devices:
        faults: list[HpcensError] = []
        for name, found in _tried(job, preflight, missing, devices[0], seconds):
            if isinstance(found, Trial):
                book.put(keys[name], found)
                trials[name] = found
            else:
                faults.append(found)
        if faults:
            raise faults[0] if len(faults) == 1 else _together(faults)
    shapes = {name: trials[name].shape for name in keys if name in trials}
    check_shapes(shapes)
    for shape in shapes.values():
        outputs = outputs_of(job.spec, shape, preflight.space)
        require_room(job, room(RunDirectory.of(job.output), preflight.facts.rows, outputs, job.spec.output.compression))
    if preflight.rule and shapes:
        _rehearse(job, preflight, next(iter(shapes.values())), book)
    return tuple(warning for name in keys if name in trials for warning in trials[name].warnings)


def _key(member: MemberSpec, job: Job, preflight: Preflight) -> str:
    """Of all that a trial depends on."""
    parts = (
        *(digest_of(dict(preflight.digests[member.name])), preflight.facts.row, ",".join(preflight.facts.names)),
        *(member.output, member.precision, preflight.space, torch_version(), __version__),
        json.dumps(job.spec.classes),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _rehearse(job: Job, preflight: Preflight, shape: tuple[int, ...], book: ContractBook) -> None:
    """Try a rule of the user's own, unless it passed before with as many members of that shape."""
    depends = [asdict(job.spec.rule), dict(preflight.rule), job.spec.member_names, shape, preflight.space, __version__]
    key = hashlib.sha256(json.dumps(depends, default=str).encode()).hexdigest()[:32]
    if book.get(key) is None:
        rehearse(job.spec, preflight.space, preflight.rule, shape)
        book.put(key, Trial(shape))


def _together(faults: Sequence[HpcensError]) -> HpcensError:
    kind = UsageError if all(fault.exit_code == USAGE for fault in faults) else MemberError
    said = "\n  ".join(str(fault).replace("\n", "\n  ") for fault in faults)
    return kind(f"{len(faults)} members cannot be used:\n  {said}", "correct them; nothing was started")


def _tried(
    job: Job, preflight: Preflight, members: Sequence[MemberSpec], device: Device, seconds: float
) -> Iterator[tuple[str, Trial | HpcensError]]:
    """Each member's trial, or what is wrong. After a member that ended the process, the others get a new one."""
    left = list(members)
    while left:
        for name, found in _process(job, preflight, left, device, seconds):
            left = [member for member in left if member.name != name]
            if isinstance(found, HpcensError) and not isinstance(found, MemberError | UsageError):
                raise found
            yield name, found


def _process(
    job: Job, preflight: Preflight, members: Sequence[MemberSpec], device: Device, seconds: float
) -> Iterator[tuple[str, Trial | HpcensError]]:
    """One process that tries members in turn, until all are done or one has ended it or hangs."""
    with TemporaryDirectory(prefix="hpcens-trial-") as name, Path(name, "log").open("wb") as log:
        folder = Path(name)
        names = [member.name for member in members]
        write_request(folder, job, names, inputs=preflight.facts.names, space=preflight.space, device=device)
        process = subprocess.Popen(
            [sys.executable, "-m", "hpcens.checks.member_process", name, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,  # a member's noise is nobody's answer
            stderr=log,
            start_new_session=True,
        )
        told, waiting = 0, time.monotonic()
        current: MemberSpec | None = None
        try:
            while True:
                ended = process.poll() is not None  # asked before the last answers are read
                answers = _answers(folder)
                for answer in answers[told:]:
                    waiting = time.monotonic()
                    if "begun" in answer:
                        current = next(member for member in members if member.name == answer["begun"])
                    else:
                        yield answer["member"], _found(answer)
                told = len(answers)
                if ended and told < 2 * len(members):
                    yield (current or members[0]).name, _ended(current, process.returncode, folder)
                if ended:
                    return
                limit = seconds + current.file.stat().st_size / _BYTES_A_SECOND if current else _START_SECONDS
                if time.monotonic() - waiting > limit:
                    yield (current or members[0]).name, _hangs(current, limit, folder)
                    return
                time.sleep(_LOOK)
        finally:
            _kill(process)


def _answers(folder: Path) -> list[dict[str, Any]]:
    """The lines that are whole."""
    path = folder / "answers"
    *lines, _ = path.read_text().split("\n") if path.exists() else [""]
    return [json.loads(line) for line in lines]


def _found(answer: Mapping[str, Any]) -> Trial | HpcensError:
    if "trial" in answer:
        return _trial(answer["trial"])
    kind = UsageError if answer["code"] == USAGE else MemberError
    return kind(answer["what"], answer["remedy"])


def _ended(member: MemberSpec | None, code: int, folder: Path) -> HpcensError:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    if member is None:
        return HpcensError(f"the process that is to try the members {how}{_last_words(folder)}", _NOT_THEIRS)
    return MemberError(
        f"member {member.name}: the process that tried it {how}{_last_words(folder)}",
        "look for exit, os._exit or a crash in its code; it must leave the process alive",
    )


def _hangs(member: MemberSpec | None, limit: float, folder: Path) -> HpcensError:
    said = f"within {limit:.0f} s{_last_words(folder)}"
    if member is None:
        return HpcensError(f"the process that is to try the members did not start {said}", _NOT_THEIRS)
    return MemberError(
        f"member {member.name} was not loaded and run on the dataset's first rows {said}",
        "look for what its code waits for: a download, a lock, an answer from a terminal",
    )


def _last_words(folder: Path) -> str:
    said = (folder / "log").read_text(errors="replace").strip().splitlines()[-3:]
    return f"; it said: {' | '.join(said)}" if said else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and whatever a member has started in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
