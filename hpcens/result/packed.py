"""The packed file: a compressed, chunked copy of a working file that is whole. The working file is not touched."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from hpcens.dataset.filters import filter_options
from hpcens.errors import HpcensError
from hpcens.result.disk import Disk, made_by_hdf5
from hpcens.result.finished import Finished
from hpcens.result.form import Form, describe, label_outputs
from hpcens.result.lustre import make_striped
from hpcens.result.outputs import Output
from hpcens.result.working import WorkingFile

_CHUNK_BYTES = 1 << 20
_REMEDY = "run the same command again; if it stays so, leave output.compression out"


def pack(disk: Disk, file: WorkingFile, form: Form, path: Path) -> None:
    """Copy the file into a compressed one, read every segment of it back, and make it durable.

    Raises HpcensError where what is read back differs: then the path must not become a result.
    """
    path.unlink(missing_ok=True)  # HDF5 would write through a link
    make_striped(path)
    with made_by_hdf5(path), h5py.File(path, "w", locking=False) as packed:
        describe(packed, form)
        for output in form.outputs:
            dataset = create_compressed(packed, output, form)
            chunk = dataset.chunks[0]
            for start in range(0, form.segmentation.rows, chunk):
                stop = min(start + chunk, form.segmentation.rows)
                dataset[start:stop] = file.read(output, start, stop)
        label_outputs(packed, form)
        with h5py.File(file.path, "r", locking=False) as working:
            for name in ("written", "checksums", "summary"):
                packed[f"hpcens/{name}"] = working[f"hpcens/{name}"][:]
            if "columns" in working:
                working.copy("columns", packed)
    descriptor = disk.open(path)
    disk.sync(descriptor)
    disk.close(descriptor)
    require_same_when_read(path)


def create_compressed(file: h5py.File, output: Output, form: Form) -> h5py.Dataset:
    """Make the dataset of an output, compressed in chunks; it takes no room until rows are written."""
    assert form.compression is not None
    chunk = chunk_rows(output, form.segmentation.rows)
    return file.create_dataset(
        output.name,
        (form.segmentation.rows, *output.shape),
        output.dtype,
        chunks=(chunk, *output.shape),
        fillvalue=None,
        **filter_options(form.compression),
    )


def require_same_when_read(path: Path) -> None:
    """Read every segment and column of a compressed copy; raise HpcensError where one is not what was written."""
    finished = Finished(path)
    damaged = [s for s in range(len(finished.segmentation)) if finished.checksum(s) != finished.checksums[s]]
    broken = finished.broken_columns
    finished.close()
    if broken:
        raise HpcensError(f"{', '.join(broken)} of the compressed copy read back damaged", _REMEDY)
    if damaged:
        raise HpcensError(
            f"{len(damaged)} segments of the compressed copy read back damaged, first: segment {damaged[0]}",
            _REMEDY,
        )


def chunk_rows(output: Output, rows: int) -> int:
    """Return the rows of a chunk: about 1 MiB, so that a reader of few rows decompresses little."""
    return int(np.clip(_CHUNK_BYTES // max(1, output.row_bytes), 1, rows))
