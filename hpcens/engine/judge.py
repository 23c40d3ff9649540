"""Which rows of a segment a member did not score, each under its first cause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from hpcens.engine.hardware import Hardware
from hpcens.members import Cast, Forward
from hpcens.vocabulary import Array, Bad


class Judge:
    """Judges all members of a segment: what its rows hold is looked at once."""

    def __init__(self, hardware: Hardware, rows: Sequence[torch.Tensor], forwards: Iterable[Forward]) -> None:
        """Begin to look at the rows, before anything is computed from them: whoever asked later would wait for that.

        rows      (rows, *row shape) of each input of the dataset
        forwards  those who are to be judged
        """
        self._rows = rows
        self._hardware = hardware
        looked_at = {place for forward in forwards for place in (*forward.judged, *_told_by_sums(forward, rows))}
        self._places = sorted(place for place in looked_at if rows[place].is_floating_point())
        self._flags = hardware.room((len(self._places), 1), torch.bool) if self._places else None
        with torch.inference_mode():
            for i, place in enumerate(self._places):
                hardware.put(self._flags, i, torch.isfinite(rows[place].sum(dtype=torch.float32)).reshape(1, 1))
        self._finite: dict[int, bool] = {}
        self._not_finite: dict[int, list[int]] = {}
        self._lost: dict[tuple[int, Cast], list[int]] = {}

    def bad(self, forward: Forward, values: Array, raised: Iterable[int]) -> tuple[Bad, ...]:
        """Return the rows that the member did not score.

        values  what it gave, (rows, *output shape)
        raised  rows on which its preprocessing raised
        """
        rows, raised_on = self._rows, set(raised)
        for place in forward.judged:
            if place not in self._not_finite:
                self._not_finite[place] = [] if self._tame(place) else _not_finite(rows[place])
        of_input = {row for place in forward.judged for row in self._not_finite[place]} - raised_on
        of_cast = self._of_cast(forward, rows) - raised_on - of_input
        of_output: set[int] = set()
        if not np.isfinite(values).all():
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            of_output = set(np.flatnonzero(~finite).tolist()) - raised_on - of_input - of_cast
        causes = (
            Bad("raised", tuple(sorted(raised_on))),
            Bad("input", tuple(sorted(of_input))),
            Bad("cast", tuple(sorted(of_cast))),
            Bad("output", tuple(sorted(of_output))),
        )
        return tuple(bad for bad in causes if bad.rows)

    def _tame(self, place: int) -> bool:
        """Tell whether all numbers of an input are finite in float32, as far as their sum shows it."""
        if self._flags is not None and not self._finite:
            flags = self._hardware.fetch(self._flags)
            self._finite = {of: bool(flags[i, 0]) for i, of in enumerate(self._places)}
        return self._finite.get(place, True)

    def _of_cast(self, forward: Forward, rows: Sequence[torch.Tensor]) -> set[int]:
        """Return the rows whose numbers what they are cast to cannot hold."""
        for place, cast in zip(forward.inputs, forward.casts, strict=True):
            if (place, cast) not in self._lost:
                tame = cast.float32_suffices(rows[place].dtype) and self._tame(place)
                self._lost[place, cast] = [] if tame else cast.lost(rows[place])
        return {row for wanted in zip(forward.inputs, forward.casts, strict=True) for row in self._lost[wanted]}


def _told_by_sums(forward: Forward, rows: Sequence[torch.Tensor]) -> Iterable[int]:
    """Return the inputs of which a finite sum says that their cast loses nothing."""
    pairs = zip(forward.inputs, forward.casts, strict=True)
    return (place for place, cast in pairs if cast.float32_suffices(rows[place].dtype))


def _not_finite(rows: torch.Tensor) -> list[int]:
    """Return the rows that hold NaN or infinity."""
    return torch.nonzero(~torch.isfinite(rows.reshape(len(rows), -1)).all(1)).reshape(-1).tolist()
