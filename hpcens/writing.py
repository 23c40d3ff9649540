"""Writing: what a reducer does with a segment's stack: combines it with what is stored, or stores it for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcens.combining import Combiner
from hpcens.errors import DataError, HpcensError
from hpcens.masking import masked_rows, valid
from hpcens.matrix import Plan
from hpcens.messages import Array, Bad, Write
from hpcens.phases import Phase, stored_phases
from hpcens.preflight import Preflight
from hpcens.rundir import AGAIN, RunDirectory
from hpcens.specs import Job
from hpcens.store.finished import Finished
from hpcens.store.journal import Record
from hpcens.store.result import Result, reopen, standing


@dataclass(frozen=True, slots=True)
class _Stored:
    """Members' outputs that are there already.

    run    as the phase that scored them saw it; None where a finished result holds them
    notes  segment → what its journal notes of it
    """

    file: Finished
    members: tuple[str, ...]
    run: RunDirectory | None
    notes: Mapping[int, Sequence[Record]]

    def read(self, segment: int) -> tuple[dict[str, Array], list[int]]:
        """Member → its rows of the segment; and places of those that are masked.

        Raises HpcensError where a phase's are damaged: it is unfinished then, and the next start scores them again.
        """
        names = {f"members/{member}": member for member in self.members}
        try:
            rows = self.file.read(segment, names)
        except DataError as error:
            if self.run is None:
                raise
            reopen(self.run)
            raise HpcensError(f"{error.what}, scored in an earlier phase", AGAIN) from error
        return {member: rows[name] for name, member in names.items()}, self.file.masked(segment)


class Writer:
    """Writes one phase's segments into a result that is open.

    combiner  of the last phase
    """

    def __init__(
        self,
        job: Job,
        preflight: Preflight,
        plan: Plan,
        phase: Phase,
        *,
        combiner: Combiner,
        run: RunDirectory,
        result: Result,
    ) -> None:
        self._spec = job.spec
        self._phase = phase
        self._combiner = combiner
        self._result = result
        self._batches = {member: plan.numerics.members[member].batch for member in phase.members}
        self._stored: list[_Stored] = []
        if phase.last:
            if preflight.stored:
                self._stored.append(_Stored(Finished(job.output), preflight.stored, None, {}))
            for path, members in stored_phases(run, phase.form).items():
                of = run.phase(members)
                self._stored.append(_Stored(Finished(path), members, of, _notes(of)))

    def write(self, task: Write) -> None:
        """What was masked or ran in smaller batches is noted with it."""
        names, form, segment = self._spec.member_names, self._phase.form, task.segment
        values = dict(zip(self._phase.members, task.stack, strict=True))
        bad: dict[str, tuple[Bad, ...]] = dict(zip(self._phase.members, task.bad, strict=True))
        used = dict(zip(self._phase.members, task.batches, strict=True))
        start, _ = form.segmentation.bounds(segment)
        masked = masked_rows(self._spec.bad_rows, start, bad)
        noted: list[Record] = []
        for stored in self._stored:
            rows, left_out = stored.read(segment)
            values |= rows
            masked = sorted({*masked, *left_out})
            noted += stored.notes.get(segment, ())
        if self._phase.last:
            outputs = self._combiner.combine(segment, [values[member] for member in names], masked)
        else:
            outputs = {f"members/{member}": rows for member, rows in values.items()}
            outputs["valid"] = valid(len(task.stack[0]), masked)
        reduced = {i: used[m] for i, m in enumerate(names) if m in used and used[m] < self._batches[m]}
        self._result.write(segment, outputs, reduced, {i: bad[m] for i, m in enumerate(names) if bad.get(m)}, noted)

    def close(self) -> None:
        for stored in self._stored:
            stored.file.close()


def _notes(run: RunDirectory) -> dict[int, list[Record]]:
    """Segment → what a complete phase's journal notes of it."""
    content = standing(run)
    notes: dict[int, list[Record]] = {}
    for record in content.notes() if content else ():
        notes.setdefault(record.segment, []).append(record)
    return notes
