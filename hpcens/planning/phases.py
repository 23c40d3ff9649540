"""Phases: groups of members that are scored one after another over all rows, where no placement holds them all.

An earlier phase leaves its members' outputs in a file of the run directory, journalled and read back as a result is;
the last one combines them with its own. What is complete stays so, even where a later start forms other groups.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcens.checks.preflight import Preflight
from hpcens.result import VALID, Finished, Form, Output, fingerprint_of, require_room, room
from hpcens.roles import RankRoles
from hpcens.runs import RunDirectory
from hpcens.specs import Job
from hpcens.vocabulary import Plan, Rows


@dataclass(frozen=True, slots=True)
class Phase:
    """One of them.

    number   from 1, those counted that were complete before this start
    of       how many there are
    members  scored in it, in member order
    form     of what it writes: the result, or for all but the last its members' outputs
    """

    number: int
    of: int
    members: tuple[str, ...]
    form: Form

    @property
    def last(self) -> bool:
        """Whether no phase comes after this one."""
        return self.number == self.of

    def directory(self, run: RunDirectory) -> RunDirectory:
        """Return the run directory as its writers see it."""
        return run if self.last else run.phase(self.members)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What rank 0 decided before the first batch, for every rank.

    shape   of a member's output for one row
    phases  that are left, in their order; nearly always one
    rows    of the dataset, for each input: a whole batch of each member that is prepared for its runtime
    """

    job: Job
    preflight: Preflight
    rank_roles: RankRoles
    plan: Plan
    shape: tuple[int, ...]
    phases: tuple[Phase, ...]
    rows: Rows


def phases_of(
    run: RunDirectory, plan: Plan, form: Form, shape: tuple[int, ...], beside: Sequence[Output] = ()
) -> tuple[Phase, ...]:
    """Return what is left to do of a plan's phases, in their order.

    form    of the result
    shape   of a member's output for one row
    beside  what members have beside their outputs, NAME/member: the entropies of passes
    """
    stored = stored_phases(run, form)
    scored = {member for members in stored.values() for member in members}
    left = [group for phase in plan.groups if (group := tuple(m for m in phase if m not in scored))]
    of = len(stored) + len(left)
    numbered = enumerate(left, len(stored) + 1)
    return tuple(
        Phase(n, of, group, form if n == of else _form(form, plan, group, shape, beside)) for n, group in numbered
    )


def stored_phases(run: RunDirectory, form: Form) -> dict[Path, tuple[str, ...]]:
    """Return files of complete phases, each with its members; those that another result has left here do not count."""
    tree = json.loads(form.attributes["fingerprint"])
    return {path: _members(path) for path in run.phases() if fingerprint_of(path) == tree}


def _members(path: Path) -> tuple[str, ...]:
    finished = Finished(path)
    finished.close()
    prefix = "members/"
    return tuple(output.name.removeprefix(prefix) for output in finished.outputs if output.name.startswith(prefix))


def _form(form: Form, plan: Plan, members: Sequence[str], shape: tuple[int, ...], beside: Sequence[Output]) -> Form:
    """Return the form of these members' outputs, and of which rows are masked where the result says it."""
    dtypes = ("<f8" if plan.numerics.members[member].precision == "float64" else "<f4" for member in members)
    outputs = tuple(Output(f"members/{m}", shape, dtype) for m, dtype in zip(members, dtypes, strict=True))
    outputs += tuple(output for output in beside if output.name.partition("/")[2] in members)
    masks = tuple(output for output in form.outputs if output.name == VALID.name)
    attributes = {"fingerprint": form.attributes["fingerprint"]}
    return Form(outputs=(*outputs, *masks), segmentation=form.segmentation, attributes=attributes, documents={})


def require_room_for(job: Job, run: RunDirectory, phases: Sequence[Phase]) -> None:
    """Raise Incomplete where the disk has no room for all that the phases will write."""
    parts = ((phase.directory(run), phase.form) for phase in phases)
    wanted = 0
    for directory, form in parts:
        rows = form.segmentation.part_rows if form.keep is None else form.keep.expected(form.segmentation.rows)
        wanted += room(directory, rows, form.outputs, form.compression)
    require_room(job, wanted)
