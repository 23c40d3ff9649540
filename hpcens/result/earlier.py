"""Earlier results: what is there already where a job's result is to be, and what of it the job may keep.

Both are decided by fingerprints: that of the finished file, and that of a run that was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hpcens.errors import DataError, UsageError
from hpcens.members import result_axis
from hpcens.result.fingerprint import is_whole, keeps_classes, numerics_of, rounded_members
from hpcens.result.finished import Finished, fingerprint_of
from hpcens.result.journal import has_written
from hpcens.result.mismatch import differences, require_same
from hpcens.runs import RunDirectory
from hpcens.specs import Job, Space

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
    if "keep" in before["outputs"] or job.spec.output.keep is not None:
        return ()
    if "cascade" in before["rule"] or job.spec.cascade:
        return ()
    full = "members" in before["outputs"]["datasets"] and not rounded_members(before, before["members"])
    now = current(numerics_of(before))
    same = all(before[branch] == now[branch] for branch in ("data", "numerics"))
    same = same and all(now["members"][name] == before["members"][name] for name in before["members"])
    same = same and before["rule"]["space"] == now["rule"]["space"]
    same = same and before["outputs"]["bad_rows"] == now["outputs"]["bad_rows"] and keeps_classes(before, now)
    return tuple(name for name in names if name in before["members"]) if full and same else ()


def begun_tree(run: RunDirectory) -> Any:
    """Return the fingerprint that binds the next start of a run; None where no row was made durable under it.

    What was fixed before then fixes nothing: a run that ended on its first rows is begun anew by whatever mends it.
    """
    tree = run.fixed_fingerprint
    return tree if is_whole(tree) and _holds_rows(run) else None


def _holds_rows(run: RunDirectory) -> bool:
    """Return whether rows were made durable since the fingerprint that counts was fixed.

    In any phase; where worlds share the dataset, what they have made of it counts.
    """
    if run.phases() or run.blocks.exists():
        return True
    for epoch in run.epochs():
        if any(map(has_written, sorted(epoch.folder.glob("*journal*")))):
            return True
        if epoch.fingerprint.exists():  # what older starts have made is of another
            return False
    return False


def earlier_tree(output: Path) -> Mapping[str, Any]:
    """Return the fingerprint of the run that was begun for this output, else of the finished file; empty without."""
    begun = begun_tree(RunDirectory.of(output))
    tree = begun or (fingerprint_of(output) if output.exists() else None)
    return tree if isinstance(tree, dict) else {}


def is_finished(output: Path, current: Current, *, extended: bool = False, files: Sequence[Path] = ()) -> bool:
    """Return whether the result is there, finished.

    current   gives the fingerprint it is to have; compared with those of the finished file and of the run directory
    extended  the finished file holds members to which others are added: it is not the result, but what that builds on
    files     of the dataset, for what is said of them
    Raises FingerprintMismatch where what is there was made of something else.
    """
    run = RunDirectory.of(output)
    finished = fingerprint_of(output) if output.exists() else None
    if finished is not None and not is_whole(finished):
        raise DataError(f"{output} does not say what it was made of: it is damaged", "move it away")
    begun = begun_tree(run)
    if extended:
        begun, finished = None if begun == finished else begun, None
    for tree, place in ((finished, output), (begun, run.path)):
        if tree is not None:
            require_same(tree, current(numerics_of(tree)), place, output=output, files=files)
    return finished is not None


def begins_anew(output: Path, current: Current) -> str:
    """Say that what was begun for this output is dropped, since no row of it is durable; empty where it is not.

    current  see `is_finished`
    """
    run = RunDirectory.of(output)
    tree = run.fixed_fingerprint
    if output.exists() or not is_whole(tree) or begun_tree(run) is not None:
        return ""
    changed = list(differences(tree, current(numerics_of(tree))))
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    if not changed:
        return ""
    return f"{run.path} begins anew: no row is saved of what was begun there ({changed[0]}{more})"


def require_same_axis(job: Job, space: Space, shape: tuple[int, ...], stored: Sequence[str]) -> None:
    """Raise UsageError where the stored members have their classes on another axis than those that are added.

    space   in which the rule combines
    shape   of the output for one row of a member that is added, as it is combined
    stored  members whose outputs the finished result holds
    """
    wanted = result_axis(job.spec, shape, space)
    if wanted is None or not stored:
        return
    with closing(Finished(job.output)) as result:
        axes = {name: result.output(f"members/{name}").class_axis for name in stored}
    for name, axis in axes.items():
        if axis is not None and axis != wanted:
            raise UsageError(
                f"{job.output} stores member {name} with the classes on axis {axis}, and the job has them on {wanted}",
                "score all members into another output (output.path)",
            )
