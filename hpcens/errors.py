"""Errors, split by whose fault they are. Each knows the exit code it ends the command with.

| class | whose | exit code |
| --- | --- | --- |
| `UsageError` | the command line, the YAML, the resources asked for | 2 |
| `DataError` | the dataset or a member's output | 65 |
| `Incomplete` | nobody's: stopped in order, run the same command again | 75 |
| `FingerprintMismatch` | what is on disk belongs to another run | 78 |
| `HpcensError` (others) | a member, the machine, hpcens | 1 |
"""

from __future__ import annotations

import errno
import re

COMPLETE = 0
FAILURE = 1
USAGE = 2
BAD_DATA = 65
INCOMPLETE = 75
MISMATCH = 78


class HpcensError(Exception):
    """What went wrong and where, and what to do next: a line each, where there are several ways."""

    exit_code = FAILURE

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return "\n  → ".join([self.what, *self.remedy.splitlines()])

    def __reduce__(self) -> tuple[type[HpcensError], tuple[str, str]]:
        return type(self), (self.what, self.remedy)


class UsageError(HpcensError):
    """The command line, the configuration or the resources cannot be used as given."""

    exit_code = USAGE


class DataError(HpcensError):
    """The dataset cannot be scored, or a member produced what cannot be combined."""

    exit_code = BAD_DATA


class Incomplete(HpcensError):
    """The run stopped before its end and can be continued by the same command."""

    exit_code = INCOMPLETE


class FingerprintMismatch(HpcensError):
    """The files on disk were made from other data, members, rule or numerics."""

    exit_code = MISMATCH


class Superseded(HpcensError):
    """A newer start has taken the run over; this one is obsolete."""

    exit_code = INCOMPLETE


class Silent(HpcensError):
    """A node gives no sign of life."""

    def __init__(self, what: str, remedy: str = "", node: str = "") -> None:
        super().__init__(what, remedy)
        self.node = node


class Stopped(HpcensError):
    """A rank is stopped, and does not go on."""


class MemberError(HpcensError):
    """A member could not be imported, loaded or run."""


class MemberMisnamed(MemberError, UsageError):
    """What the configuration names of a member is not there, or does not take what it is given."""


class RuntimeUnsuited(HpcensError):
    """A member cannot be executed in this runtime; there are others."""


class RuleError(HpcensError):
    """A rule could not be imported or loaded, or failed on a stack."""


class RuleMisnamed(RuleError, UsageError):
    """What the configuration names of a rule is not there, or does not take what it is given."""


class DeviceOutOfMemory(HpcensError):
    """A batch does not fit the memory of its device."""


class DeviceFailed(Incomplete):
    """A device failed in mid-run: its memory, its link, its driver. What was journalled is kept.

    node  where it says itself that it is broken, on which it is: another may then do its work; else empty
    """

    def __init__(self, what: str, node: str = "") -> None:
        super().__init__(
            what,
            "what is journalled is kept: run the same command again, where it fails once more without this device;"
            " nvidia-smi -q and dmesg (Xid) tell more",
        )
        self.node = node

    def __reduce__(self) -> tuple[type[HpcensError], tuple[str, str]]:
        return type(self), (self.what, self.node)


def next_steps(remedy: str) -> str:
    """Return what to do next as the end of a line that says how something ended; a line each, where there are several.

    remedy  of an error or a verdict; may be empty
    """
    lines = remedy.splitlines()
    return f"; next: {remedy}" if len(lines) == 1 else "\n  → ".join(["; next:", *lines]) if lines else ""


_RESUMABLE = {
    errno.ENOSPC: ("no space is left on the device", "make room"),
    errno.EDQUOT: ("the disk quota is used up", "make room"),
    errno.ESTALE: ("the file server lost the file (stale handle)", "see that the file system is mounted"),
}


_BROKEN = {
    errno.EIO: "the disk, or the server behind it, failed to read or write",
    errno.EROFS: "the file system is mounted read-only, as after an error",
}
_HDF5_NUMBER = re.compile(r"\berrno = (\d+)")
_HDF5_FILE = re.compile(r"name = '([^']*)'")


def as_verdict(error: BaseException) -> HpcensError:
    """Return the error as one of ours: a full disk ends resumable, anything unknown is a failure."""
    if isinstance(error, HpcensError):
        return error
    number, where = refusal(error)
    if number in _RESUMABLE:
        what, remedy = _RESUMABLE[number]
        return Incomplete(
            f"writing stopped: {what} ({where})",
            f"{remedy}, then run the same command again; what is journalled is kept",
        )
    if number in _BROKEN:
        return HpcensError(
            f"{_BROKEN[number]} ({where})",
            "have the disk or its server checked (dmesg names it), then run the same command again; what is journalled"
            " is kept",
        )
    return HpcensError(f"{type(error).__name__}: {error}")


def refusal(error: BaseException) -> tuple[int, str]:
    """Return the number of the system's error behind an error, 0 where there is none; and the file, or what was said.

    HDF5 says it in words alone, and not always as an OSError.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            named = _HDF5_FILE.search(str(cause))
            return cause.errno, str(cause.filename or (named[1] if named else "") or cause.strerror)
        if isinstance(cause, OSError | RuntimeError) and (number := _HDF5_NUMBER.search(str(cause))):
            named = _HDF5_FILE.search(str(cause))
            return int(number[1]), named[1] if named else str(cause)
        cause = cause.__cause__
    return 0, ""
