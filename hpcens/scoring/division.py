"""Which rows of a segment the members of a phase score: all, those of their routes, those no stage has accepted yet."""

from __future__ import annotations

import numpy as np

from hpcens.dataset import Routes, Source, divided_rows
from hpcens.planning.phases import SURE, Phase, decisions, stored_phases
from hpcens.result import Finished
from hpcens.runs import Epoch, RunDirectory
from hpcens.scoring.stored import Stored
from hpcens.specs import RunSpec
from hpcens.vocabulary import Array, Divided, Rows

_TOGETHER = 1 << 24  # rows of which marks are counted at once


class Division:
    """Divide the rows of a dataset among the members of a phase.

    run    the run directory, which holds what earlier phases have stored; epoch: this start
    """

    def __init__(self, source: Source, spec: RunSpec, run: RunDirectory, epoch: Epoch) -> None:
        self._source, self._spec, self._run, self._epoch = source, spec, run, epoch
        rows = {member.name: member.rows for member in spec.members}
        self._routes = Routes(source, spec.dataset.route, rows) if spec.routed else None
        self._phase: Phase | None = None
        self._marks: list[Stored] = []

    def open(self, phase: Phase) -> None:
        """Divide for this phase from now on."""
        self.close()
        self._phase = phase
        stored = stored_phases(self._run, phase.form) if phase.stage else {}
        for stage in self._spec.cascade[: phase.stage]:
            path = decisions(stored, stage)[0]
            directory = self._run.phase(stored[path])
            self._marks.append(Stored(Finished(path), stored[path], directory, self._epoch))

    @property
    def scored(self) -> tuple[int, ...]:
        """Rows that each stage up to the phase's own has to score, as earlier stages have left them."""
        counts = [self._source.rows]
        for marks in self._marks:
            array = marks.file.array(SURE.name)
            spans = range(0, self._source.rows, _TOGETHER)
            counts.append(sum(int((array[at : at + _TOGETHER] == 0).sum()) for at in spans))
        return tuple(counts)

    def read(self, segment: int, memory: Array | None = None) -> Rows | Divided:
        """Read what the phase's members score of a segment. memory: see `Source.rows_between`."""
        assert self._phase is not None, "a phase is opened before it is read for"
        segmentation = self._phase.form.segmentation
        start, stop = segmentation.bounds(segment)
        if not self._marks:
            if self._routes is None:
                return self._source.read(segmentation, segment, memory)
            return self._routes.divide(start, stop, self._phase.members, memory)
        present = self._present(segment, start, stop)
        names, members = self._spec.member_names, self._phase.members
        return divided_rows(self._source, start, stop, present, names, members, memory)

    def _present(self, segment: int, start: int, stop: int) -> Array:
        """Return (rows, members) bool: whether the member scores the row; False for those of later stages."""
        names = self._spec.member_names
        present = np.ones((stop - start, len(names)), bool)
        if self._routes is not None:
            present &= self._routes.present(start, stop)
        left = [np.ones(stop - start, bool), *(~marks.sure(segment) for marks in self._marks)]
        for place, name in enumerate(names):
            stage = self._spec.stage_of(name)
            present[:, place] &= left[stage] if stage < len(left) else False
        return present

    def close(self) -> None:
        """Close what it has opened of earlier phases."""
        for marks in self._marks:
            marks.file.close()
        self._marks.clear()
