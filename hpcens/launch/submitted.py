"""What a job was made of when it was submitted: hours may lie between that and its start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hpcens.errors import FingerprintMismatch
from hpcens.runs import SlurmJob, Submission

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight


def made_of(preflight: Preflight) -> dict[str, dict[str, str]]:
    """Return what the job's members and rule are made of: name → part → digest."""
    members = {f"member {name}": dict(digests) for name, digests in preflight.digests.items()}
    return members | {"the rule": {part: str(digest) for part, digest in preflight.rule.items()}}


def refuse_edited(submission: Submission | None, job: SlurmJob | None, preflight: Preflight) -> None:
    """Raise FingerprintMismatch where a submitted job finds other code, weights or rules than it was submitted with.

    submission, job  the run's newest submission, and the job this process is part of
    preflight        what is there now; what only one of the two has seen does not count
    """
    if submission is None or job is None or job.submission != submission.id:
        return
    if edited := list(_edited(submission.made_of, made_of(preflight))):
        raise FingerprintMismatch(
            f"changed since the job was submitted: {'; '.join(edited)}",
            "submit it again to score with what is there now; or put back what was there, and submit that",
        )


def _edited(before: dict[str, dict[str, str]], now: dict[str, dict[str, str]]) -> Iterator[str]:
    for name, parts in before.items():
        found = now.get(name, {})
        changed = [part for part, digest in parts.items() if found.get(part, digest) != digest]
        if changed:
            yield f"{name} ({', '.join(changed)})"
