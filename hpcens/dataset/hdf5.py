"""HDF5 files as people bring them: opened read only, datasets found by name, errors that say what is wrong."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.decompression import require_filters
from hpcens.dataset.links import missing_file, passed, require_regular
from hpcens.dataset.types import attribute, dtype_of
from hpcens.errors import DataError
from hpcens.shell import listed
from hpcens.vocabulary import Array

_VIRTUAL_CACHE = 64 << 20
_MOST_NAMES = 10_000
_DEEPEST = 10_000  # groups


def open_file(path: Path, *, virtual: bool = False) -> h5py.File:
    """Open a file read only. Raises DataError: missing, no permission, not HDF5, truncated, being written.

    virtual  whether it holds virtual datasets that will be read: they alone depend on the library's own cache of chunks
    """
    if not path.exists():
        raise DataError(f"dataset {path}: no such file", "check the path; relative paths start at the current folder")
    if path.is_dir():
        raise DataError(f"dataset {path} is a folder", f"name its files: '{path}/*.h5'")
    require_regular(path, "named as a dataset")
    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=_VIRTUAL_CACHE if virtual else None)
    except PermissionError:
        raise DataError(f"dataset {path}: no permission to read it", "ask its owner, or copy it") from None
    except Exception as error:  # HDF5's errors come as half a dozen types
        raise _not_opened(path, error) from None


def _not_opened(path: Path, error: Exception) -> DataError:
    if not h5py.is_hdf5(path):
        return DataError(f"dataset {path} is not an HDF5 file", "convert it, or check the path")
    text = str(error)
    if "already open for write" in text:
        return DataError(
            f"dataset {path} is being written, or its writer crashed",
            f"wait until it is closed; if nobody writes it: h5clear -s {path}",
        )
    if "truncated" in text:
        return DataError(f"dataset {path} is truncated: {text}", "copy it again")
    return DataError(f"dataset {path} cannot be opened: {text}", "it may be damaged; copy it again")


def only_dataset(file: h5py.File, path: Path) -> str:
    """Return the name of the file's only dataset. Raises DataError where there are several, or none."""
    names = _names(file)
    if len(names) != 1:
        raise DataError(
            f"{file.filename} holds {len(names)} datasets ({listed(names)}): which one is to be scored?",
            "name it: dataset.input in the YAML",
        )
    return names[0]


def _names(file: h5py.File) -> list[str]:
    try:
        return list(itertools.islice(_walk(file), _MOST_NAMES))
    except Exception as error:  # HDF5's errors come as half a dozen types
        raise DataError(f"{file.filename} cannot be listed: {error}", "it is damaged: copy it again") from None


def _walk(file: h5py.File) -> Iterator[str]:
    """Yield the names of a file's datasets. None is opened: of some types numpy has none.

    Groups are opened from those that hold them, since the library takes the square of the time to open by long paths.
    """
    seen = set()
    open_groups = [(file["/"].id, "", iter(list(file["/"].id)))]
    while open_groups:
        group, prefix, links = open_groups[-1]
        link = next(links, None)
        if link is None:
            open_groups.pop()
            continue
        if group.links.get_info(link).type != h5py.h5l.TYPE_HARD:
            continue
        about = h5py.h5o.get_info(group, link)
        if (about.fileno, about.addr) in seen:
            continue
        seen.add((about.fileno, about.addr))
        name = prefix + os.fsdecode(link)
        if about.type == h5py.h5o.TYPE_DATASET:
            yield name
        elif about.type == h5py.h5o.TYPE_GROUP and len(open_groups) < _DEEPEST:
            inner = h5py.h5g.open(group, link)
            open_groups.append((inner, f"{name}/", iter(list(inner))))


def find_dataset(file: h5py.File, key: str, place: str) -> h5py.Dataset:
    """Find a dataset by its name. Raises DataError where there is none, or it has no rows, or its filters are missing.

    key    name of the dataset
    place  key in the YAML that names it
    """
    where = f"{file.filename}: {key}"
    passed(file, key)  # opens no pipe that a link leads to, which the library would wait for
    try:
        dataset = file.get(key.encode(errors="surrogateescape"))  # a name need not be UTF-8
        shape = dataset.shape if isinstance(dataset, h5py.Dataset) else None
    except Exception as error:  # a link that leads nowhere, a header that is damaged
        raise DataError(f"{where} cannot be opened: {error}", f"check {place} in the YAML, or the file") from None
    if isinstance(dataset, h5py.Group):
        inside = [f"{key}/{os.fsdecode(name)}" for name in dataset]
        raise DataError(f"{where} is a group, not a dataset", f"it holds: {listed(inside) or 'nothing'}")
    if not isinstance(dataset, h5py.Dataset):
        for path in passed(file, key):
            open_file(path).close()
        missing = missing_file(file, key)
        if missing is not None:
            raise DataError(f"{where} is a link to {missing}, which is not there", "copy it too")
        names = _names(file)
        close = get_close_matches(key, names, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        if "fingerprint" in file.attrs:
            hint = "it is a result of hpcens: quote patterns ('*.h5'), which then leave results out; "
        raise DataError(f"{file.filename} has no dataset {key!r}", f"{hint}it has: {listed(names) or 'none'}")
    if not shape or shape[0] == 0:
        raise DataError(f"{where} has no rows (shape {shape})", "nothing to score")
    require_filters(dataset, where)
    return dataset


def read_rows(dataset: h5py.Dataset, start: int, stop: int, axis: int = 0) -> Array:
    """Read rows through the library, (rows, …). Raises DataError naming them where they cannot be read."""
    try:
        rows: Array = np.moveaxis(dataset[(*(slice(None),) * axis, slice(start, stop))], axis, 0)
    except Exception as error:  # HDF5's errors come as half a dozen types
        raise unreadable(dataset, start, stop, error) from None
    return rows


def unreadable(dataset: h5py.Dataset, start: int, stop: int, error: object) -> DataError:
    """Return the error for rows that cannot be read."""
    return DataError(
        f"{dataset.file.filename}: {dataset.name}: rows {start}–{stop - 1} cannot be read: {error}",
        "the file is damaged there: copy it again, or leave these rows out (dataset.select in the YAML)",
    )


def bytes_behind_a_row(dataset: h5py.Dataset, axis: int = 0) -> int:
    """Return the bytes that are decompressed to see one row. axis: that of the rows."""
    chunk = dataset.chunks or tuple(1 if side == axis else size for side, size in enumerate(dataset.shape))
    across = zip(dataset.shape, chunk, strict=True)
    sides = (step if side == axis else -(-size // step) * step for side, (size, step) in enumerate(across))
    return int(math.prod(sides) * dtype_of(dataset).itemsize)


def holds_marks(dataset: h5py.Dataset) -> bool:
    """Tell whether a dataset holds booleans, as numpy, PyTables (bits) or MATLAB (logical) store them."""
    logical = attribute(dataset, "MATLAB_class") in (b"logical", "logical")
    return dataset.dtype.kind == "b" or logical or isinstance(dataset.id.get_type(), h5py.h5t.TypeBitfieldID)


def kind_of(dtype: np.dtype[Any]) -> str:
    """Return a dtype in words."""
    return "variable-length or reference data" if dtype.hasobject else str(dtype)
