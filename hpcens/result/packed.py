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
    assert form.compression is not None
    options = filter_options(form.compression)
    path.unlink(missing_ok=True)  # HDF5 would write through a link
    make_striped(path)
    with made_by_hdf5(path), h5py.File(path, "w", locking=False) as packed:
        describe(packed, form)
        for output in form.outputs:
            chunk = chunk_rows(output, form.segmentation.rows)
            shape = (form.segmentation.rows, *output.shape)
            dataset = packed.create_dataset(
                output.name, shape, output.dtype, chunks=(chunk, *output.shape), fillvalue=None, **options
            )
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
    finished = Finished(path)
    damaged = [s for s in range(len(form.segmentation)) if finished.checksum(s) != finished.checksums[s]]
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
