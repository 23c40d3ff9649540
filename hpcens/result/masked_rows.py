"""Rows that members could not score, as journals note them, and how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hpcens.result.journal import Kind, Record
from hpcens.vocabulary import Cause

MASKED: Mapping[Cause, Kind] = {
    "input": Kind.MASKED_INPUT,
    "output": Kind.MASKED_OUTPUT,
    "raised": Kind.MASKED_RAISED,
    "cast": Kind.MASKED_CAST,
}


def count_masked(notes: Iterable[Record]) -> list[tuple[int, Cause, int, int]]:
    """Count what was masked by what is noted of segments: (member index, cause, rows, first row)."""
    counts: dict[tuple[int, Cause], tuple[int, int]] = {}
    causes = {kind: cause for cause, kind in MASKED.items()}
    for record in notes:
        if (cause := causes.get(record.kind)) is not None:
            rows, first = counts.get((record.member, cause), (0, record.checksum))
            counts[record.member, cause] = rows + record.batch, min(first, record.checksum)
    return [(member, cause, rows, first) for (member, cause), (rows, first) in sorted(counts.items())]
