"""Any HDF5 file is read as plain numpy would: layouts, types, files, selections; each chunk decompressed once."""

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import weakref
from collections import Counter
from pathlib import Path
from unittest import mock

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hpcens.dataset.layout as layout
import hpcens.dataset.table as table
from hpcens.dataset.decompression import Pipeline, fletcher32, pipeline_of
from hpcens.dataset.inspection import reading_speed
from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec, InputSpec, SelectSpec
from hpcens.vocabulary import Segmentation

CODECS = {
    "chunked": {},
    "gzip": {"compression": "gzip", "compression_opts": 1},
    "shuffle+gzip": {"compression": "gzip", "shuffle": True},
    "fletcher32": {"fletcher32": True},
    "shuffle+gzip+fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "shuffle+lzf": {"compression": "lzf", "shuffle": True},
    "blosc-zstd": dict(hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.SHUFFLE)),
    "blosc-lz4": dict(hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
    "blosc2": dict(hdf5plugin.Blosc2(cname="zstd")),
    "zstd": dict(hdf5plugin.Zstd()),
    "lz4": dict(hdf5plugin.LZ4()),
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "bzip2": dict(hdf5plugin.BZip2()),
} | ({"szip": {"compression": "szip"}} if h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP) else {})
BY_THE_LIBRARY = {"szip"}
DTYPES = ["<f4", ">f4", "<f8", "<f2", ">f2", "|u1", "|i1", "<u2", ">u2", "<i4", ">i8", "<u8", "|b1"]


def values(shape, dtype="<f4", seed=0):
    drawn = np.random.default_rng(seed).integers(0, 200, shape)
    return (drawn % 2 if dtype == "|b1" else drawn % 100).astype(dtype)


def write(path, data, name="images", **how):
    with h5py.File(path, "a") as file:
        if how and "dtype" not in how:
            how = {"chunks": (5, *(max(1, size - 1) for size in data.shape[1:])), "maxshape": (None,) * data.ndim} | how
        file.create_dataset(name, data=data, **how)
    return path


def read_all(source, segment_rows):
    """Every segment, one after another, put together; one array an input."""
    segmentation = Segmentation(source.rows, segment_rows)
    parts = [source.read(segmentation, segment) for segment in range(len(segmentation))]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


@contextlib.contextmanager
def opened(*paths, limit=None, **spec):
    source = Source(paths, DatasetSpec(**spec), limit)
    yield source
    source.close()


def same(got, wanted):
    """Equal bytes, native order."""
    wanted = wanted.astype(wanted.dtype.newbyteorder("="))
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape) and got.tobytes() == wanted.tobytes()


@pytest.fixture
def counted(monkeypatch):
    """How often each chunk is decompressed, by table and place."""
    counts = Counter()
    plain = table.Chunked._decompressed

    def counting(self, key, into=None):
        counts[self._dataset.file.filename, self._dataset.name, key] += 1
        return plain(self, key, into)

    monkeypatch.setattr(table.Chunked, "_decompressed", counting)
    return counts


@contextlib.contextmanager
def watched_chunks():
    """How many decompressed chunks were alive whenever another came."""
    gone, alive, plain = [], [], table.Chunked._decompressed

    def watched(self, key, into=None):
        chunk = plain(self, key, into)
        weakref.finalize(chunk, gone.append, key)
        alive.append(len(alive) + 1 - len(gone))
        return chunk

    with mock.patch.object(table.Chunked, "_decompressed", watched):
        yield alive


class TestLayouts:
    @pytest.mark.parametrize("codec", CODECS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_any_codec_and_type(self, tmp_path, codec, dtype):
        data = values((23, 4, 3), dtype)
        path = write(tmp_path / "d.h5", data, chunks=(5, 3, 3), **CODECS[codec])
        with opened(path) as source:
            [got] = read_all(source, 7)
            same(got, data)
            assert source.facts().inputs[0].dtype == data.dtype.newbyteorder("=").str

    @pytest.mark.parametrize("codec", CODECS)
    def test_what_is_decompressed_here_and_what_by_the_library(self, tmp_path, codec):
        path = write(tmp_path / "d.h5", values((23, 4)), chunks=(5, 4), **CODECS[codec])
        with h5py.File(path) as file:
            assert (pipeline_of(file["images"], 80) is None) == (codec in BY_THE_LIBRARY)

    @pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 2, 3, 4, 5)])
    @pytest.mark.parametrize("how", [{}, {"chunks": True}, {"compression": "gzip"}])
    def test_any_rank(self, tmp_path, shape, how):
        data = values(shape)
        with opened(write(tmp_path / "d.h5", data, **({"chunks": True} | how if how else {}))) as source:
            same(read_all(source, 4)[0], data)

    def test_chunks_whose_filter_was_left_out(self, tmp_path):
        """Story: gzip is optional, and a writer stores a chunk that does not shrink as it is."""
        data = values((4, 8), "|u1")
        path = write(tmp_path / "d.h5", data, chunks=(2, 8), compression="gzip", shuffle=True)
        with h5py.File(path, "r+") as file:
            plain = np.arange(16, dtype=np.uint8)
            file["images"].id.write_direct_chunk((2, 0), plain.tobytes(), filter_mask=0b11)
        with opened(path) as source:
            same(read_all(source, 3)[0], np.concatenate([data[:2], plain.reshape(2, 8)]))

    @pytest.mark.parametrize("order", [*itertools.permutations(["set_shuffle", "set_fletcher32", "set_deflate"])])
    def test_filters_in_any_order(self, tmp_path, order):
        data = values((21, 3), "<f8")
        with h5py.File(tmp_path / "d.h5", "w") as file:
            how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            how.set_chunk((7, 3))
            for name in order:
                getattr(how, name)(*([1] if name == "set_deflate" else []))
            space = h5py.h5s.create_simple(data.shape)
            h5py.h5d.create(file.id, b"x", h5py.h5t.py_create(data.dtype), space, dcpl=how).write(space, space, data)
        with opened(tmp_path / "d.h5") as source:
            same(read_all(source, 4)[0], data)

    @pytest.mark.parametrize("isal", [True, False])
    @pytest.mark.parametrize("lost", [0, 1, 4])
    def test_gzip_with_and_without_isal_wants_its_checksum(self, tmp_path, monkeypatch, isal, lost):
        if not isal:
            monkeypatch.setitem(sys.modules, "isal", None)
        data = values((10, 30))
        path = write(tmp_path / "d.h5", data, chunks=(10, 30), compression="gzip")
        with h5py.File(path, "r+") as file:
            raw = file["images"].id.read_direct_chunk((0, 0))[1]
            file["images"].id.write_direct_chunk((0, 0), raw[: len(raw) - lost])
        with opened(path) as source:
            if lost:
                with pytest.raises(DataError, match="rows 0–9 cannot be read: its compressed bytes are damaged"):
                    source.head(10)
            else:
                same(source.head(10)[0], data)

    @pytest.mark.parametrize("how", [{}, {"compression": "gzip"}, {"compression": "lzf"}])
    @pytest.mark.parametrize("fill", [0, 7])
    def test_chunks_that_were_never_written_hold_the_fill_value(self, tmp_path, how, fill):
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file.create_dataset("x", (20, 3), "<i4", chunks=(4, 2), fillvalue=fill, **how)[8:11] = 1
            wanted = file["x"][:]
        with opened(tmp_path / "d.h5") as source:
            same(read_all(source, 7)[0], wanted)

    def test_compound_fields_by_name(self, tmp_path):
        kind = np.dtype([("x", ">f4", (2, 3)), ("id", "S5"), ("y", "<i2"), ("z", "|b1")])
        data = np.zeros(17, kind)
        data["x"], data["y"], data["z"] = values((17, 2, 3)), values(17, "<i2", 1), values(17, "|b1")
        for codec in ("contiguous", "gzip", "lzf"):
            write(tmp_path / "d.h5", data, codec, **({} if codec == "contiguous" else CODECS[codec]))
            inputs = {field: InputSpec(path=codec, field=field) for field in ("y", "x", "z")}
            with opened(tmp_path / "d.h5", inputs=inputs) as source:
                for got, field in zip(read_all(source, 4), inputs, strict=True):
                    same(got, data[field])

    def test_fields_of_one_compound_share_their_chunks(self, tmp_path, counted):
        data = np.zeros(40, [("x", "<f4"), ("y", "<i2")])
        write(tmp_path / "d.h5", data, "t", compression="gzip", chunks=(8,))
        inputs = {field: InputSpec(path="t", field=field) for field in ("x", "y")}
        with opened(tmp_path / "d.h5", inputs=inputs) as source:
            read_all(source, 6)
        assert len(counted) == 5 and set(counted.values()) == {1}

    def test_a_compound_with_strings_beside_the_numbers(self, tmp_path):
        kind = np.dtype([("name", h5py.string_dtype()), ("x", "<f8")])
        data = np.array([(f"row {i}", i / 3) for i in range(12)], kind)
        write(tmp_path / "d.h5", data, "t", compression="gzip", chunks=(5,))
        with opened(tmp_path / "d.h5", inputs={"x": InputSpec(path="t", field="x")}) as source:
            same(read_all(source, 5)[0], data["x"])

    def test_links_virtual_datasets_and_storage_elsewhere(self, tmp_path):
        data = values((12, 3))
        write(tmp_path / "a.h5", data[:5], "x", compression="gzip", chunks=(2, 3))
        write(tmp_path / "b.h5", data[5:], "x")
        layout = h5py.VirtualLayout((12, 3), "<f4")
        layout[:5] = h5py.VirtualSource("a.h5", "x", (5, 3))
        layout[5:] = h5py.VirtualSource("b.h5", "x", (7, 3))
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file.create_virtual_dataset("virtual", layout)
            file["link"] = h5py.ExternalLink("b.h5", "x")
            file["soft"] = h5py.SoftLink("/link")
            file.create_dataset("outside", data=data, external=[(str(tmp_path / "raw.bin"), 0, h5py.h5f.UNLIMITED)])
        for name, wanted in {"virtual": data, "link": data[5:], "soft": data[5:], "outside": data}.items():
            with opened(tmp_path / "d.h5", input=name) as source:
                same(read_all(source, 5)[0], wanted)
                before = source.facts().identity
            if name != "outside":
                os.utime(tmp_path / "b.h5")
                with opened(tmp_path / "d.h5", input=name) as source:
                    assert source.facts().identity != before, "a file behind it changed unseen"

    def test_read_only_and_open_elsewhere(self, tmp_path):
        path = write(tmp_path / "d.h5", values((6, 2)))
        code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); f['images'][0] = 1; f.flush(); print(); input()"
        writer = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        writer.stdout.readline()
        path.chmod(0o400)
        before = path.stat()
        with opened(path) as source:
            assert read_all(source, 4)[0][0].tolist() == [1, 1]
            source.facts()
        assert path.stat().st_mtime_ns == before.st_mtime_ns
        writer.communicate(b"\n")

    def test_the_checksum_is_that_of_the_library(self, tmp_path):
        """It says so itself: a chunk it wrote is accepted, whatever its length."""
        for length in (1, 2, 3, 359, 720, 721, 70001, 140003):
            data = values((1, length), "|u1", length)
            path = write(tmp_path / f"{length}.h5", data, chunks=(1, length), fletcher32=True)
            with h5py.File(path) as file:
                raw = file["images"].id.read_direct_chunk((0, 0))[1]
            assert fletcher32(np.frombuffer(raw[:-4], np.uint8)) == int.from_bytes(raw[-4:], "little")
        assert fletcher32(np.zeros(100, np.uint8)) == 0


class TestChunksOnce:
    @pytest.mark.parametrize("codec", ["gzip", "lzf", "szip", "blosc-zstd"])
    @pytest.mark.parametrize("chunk", [(1, 6, 6), (4, 6, 6), (7, 4, 5), (50, 3, 6), (100, 6, 6)])
    @pytest.mark.parametrize("segment_rows", [1, 3, 8, 33, 200])
    def test_whatever_the_segments(self, tmp_path, counted, codec, chunk, segment_rows):
        data = values((101, 6, 6))
        path = write(tmp_path / "d.h5", data, chunks=chunk, **CODECS[codec])
        with opened(path) as source:
            same(read_all(source, segment_rows)[0], data)
            across = np.prod([-(-size // step) for size, step in zip(data.shape[1:], chunk[1:], strict=True)])
            assert len(counted) == -(-101 // chunk[0]) * across
        assert set(counted.values()) == {1}

    def test_of_a_mask(self, tmp_path, counted):
        data, mask = values((200, 3)), values(200, "|b1").astype(bool)
        path = write(tmp_path / "d.h5", data, chunks=(16, 2), compression="gzip")
        write(path, mask, "mask")
        with opened(path, input="images", select=SelectSpec(path="mask")) as source:
            same(read_all(source, 7)[0], data[mask])
        assert set(counted.values()) == {1}

    def test_nothing_is_read_ahead_of_what_is_selected(self, tmp_path, counted):
        path = write(tmp_path / "d.h5", values((200, 3)), chunks=(10, 3), compression="gzip")
        with opened(path, select=SelectSpec(start=25, stop=52)) as source:
            read_all(source, 4)
        assert {key for _, _, key in counted} == {2, 3, 4, 5}

    @pytest.mark.parametrize("kept", [0, 1000, 4000])
    def test_memory_is_bounded_and_the_rows_right(self, tmp_path, monkeypatch, kept):
        monkeypatch.setattr(table, "KEPT_BYTES", kept)
        monkeypatch.setattr(layout, "KEPT_BYTES", kept)
        monkeypatch.setattr("hpcens.dataset.source.free_memory", lambda: 0)
        data = values((60, 10, 10))
        path = write(tmp_path / "d.h5", data, chunks=(20, 4, 5), compression="gzip")
        most = max(1, kept // 1600)
        with opened(path) as source, watched_chunks() as live:
            same(read_all(source, 7)[0], data)
        assert 0 < max(live) <= 2 * most

    def test_several_threads_decompress_at_once(self, tmp_path, monkeypatch):
        """Each waits for the other: one alone would never come to an end."""
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        both, undo = threading.Barrier(2, timeout=120), Pipeline.undo

        def meeting(self, *of):
            both.wait()
            return undo(self, *of)

        monkeypatch.setattr(Pipeline, "undo", meeting)
        data = values((40, 3))
        with opened(write(tmp_path / "d.h5", data, chunks=(10, 3), compression="gzip")) as source:
            same(read_all(source, 40)[0], data)

    def test_the_speed_counts_whole_chunks(self, tmp_path, counted, monkeypatch):
        monkeypatch.setattr("hpcens.dataset.inspection._READING_BYTES", 100)
        path = write(tmp_path / "d.h5", values((200, 3)), chunks=(50, 3), compression="gzip")
        asked, between = [], Source.rows_between
        monkeypatch.setattr(Source, "rows_between", lambda *of: asked.append(of[1:3]) or between(*of))
        assert reading_speed([path], DatasetSpec(), None).rows_per_second > 0
        assert asked == [(0, 50)] and counted


def test_many_files_are_not_all_kept_open(tmp_path):
    paths = [write(tmp_path / f"{i}.h5", values((5, 2), seed=i), compression="gzip") for i in range(15)]
    wanted = np.concatenate([values((5, 2), seed=i) for i in range(15)])

    def files_open():
        links = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        return sum(link.is_relative_to(tmp_path) for link in links)

    with opened(*paths) as source:
        for start, stop in [(0, 75), (3, 9), (70, 75), (0, 75), (12, 60)]:
            same(source.rows_between(start, stop)[0], wanted[start:stop])
            assert 0 < files_open() <= 8
    assert files_open() == 0


shapes = st.lists(st.integers(1, 5), max_size=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_selection_of_any_files_is_what_numpy_gives(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("files")
    row = tuple(data.draw(shapes))
    kind = data.draw(st.sampled_from(["all", "range", "mask", "list"]))
    how = data.draw(st.sampled_from([{}, {"compression": "gzip"}, {"compression": "lzf"}]))
    wholes, chosen, paths, first = [], [], [], 0
    lengths = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    total = sum(lengths)
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.integers(start + 1, total + 5))
    for i, length in enumerate(lengths):
        whole = values((length, *row), seed=i)
        chunks = tuple(data.draw(st.integers(1, size + 2)) for size in whole.shape)
        path = write(folder / f"{i}.h5", whole, **({"chunks": chunks} | how if how else {}))
        rows = np.arange(length)
        if kind == "range":
            rows = rows[(rows + first >= start) & (rows + first < stop)]
        elif kind == "mask":
            mask = np.array(data.draw(st.lists(st.booleans(), min_size=length, max_size=length)), bool)
            write(path, mask, "select")
            rows = rows[mask]
        elif kind == "list":
            rows = np.array(data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=30)), "<u2")
            write(path, rows, "select")
        write(path, np.array([f"{i}.{j}" for j in range(length)], object), "ids", dtype=h5py.string_dtype())
        wholes.append(whole)
        chosen.append(whole[rows])
        paths.append(path)
        first += length
    wanted = np.concatenate(chosen)
    select = {
        "all": None,
        "range": SelectSpec(start=start, stop=stop),
        "mask": SelectSpec(path="select"),
        "list": SelectSpec(path="select"),
    }[kind]
    limit = data.draw(st.none() | st.integers(1, 50))
    if not len(wanted):
        with pytest.raises(DataError, match="selects none"):
            Source(paths, DatasetSpec(input="images", select=select))
        return
    block = data.draw(st.sampled_from([3, 7, 1 << 20]))
    with (
        mock.patch("hpcens.dataset.selection._BLOCK", block),
        opened(*paths, limit=limit, input="images", select=select) as source,
    ):
        same(read_all(source, data.draw(st.integers(1, 60)))[0], wanted[:limit])
        same(source.head(3)[0], wanted[:limit][:3])
