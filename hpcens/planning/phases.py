"""Phases: groups of members that are scored one after another over all rows, where no placement holds them all.

Stages of a cascade are phases too, each one or several: which rows the next stage scores is known once all of its own
members have scored. The phase that completes a stage marks the rows that are accepted, beside its members' outputs.

An earlier phase leaves its members' outputs in a file of the run directory, journalled and read back as a result is;
the last one combines them with its own. What is complete stays so, even where a later start forms other groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcens.checks.preflight import Preflight
from hpcens.result import VALID, Finished, Form, Output, fingerprint_of, require_room, room
from hpcens.roles import RankRoles
from hpcens.runs import RunDirectory
from hpcens.specs import Job, StageSpec
from hpcens.vocabulary import Plan, Rows

SURE = Output("sure", (), "|u1", {"description": "1 where the row is accepted: no later stage scores it"})


@dataclass(frozen=True, slots=True)
class Phase:
    """One of them.

    number   from 1, those counted that were complete before this start
    of       how many there are
    members  scored in it, in member order
    form     of what it writes: the result, or for all but the last its members' outputs
    stage    number of the cascade's stage that its members are of, from 0
    decides  the stage that is complete with it, whose rows it is to accept; None: it accepts none
    """

    number: int
    of: int
    members: tuple[str, ...]
    form: Form
    stage: int = 0
    decides: StageSpec | None = None

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
    run: RunDirectory,
    plan: Plan,
    form: Form,
    shape: tuple[int, ...],
    beside: Sequence[Output] = (),
    stages: Sequence[StageSpec] = (),
) -> tuple[Phase, ...]:
    """Return what is left to do of a plan's phases, in their order; those of a cascade's first stage come first.

    form    of the result
    shape   of a member's output for one row
    beside  what members have beside their outputs, NAME/member: the entropies of passes
    stages  of the cascade; empty where there is none
    """
    stored = stored_phases(run, form)
    scored = {member for members in stored.values() for member in members}
    groups = [(0, group) for group in plan.groups]
    if stages:
        groups = [(n, _both(group, stage.members)) for n, stage in enumerate(stages) for group in plan.groups]
    left = [(n, group) for n, phase in groups if (group := tuple(m for m in phase if m not in scored))]
    decided = {n for n, stage in enumerate(stages) for path in decisions(stored, stage)}
    completing = {n: group for n, group in left if n < len(stages) - 1 and n not in decided}
    of = len(stored) + len(left)
    phases = []
    for number, (n, group) in enumerate(left, len(stored) + 1):
        decides = stages[n] if completing.get(n) == group else None
        own = form if number == of else _form(form, plan, group, shape, beside, marked=decides is not None)
        phases.append(Phase(number, of, group, own, n, decides))
    return tuple(phases)


def _both(group: Sequence[str], members: Sequence[str]) -> tuple[str, ...]:
    return tuple(member for member in group if member in members)


def stored_phases(run: RunDirectory, form: Form) -> dict[Path, tuple[str, ...]]:
    """Return files of complete phases, each with its members; those that another result has left here do not count."""
    tree = json.loads(form.attributes["fingerprint"])
    return {path: _members(path) for path in run.phases() if fingerprint_of(path) == tree}


def decisions(stored: Iterable[Path], stage: StageSpec) -> list[Path]:
    """Return those of the files of complete phases that mark the rows which a stage of the cascade has accepted."""
    return [path for path in stored if {*stage.members} & {*_members(path)} and SURE.name in _outputs(path)]


def _members(path: Path) -> tuple[str, ...]:
    return tuple(name.removeprefix("members/") for name in _outputs(path) if name.startswith("members/"))


def _outputs(path: Path) -> tuple[str, ...]:
    finished = Finished(path)
    finished.close()
    return tuple(output.name for output in finished.outputs)


def _form(
    form: Form, plan: Plan, members: Sequence[str], shape: tuple[int, ...], beside: Sequence[Output], *, marked: bool
) -> Form:
    """Return the form of these members' outputs, and of which rows are masked where the result says it.

    beside  see `phases_of`
    marked  whether it is marked which rows are accepted
    """
    dtypes = ("<f8" if plan.numerics.members[member].precision == "float64" else "<f4" for member in members)
    outputs = [Output(f"members/{m}", shape, dtype) for m, dtype in zip(members, dtypes, strict=True)]
    outputs += [output for output in beside if output.name.partition("/")[2] in members]
    outputs += [output for output in form.outputs if output.name == VALID.name]
    outputs += [SURE] * marked
    attributes = {"fingerprint": form.attributes["fingerprint"]}
    return Form(outputs=tuple(outputs), segmentation=form.segmentation, attributes=attributes, documents={})


def require_room_for(job: Job, run: RunDirectory, phases: Sequence[Phase]) -> None:
    """Raise Incomplete where the disk has no room for all that the phases will write."""
    parts = ((phase.directory(run), phase.form) for phase in phases)
    wanted = 0
    for directory, form in parts:
        rows = form.segmentation.part_rows if form.keep is None else form.keep.expected(form.segmentation.rows)
        wanted += room(directory, rows, form.outputs, form.compression)
    require_room(job, wanted)
