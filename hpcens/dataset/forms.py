"""Forms: which of those that an input may be stored in a file's has: dense, ragged, or sparse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from hpcens.dataset.dense import open_dense
from hpcens.dataset.guard import Guarded, Origins
from hpcens.dataset.inputs import OpenInput
from hpcens.dataset.ragged import is_ragged, open_ragged
from hpcens.dataset.sparse import is_sparse, open_sparse
from hpcens.errors import DataError
from hpcens.specs import InputSpec


def open_input(file: h5py.File, path: Path, name: str, wanted: InputSpec, place: str, origins: Origins) -> OpenInput:
    """Return an input of an open file.

    path     of the file
    name     of the input; empty where the file's only dataset is meant
    place    key in the YAML that names it
    origins  what is known of the files behind it
    Raises DataError: no such dataset, field or axis; nothing that can be numbers; keys that would have no effect.
    """
    if is_sparse(file, wanted.path):
        return open_sparse(file, path, name, wanted, place, origins)
    guarded = Guarded(file, path, wanted.path, place, origins, axis=wanted.axis)
    form = open_ragged if is_ragged(guarded.dataset) else open_dense
    return form(guarded, name, wanted)


def require_alike(path: Path, inputs: Sequence[OpenInput]) -> None:
    """Raise DataError where the inputs of a file differ in rows, naming the axis that would agree."""
    if len({each.rows for each in inputs}) > 1:
        counts = ", ".join(f"{each.where.rpartition(': ')[2]} {each.rows}" for each in inputs)
        hints = [hint for each in inputs for other in inputs if (hint := each.other_axis(other.rows))]
        remedy = f"; {hints[0]}" if hints else ""
        raise DataError(f"{path}: the inputs differ in rows: {counts}", f"every input has one row a sample{remedy}")
