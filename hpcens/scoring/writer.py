"""What a reducer does with a segment's stack: combines it with what is stored, or stores it for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hpcens.combining import Combiner, masked_rows, valid
from hpcens.members import carried_of
from hpcens.planning.phases import SURE, Assignment, Phase, stored_phases
from hpcens.result import PASS_ENTROPY, Disk, Finished, Record, Result, standing
from hpcens.runs import Epoch, RunDirectory
from hpcens.scoring.stored import Stored
from hpcens.vocabulary import Array, Bad, Routed, Write


class Writer:
    """One writer's part of one phase. The first of them opens what the phase writes, the others join.

    combiner  of the last phase
    run       the run directory; epoch: this start
    place     of this writer among all, from 0
    writers   number of them
    disk      what to write with; by default the machine's
    """

    def __init__(
        self,
        assignment: Assignment,
        phase: Phase,
        combiner: Combiner,
        *,
        run: RunDirectory,
        epoch: Epoch,
        place: int = 0,
        writers: int = 1,
        disk: Disk | None = None,
    ) -> None:
        self._job = assignment.job
        self._shape = assignment.shape
        self._phase = phase
        self._combiner = combiner
        self._run = run
        self._epoch = epoch
        self._batches = {member: assignment.plan.numerics.members[member].batch for member in phase.members}
        names = assignment.preflight.facts.names
        self._inputs = {m.name: names if m.front.inputs is None else m.front.inputs for m in self._job.spec.members}
        directory, form = phase.directory(run), phase.form
        self.result = (
            Result.join(directory, epoch, form, disk, writer=place, writers=writers)
            if place
            else Result.open(directory, epoch, form, disk, writers=writers)
        )
        spec, space = self._job.spec, assignment.preflight.space
        carried = {m.name: carried_of(m, spec, self._shape, space) for m in spec.members if m.name in phase.members}
        self._carried = {member: where for member, where in carried.items() if where is not None}
        self._stored: list[Stored] = []
        if phase.last and (before := assignment.preflight.stored):
            self._stored.append(Stored(Finished(self._job.output), before, None, epoch))
        if phase.last or phase.decides is not None:
            for path, members in stored_phases(run, form).items():
                directory = run.phase(members)
                if phase.last or self._job.spec.stage_of(members[0]) <= phase.stage:
                    self._stored.append(Stored(Finished(path), members, directory, epoch, _notes(directory)))

    def write(self, task: Write) -> None:
        """Write a segment; note with it what was masked or ran in smaller batches."""
        names, form, segment = self._job.spec.member_names, self._phase.form, task.segment
        scoring = self._phase.members if task.route is None else task.route.members
        values = dict(zip(scoring, task.stack, strict=True))
        bad: dict[str, tuple[Bad, ...]] = dict(zip(scoring, task.bad, strict=True))
        used = dict(zip(scoring, task.batches, strict=True))
        present = None if task.route is None else _unpacked(task.route, len(names))
        if present is not None:
            values, bad = self._in_place(values, bad, present)
        passes: dict[str, Array] = {}
        for member in self._carried.keys() & values.keys():
            values[member], passes[member] = self._carried[member].parted(values[member])
        start, stop = form.segmentation.bounds(segment)
        own = masked_rows(self._job.spec.bad_rows, start, bad, self._inputs)
        masked, noted = own, list[Record]()
        for stored in self._stored:
            rows, entropies, left_out = stored.read(segment)
            values |= rows
            passes |= entropies
            if present is not None:  # what no stored member was to score may be scored now
                places = [names.index(member) for member in stored.members]
                left_out = [row for row in left_out if present[row, places].any()]
            masked = sorted({*masked, *left_out})
            noted += stored.notes.get(segment, ())
        if self._phase.last:
            if present is not None:
                masked = sorted({*masked, *np.flatnonzero(~present.any(1)).tolist()})
            outputs = self._combiner.combine(segment, [values[member] for member in names], masked, present, passes)
        else:
            outputs = {f"members/{member}": values[member] for member in self._phase.members}
            outputs |= {f"{PASS_ENTROPY}{m}": passes[m] for m in self._phase.members if m in passes}
            outputs["valid"], noted = valid(stop - start, own), []
            if self._phase.decides is not None:
                outputs[SURE.name] = self._sure(segment, values, passes, masked, present)
        reduced = {i: used[m] for i, m in enumerate(names) if m in used and used[m] < self._batches[m]}
        self.result.write(segment, outputs, reduced, {i: bad[m] for i, m in enumerate(names) if bad.get(m)}, noted)

    def _sure(
        self,
        segment: int,
        values: Mapping[str, Array],
        passes: Mapping[str, Array],
        masked: Sequence[int],
        present: Array | None,
    ) -> Array:
        """Return (rows,) uint8: 1 where no later stage scores the row, as it is accepted by now, or masked.

        values   member → its rows of the segment, of the stages so far; passes: → the entropies that it carries
        present  (rows, members) bool: whether the member has scored the row; None: all of this stage have
        """
        spec, stage = self._job.spec, self._phase.decides
        assert stage is not None, "a phase that decides has a stage to decide"
        scored = [spec.stage_of(name) <= self._phase.stage for name in spec.member_names]
        size = self._phase.form.segmentation.size(segment)
        there = np.array(present) if present is not None else np.ones((size, len(scored)), bool)
        there &= np.array(scored)
        sure = np.zeros(size, bool)
        for stored in self._stored:
            if stored.marks and spec.stage_of(stored.members[0]) < self._phase.stage:
                sure |= stored.sure(segment)
        sure[list(masked)] = True
        there[sure] = False
        return (sure | self._combiner.sure(stage, values, there, passes)).astype(np.uint8)

    def _in_place(
        self, values: Mapping[str, Array], bad: Mapping[str, Sequence[Bad]], present: Array
    ) -> tuple[dict[str, Array], dict[str, tuple[Bad, ...]]]:
        """Put what the phase's members gave of their own rows to its places in the segment; the rest is NaN."""
        placed: dict[str, Array] = {}
        bad_rows: dict[str, tuple[Bad, ...]] = {}
        for place, member in enumerate(self._job.spec.members):
            if member.name not in self._phase.members:
                continue
            rows = np.flatnonzero(present[:, place])
            where = self._carried.get(member.name)
            shape = self._shape if where is None else where.widened(self._shape)
            placed[member.name] = np.full((len(present), *shape), np.nan, member.output_dtype)
            if member.name in values:
                placed[member.name][rows] = values[member.name]
                moved = (replace(b, rows=tuple(rows[list(b.rows)].tolist())) for b in bad[member.name])
                bad_rows[member.name] = tuple(moved)
        return placed, bad_rows

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Give what is whole its name, once all other writers have closed; with the result, files of phases go."""
        if not self._phase.last:
            self.result.finish(self._phase.directory(self._run).scored, summary)
            return
        self.result.finish(self._job.output, summary)
        self._epoch.require_newest()
        for path in self._run.phases():
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """End in order: it will not write again."""
        for stored in self._stored:
            stored.file.close()
        self.result.close()


def _unpacked(route: Routed, members: int) -> Array:
    """Return (rows, members) bool: whether the member is to score the row."""
    present: Array = np.unpackbits(route.present, axis=1, count=members).astype(bool)
    return present


def _notes(run: RunDirectory) -> dict[int, list[Record]]:
    """Collect what a complete phase's journal notes, by segment."""
    content = standing(run)
    notes: dict[int, list[Record]] = {}
    for record in content.notes() if content else ():
        notes.setdefault(record.segment, []).append(record)
    return notes
