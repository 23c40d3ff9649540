"""Earlier results: what is there already where a job's result is to be, and what of it the job may keep.

Both are decided by fingerprints: that of the finished file, and that of a run that was begun.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcens.files import read_json
from hpcens.result.fingerprint import numerics_of, require_same, rounded_members
from hpcens.result.finished import fingerprint_of
from hpcens.runs import RunDirectory
from hpcens.specs import Job

# From numerics that were fixed before to the fingerprint that the job has under them now.
Current = Callable[[dict[str, Any]], dict[str, Any]]


def stored_members(job: Job, current: Current) -> tuple[str, ...]:
    """Return the members whose outputs the finished result holds, where the job merely adds others to them.

    The job may differ from it by further members, its rule and its outputs alone. None where their outputs are not
    stored in full.
    """
    before = fingerprint_of(job.output) if job.output.exists() else None
    names = job.spec.member_names
    if before is None or not set(before["members"]) < set(names):
        return ()
    full = "members" in before["outputs"]["datasets"] and not rounded_members(before, before["members"])
    now = current(numerics_of(before))
    same = all(before[branch] == now[branch] for branch in ("data", "numerics"))
    same = same and all(now["members"][name] == before["members"][name] for name in before["members"])
    same = same and before["rule"]["space"] == now["rule"]["space"]
    same = same and before["outputs"]["bad_rows"] == now["outputs"]["bad_rows"]
    return tuple(name for name in names if name in before["members"]) if full and same else ()


def is_finished(output: Path, current: Current, *, extended: bool = False) -> bool:
    """Return whether the result is there, finished.

    current   gives the fingerprint it is to have; compared with those of the finished file and of the run directory
    extended  the finished file holds members to which others are added: it is not the result, but what that builds on
    Raises FingerprintMismatch where what is there was made of something else.
    """
    run = RunDirectory.of(output)
    finished = fingerprint_of(output) if output.exists() else None
    begun = read_json(run.fingerprint)
    if extended:
        begun, finished = None if begun == finished else begun, None
    for tree, place in ((finished, output), (begun, run.path)):
        if tree is not None:
            require_same(tree, current(numerics_of(tree)), str(place))
    return finished is not None
