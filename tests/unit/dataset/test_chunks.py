"""Chunks are read past the library's lock, straight into the rows they are; what only it can read is left to it."""

import ctypes
import os
import re
import zlib
from pathlib import Path
from types import SimpleNamespace

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcens.dataset import chunks, decompression, table
from hpcens.dataset.chunks import chunks_of
from hpcens.dataset.decompression import Pipeline
from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec, InputSpec, SelectSpec

CODECS = {
    "none": {},
    "gzip": {"compression": "gzip"},
    "shuffle+gzip": {"compression": "gzip", "shuffle": True},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "lzf": {"compression": "lzf"},
    "shuffle+lzf": {"compression": "lzf", "shuffle": True},
    "blosc-zstd": dict(hdf5plugin.Blosc(cname="zstd")),
    "blosc-lz4": dict(hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
    "zstd": dict(hdf5plugin.Zstd()),
    "shuffle+zstd": {**hdf5plugin.Zstd(), "shuffle": True},
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="lz4")),
}
ROWS = np.random.default_rng(0).integers(0, 9, (40, 3, 5)).astype("f4")


def written(path, data=ROWS, **options):
    with h5py.File(path, "w", **{key: options.pop(key) for key in ("userblock_size", "libver") if key in options}) as f:
        f["before"] = np.arange(7)
        f.create_dataset("rows", data=data, **options)
    return path


def opened(path):
    return Source((path,), DatasetSpec(input="rows"))


@pytest.fixture
def lockless(monkeypatch):
    """Reads past the library; each gets as few bytes as a system may give at once."""
    every, preadv = [], os.preadv

    def counting(descriptor, buffers, offset):
        every.append(offset)
        return preadv(descriptor, [buffers[0][:100]], offset)

    monkeypatch.setattr(os, "preadv", counting)
    return every


@pytest.fixture
def copied(monkeypatch):
    """Chunks that did not go straight to their rows."""
    keys, place = [], table.Chunked._straight

    def watched(self, key, where, targets):
        into = place(self, key, where, targets)
        if into is None:
            keys.append(key)
        return into

    monkeypatch.setattr(table.Chunked, "_straight", watched)
    return keys


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "none"])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_whole_rows_go_straight_to_their_place_and_parts_are_copied(tmp_path, lockless, copied, codec, libver):
    path = written(tmp_path / "d.h5", chunks=(4, 3, 5), libver=libver, **CODECS[codec])
    assert (opened(path).rows_between(8, 24)[0] == ROWS[8:24]).all()
    assert lockless and not copied
    assert (opened(path).rows_between(6, 39)[0] == ROWS[6:39]).all()
    assert set(copied) == {1, 9}


@pytest.mark.parametrize(
    ("options", "past"),
    [
        ({"data": ROWS.astype(">f4")}, True),  # its bytes are swapped while they are copied
        ({"chunks": (4, 2, 5)}, True),
        ({"chunks": (4, 3, 5), "userblock_size": 512}, False),
        ({"chunks": (4, 3, 5), "scaleoffset": 0, "data": ROWS.astype("i4")}, False),
    ],
)
def test_what_is_not_bytes_of_rows_is_copied(tmp_path, lockless, copied, options, past):
    path = written(tmp_path / "d.h5", **({"chunks": (4, 3, 5), "compression": "gzip"} | options))
    [rows] = opened(path).rows_between(0, 40)
    assert (rows == ROWS).all() and bool(lockless) == past
    assert bool(copied) == (past or ("userblock_size" not in options and "scaleoffset" not in options))


def test_masked_chunks_are_the_librarys(tmp_path, lockless):
    path = written(tmp_path / "d.h5", chunks=(4, 3, 5), compression="gzip", shuffle=True)
    with h5py.File(path, "r+") as file:
        plain = (ROWS[8:12] + 1).tobytes()
        file["rows"].id.write_direct_chunk((8, 0, 0), plain, filter_mask=0b11)
    wanted = ROWS.copy()
    wanted[8:12] += 1
    with h5py.File(path) as file:
        found = chunks_of(file["rows"], 240, 0, 40)
        assert [found.holds((i, 0, 0)) for i in range(4)] == [True, True, False, True]
        where = file["rows"].id.get_chunk_info_by_coord((8, 0, 0)).byte_offset
    assert (opened(path).rows_between(0, 40)[0] == wanted).all() and where not in lockless


def libhdf5():
    found = re.findall(r"/\S*/libhdf5[-.]\S*", Path("/proc/self/maps").read_text())
    if not found:
        pytest.skip("h5py holds the library within itself")
    return ctypes.CDLL(found[0])


@pytest.mark.parametrize("codec", ["gzip", "shuffle+gzip", "blosc-zstd"])
@pytest.mark.parametrize("rows", [9, 11])
def test_edges_whose_filters_were_left_out_without_a_mark(tmp_path, codec, rows):
    data = ROWS[:rows]
    with h5py.File(tmp_path / "d.h5", "w", libver="latest") as file:
        properties = file.create_dataset(
            "like", (4, 3, 5), "f4", chunks=(4, 3, 5), **CODECS[codec]
        ).id.get_create_plist()
        set_options = libhdf5().H5Pset_chunk_opts
        set_options.argtypes = [ctypes.c_int64, ctypes.c_uint]
        assert set_options(properties.id, 2) >= 0  # H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS
        space = h5py.h5s.create_simple(data.shape)
        h5py.h5d.create(file.id, b"rows", h5py.h5t.NATIVE_FLOAT, space, properties).write(space, space, data)
    for end in (rows, 1):  # by where chunks lie, and by the library
        source = Source((tmp_path / "d.h5",), DatasetSpec(input="rows", select=SelectSpec(stop=end)))
        assert (source.rows_between(0, end)[0] == data[:end]).all()
    where = Source((tmp_path / "d.h5",), DatasetSpec(input="rows"))
    assert where.facts().rows == rows


def test_a_file_that_ends_too_early_is_an_error(tmp_path):
    path = written(tmp_path / "d.h5", chunks=(4, 3, 5), compression="gzip")
    source = opened(path)
    [table_of] = source._file(0)[0]._tables.values()
    table_of.find_chunks()
    os.truncate(path, int(table_of._chunks.addresses.max()) + 5)
    out = np.empty_like(ROWS)
    with pytest.raises(DataError, match=r"rows 36–39 cannot be read: the file ends [0-9]+ bytes before them"):
        table_of.read(slice(0, 40), [(None, out)])
    with pytest.raises(DataError, match="changed while it was read"):
        source.rows_between(0, 40)


@pytest.mark.parametrize("codec", sorted(CODECS.keys() - {"none", "shuffle", "bitshuffle"}))
def test_damage_is_an_error_on_the_straight_way_too(tmp_path, codec):
    path = written(tmp_path / "d.h5", chunks=(4, 3, 5), **CODECS[codec])
    with h5py.File(path, "r+") as file:
        raw = file["rows"].id.read_direct_chunk((4, 0, 0))[1]
        file["rows"].id.write_direct_chunk((4, 0, 0), raw[: len(raw) - 9])
    with pytest.raises(DataError, match="rows 4–7 cannot be read"):
        opened(path).rows_between(0, 40)


@pytest.mark.parametrize("size", [100, 1000])
def test_a_chunk_of_another_size_is_damaged(size):
    undone = np.zeros(240, np.uint8)
    with pytest.raises(ValueError, match=f"it holds {size} bytes, not 240"):
        Pipeline((lambda data, into: np.zeros(size, np.uint8),), 240).undo(b"x", 0, undone)


def test_offsets_that_a_library_counts_in_chunks_are_not_believed(tmp_path):
    path = written(tmp_path / "d.h5", chunks=(4, 3, 5), compression="gzip")
    with h5py.File(path) as file:
        dataset = file["rows"]

        def scaled(note):
            dataset.id.chunk_iter(lambda chunk: note(chunk._replace(chunk_offset=(chunk.chunk_offset[0] // 4, 0, 0))))

        identifier = SimpleNamespace(chunk_iter=scaled, get_chunk_info=dataset.id.get_chunk_info)
        like = SimpleNamespace(id=identifier, file=file, chunks=dataset.chunks, shape=dataset.shape)
        assert chunks._listed(dataset, (10, 1, 1), 240) is not None
        assert chunks._listed(like, (10, 1, 1), 240) is None


def test_of_very_many_chunks_none_is_sought_for_a_few_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_FEW_CHUNKS", 5)
    with h5py.File(written(tmp_path / "d.h5", chunks=(4, 3, 5), compression="gzip")) as file:
        assert chunks_of(file["rows"], 240, 0, 4) is None
        assert chunks_of(file["rows"], 240, 0, 5) is not None
        monkeypatch.setattr(chunks, "_MOST_CHUNKS", 9)
        assert chunks_of(file["rows"], 240, 0, 40) is None


DTYPES = ["<f4", ">f4", "<f8", "|u1", "<i2", ">i4", "|b1"]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_chunks_are_read_as_the_library_reads_them(tmp_path_factory, data):
    draw = data.draw
    row = tuple(draw(st.lists(st.integers(1, 6), max_size=2), "row"))
    rows = draw(st.integers(1, 40), "rows")
    shape = (rows, *row)
    whole = draw(st.booleans(), "whole rows")
    sides = tuple(draw(st.integers(1, 12)) if not whole or i == 0 else side for i, side in enumerate(shape))
    dtype, codec = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(list(CODECS)))
    path = tmp_path_factory.mktemp("any") / "d.h5"
    values = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 7, shape).astype(dtype)
    with h5py.File(path, "w", libver=draw(st.sampled_from(["earliest", "latest"]))) as file:
        fixed = draw(st.booleans(), "fixed size")
        options = {"maxshape": shape if fixed and all(map(int.__le__, sides, shape)) else (None,) * len(shape)}
        made = file.create_dataset("rows", shape, dtype, chunks=sides, fillvalue=1, **options, **CODECS[codec])
        for start in range(0, rows, sides[0]):
            if draw(st.integers(0, 3)):  # else these chunks are never written
                made[start : start + sides[0]] = values[start : start + sides[0]]
        count = made.id.get_create_plist().get_nfilters()
        for start in range(0, rows, sides[0]):
            if count and codec != "fletcher32" and draw(st.integers(0, 4)) == 0:
                chunk = np.zeros(sides, dtype)
                part = values[(slice(start, start + sides[0]), *(slice(side) for side in sides[1:]))]
                chunk[tuple(slice(side) for side in part.shape)] = part
                made.id.write_direct_chunk((start, *[0] * len(row)), chunk.tobytes(), filter_mask=(1 << count) - 1)
    with h5py.File(path) as file:
        wanted = file["rows"][:]
    first = draw(st.integers(0, rows - 1), "first")
    last = draw(st.integers(first + 1, rows), "last")
    picked = draw(st.one_of(st.none(), st.lists(st.integers(0, rows - 1), min_size=1, max_size=9)), "picked")
    if picked is not None:
        with h5py.File(path, "r+") as file:
            file["picked"] = picked
        spec = DatasetSpec(inputs={"x": InputSpec(path="rows")}, select=SelectSpec(path="picked"))
        first, last, wanted = 0, len(picked), wanted[picked]
    else:
        spec = DatasetSpec(inputs={"x": InputSpec(path="rows")})
    source = Source((path,), spec)
    step = draw(st.integers(1, last - first), "segment")
    parts = [source.rows_between(at, min(at + step, last))[0] for at in range(first, last, step)]
    source.close()
    native = wanted.dtype.newbyteorder("=")
    assert np.concatenate(parts).tobytes() == wanted[first:last].astype(native).tobytes()


@pytest.mark.parametrize(("chunk", "reads"), [((1, 3, 5), 1), ((4, 3, 5), 1), ((7, 3, 5), 1), ((64, 3, 5), 1)])
def test_unfiltered_chunks_of_whole_rows_are_read_as_the_file_holds_them(tmp_path, lockless, chunk, reads):
    path = written(tmp_path / "d.h5", chunks=chunk, maxshape=(None, 3, 5))
    source = opened(path)
    for start, stop in [(0, 40), (3, 39), (39, 40), (8, 9)]:
        assert (source.rows_between(start, stop)[0] == ROWS[start:stop]).all()
    assert lockless
    [plain] = source._file(0)[0]._tables.values()
    out = np.empty((20, 3, 5), "f4")
    assert len(plain._direct.pieces(8, out)) == reads, "those that lie one behind another are read at once"


def test_a_chunk_that_was_never_written_leaves_its_segment_to_the_library(tmp_path, lockless):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        dataset = file.create_dataset("rows", (40, 3), "f4", chunks=(4, 3), fillvalue=7)
        dataset[:12], dataset[16:] = 1, 2
        wanted = dataset[:]
    source = opened(tmp_path / "d.h5")
    assert (source.rows_between(10, 30)[0] == wanted[10:30]).all() and not lockless
    assert (source.rows_between(16, 40)[0] == wanted[16:40]).all() and lockless


@pytest.mark.parametrize(("cores", "tasks"), [(1, 4), (2, 8), (4, 14)])
def test_small_chunks_are_several_a_task(tmp_path, monkeypatch, cores, tasks):
    """A task costs as much as decompressing tens of kilobytes."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    path, counts, place = written(tmp_path / "d.h5", chunks=(1, 3, 5), compression="gzip"), [], table.Chunked._place_all

    def counted(self, some, *of):
        counts.append(len(some))
        return place(self, some, *of)

    monkeypatch.setattr(table.Chunked, "_place_all", counted)
    assert (opened(path).rows_between(0, 40)[0] == ROWS).all()
    assert len(counts) == tasks and sum(counts) == 40
    monkeypatch.setattr(table, "_TASK_BYTES", 100)
    assert (opened(path).rows_between(0, 40)[0] == ROWS).all() and max(counts[tasks:]) == 1


@pytest.mark.parametrize("at_once", [0, 1 << 29])
@pytest.mark.parametrize(
    ("plain", "said"), [(b"x" * 1000, "it holds 1000 bytes|no end"), (b"x" * 100, "it holds 100 bytes")]
)
def test_gzip_of_another_size_is_damaged_however_it_is_inflated(monkeypatch, tmp_path, at_once, plain, said):
    monkeypatch.setattr(decompression, "_MOST_AT_ONCE", at_once)
    path = written(tmp_path / "d.h5", chunks=(4, 3, 5), compression="gzip")
    assert (opened(path).rows_between(0, 40)[0] == ROWS).all()
    with h5py.File(path, "r+") as file:
        file["rows"].id.write_direct_chunk((4, 0, 0), zlib.compress(plain))
    with pytest.raises(DataError, match=rf"rows 4–7 cannot be read: .*({said})"):
        opened(path).rows_between(0, 40)
