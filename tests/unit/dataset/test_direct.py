"""Rows read straight from the file are those the library reads; what it alone can read is left to it."""

import os

import h5py
import numpy as np
import pytest

from hpcens.dataset.direct import direct_of
from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec
from hpcens.specs.dataset import SelectSpec

ROWS = np.random.default_rng(0).random((40, 3, 5)).astype("f4")


@pytest.fixture
def counted(monkeypatch):
    """Bytes that were read past the library."""
    every, preadv = [], os.preadv

    def counting(descriptor, buffers, offset):
        every.append(min(len(buffers[0]), 100))
        return preadv(descriptor, [buffers[0][:100]], offset)  # as few as a system may give at once

    monkeypatch.setattr(os, "preadv", counting)
    return every


def made(path, dtype="f4", **options):
    with h5py.File(path, "w", **{key: options.pop(key) for key in ("userblock_size",) if key in options}) as file:
        file["before"] = np.arange(7)
        file.create_dataset("rows", data=ROWS.astype(dtype), dtype=dtype, **options)
    return path


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i2", "|u1", "|b1"])
@pytest.mark.parametrize("select", [None, [31, 3, 4, 39]])
def test_contiguous_rows_are_read_past_the_library(tmp_path, counted, dtype, select):
    path = made(tmp_path / "d.h5", dtype)
    if select:
        with h5py.File(path, "a") as file:
            file["select"] = select
    source = Source((path,), spec(select))
    wanted = ROWS.astype(dtype)[select or slice(None)]
    [rows] = source.rows_between(1, len(wanted))
    assert rows.tobytes() == wanted[1:].tobytes() and counted


def spec(select=None):
    return DatasetSpec(input="rows", select=SelectSpec(path="select") if select else None)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": ">f4"},
        {"dtype": "f4", "userblock_size": 512},
        {"dtype": "f4", "chunks": (4, 3, 4)},
        {"dtype": ">f4", "chunks": (4, 3, 5)},
        {"dtype": "f4", "chunks": (4, 3, 5), "userblock_size": 512},
        {"dtype": "f4", "external": "raw.bin"},
    ],
)
def test_what_only_the_library_can_read_is_left_to_it(tmp_path, counted, options, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "external" in options:
        options = options | {"external": [("raw.bin", 0, h5py.h5f.UNLIMITED)]}
    path = made(tmp_path / "d.h5", **options)
    with h5py.File(path) as file:
        assert direct_of(file["rows"]) is None
    [rows] = Source((path,), spec()).rows_between(0, 40)
    assert (rows == ROWS).all() and not counted


def test_rows_that_were_never_written_have_the_fill_value(tmp_path, counted):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("rows", (8, 3), "f4", fillvalue=7)
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        h5py.h5d.create(file.id, b"small", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((8, 3)), compact)
    with h5py.File(tmp_path / "d.h5") as file:
        assert direct_of(file["small"]) is None
    [rows] = Source((tmp_path / "d.h5",), spec()).rows_between(0, 8)
    assert (rows == 7).all() and not counted


def test_a_file_that_ends_too_early_is_no_rows_of_zeros(tmp_path):
    path = made(tmp_path / "d.h5")
    source = Source((path,), spec())
    [table] = source._file(0)[0]._tables.values()
    os.truncate(path, os.path.getsize(path) - ROWS.nbytes // 2)
    out = np.empty_like(ROWS)
    with pytest.raises(DataError, match=r"rows 0–39 cannot be read: the file ends [0-9]+ bytes before them"):
        table.read(slice(0, 40), [(None, out)])
    with pytest.raises(DataError, match="changed while it was read"):
        source.rows_between(0, 40)
