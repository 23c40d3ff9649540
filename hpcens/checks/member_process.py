"""Member process: members are tried in a process of their own.

Their code may print, exit, hang or crash: here that ends one member's trial, and the error names the member.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from functools import partial

from hpcens.checks.findings import Preflight
from hpcens.checks.member_trial import trials
from hpcens.checks.trials import Trial
from hpcens.errors import HpcensError, MemberError
from hpcens.processes.isolation import NoAnswer, isolated
from hpcens.specs import Job, MemberSpec
from hpcens.vocabulary import Device

SECONDS = 120.0
_START_SECONDS = 300.0
_BYTES_A_SECOND = 50 << 20  # what the slowest of shared file systems give one reader
_NOT_THEIRS = "this is no member's doing: look at torch, the device and the dataset on this host"


class NoTrial(MemberError):
    """A member's trial took too long, or was killed: on a larger host, or a faster device, it may pass."""


def try_members(
    job: Job, preflight: Preflight, members: Sequence[MemberSpec], device: Device, seconds: float
) -> Iterator[tuple[str, Trial | HpcensError]]:
    """Yield each member's name with its trial, or with what is wrong with it.

    seconds  for one member, besides the time its file takes to be read
    After a member that ended the process, the others get a new one. Raises HpcensError where no member is to blame.
    """
    left = list(members)
    while left:
        for name, outcome in _one_process(job, preflight, left, device, seconds):
            left = [member for member in left if member.name != name]
            yield name, outcome


def _one_process(
    job: Job, preflight: Preflight, members: Sequence[MemberSpec], device: Device, seconds: float
) -> Iterator[tuple[str, Trial | HpcensError]]:
    """Try members in turn, until all are done or one has ended the process or hangs."""
    by_name = {member.name: member for member in members}
    question = partial(trials, job, tuple(by_name), inputs=preflight.facts.names, space=preflight.space, device=device)
    current: MemberSpec | None = None
    limit = _START_SECONDS
    with isolated(question) as process:
        for _ in range(2 * len(members)):  # each member's beginning and its end
            try:
                name, outcome = process.answer(limit)
            except NoAnswer as silence:
                yield _blame(current, limit, silence)
                return
            if outcome is None:
                current = by_name[name]
                size = 0 if current.loads_itself else current.file.stat().st_size
                limit = seconds + size / _BYTES_A_SECOND
            else:
                yield name, outcome


def _blame(member: MemberSpec | None, limit: float, silence: NoAnswer) -> tuple[str, MemberError]:
    """Return the member that was tried last, with what it did. Raises HpcensError where none was tried."""
    slow = silence.exit_code is None
    if member is None:
        ending = f"did not start within {limit:.0f} s" if slow else silence.ending
        raise HpcensError(f"the process that is to try the members {ending}{silence.quotation}", _NOT_THEIRS)
    if slow:
        return member.name, NoTrial(
            f"member {member.name} was not loaded and run on the dataset's first rows within {limit:.0f} s"
            f"{silence.quotation}",
            "look for what its code waits for: a download, a lock, an answer from a terminal",
        )
    kind = NoTrial if silence.exit_code == -signal.SIGKILL else MemberError
    return member.name, kind(
        f"member {member.name}: the process that tried it {silence.ending}{silence.quotation}",
        "look for exit, os._exit or a crash in its code; it must leave the process alive",
    )
