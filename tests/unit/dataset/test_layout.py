"""Chunks that lie along the rows: each is decompressed once where memory allows, and none in vain by a first look."""

import hashlib
from collections import Counter
from contextlib import closing
from itertools import count

import h5py
import numpy as np
import pytest

from hpcens.dataset import layout, table
from hpcens.dataset.inspection import read_part, reading_speed
from hpcens.dataset.layout import Layout, layout_of
from hpcens.dataset.source import Source
from hpcens.specs import DatasetSpec, InputSpec

ROWS, COLUMNS = 600, 24
TALL = 700  # rows of a chunk: it reaches beyond the last
VALUES = np.random.default_rng(0).integers(0, 100, (ROWS, COLUMNS)).astype("f4")


@pytest.fixture
def tall(tmp_path, monkeypatch):
    """A chunk a column; little is kept unless memory allows."""
    for module in (layout, table):
        monkeypatch.setattr(module, "KEPT_BYTES", 4 * TALL * 4)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(TALL, 1), compression="gzip", maxshape=(None, COLUMNS))
    return tmp_path / "d.h5"


@pytest.fixture
def decompressed(monkeypatch):
    """How often each chunk is decompressed."""
    counts = Counter()
    plain = table.Chunked._decompressed

    def counting(self, key, into=None):
        counts[key] += 1
        return plain(self, key, into)

    monkeypatch.setattr(table.Chunked, "_decompressed", counting)
    return counts


def memory(monkeypatch, free):
    monkeypatch.setattr("hpcens.dataset.source.free_memory", lambda: free)


@pytest.mark.parametrize("rows", [1, 7, 100, 599])
def test_whole_columns_are_read_once_where_memory_allows(tall, monkeypatch, decompressed, rows):
    memory(monkeypatch, 1 << 30)
    with closing(Source([tall], DatasetSpec())) as source:
        for start in range(0, ROWS, rows):
            assert (source.rows_between(start, min(start + rows, ROWS))[0] == VALUES[start : start + rows]).all()
        assert source._file(0)[0].tables[0]._kept == {}, "nothing is held once the last rows are read"
    assert len(decompressed) == COLUMNS and set(decompressed.values()) == {1}


def test_where_it_does_not_rows_are_right_and_memory_stays_bounded(tall, monkeypatch, decompressed):
    memory(monkeypatch, 0)
    with closing(Source([tall], DatasetSpec())) as source:
        for start in range(0, ROWS, 100):
            assert (source.rows_between(start, start + 100)[0] == VALUES[start : start + 100]).all()
            assert len(source._file(0)[0].tables[0]._kept) <= 4
    assert max(decompressed.values()) > 1


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_the_speed_is_told_from_a_few_chunks(tall, monkeypatch, decompressed, free):
    memory(monkeypatch, free)
    monkeypatch.setattr("hpcens.dataset.inspection._READING_BYTES", 3 * TALL * 4)
    monkeypatch.setattr(table, "_READ_BYTES", 60 * COLUMNS * 4)  # segments of 60 rows
    assert reading_speed([tall], DatasetSpec(), None).rows_per_second > 0
    assert min(read_part([tall], DatasetSpec(), None, 0.5)) > 0
    assert 0 < sum(decompressed.values()) <= 6
    monkeypatch.setattr(table.time, "perf_counter", count().__next__)  # three chunks take a second
    with closing(Source([tall], DatasetSpec())) as source:
        seconds = source.seconds_a_row(0.5, 3 * TALL * 4)
    assert seconds == pytest.approx(COLUMNS / 3 / (TALL if free else 60))


def test_a_first_look_decompresses_each_chunk_once_and_says_how_they_lie(tall, monkeypatch, decompressed):
    memory(monkeypatch, 0)
    with closing(Source([tall], DatasetSpec())) as source:
        facts = source.facts()
    assert len(decompressed) == COLUMNS and set(decompressed.values()) == {1}
    [remark] = facts.remarks
    assert "each chunk holds a column, 600 rows tall; rechunk (h5repack -l x:CHUNK=600x24)" in remark
    assert "or read whole columns: 6.72e-05 GB" in remark


def test_where_even_that_takes_long_stored_chunks_stand_for_rows(tall, monkeypatch, decompressed):
    monkeypatch.setattr("hpcens.dataset.file._MOST_SAMPLED", 0)
    with closing(Source([tall], DatasetSpec())) as source:
        before = source.facts().identity["files"]["1"]["sampled rows"]
    assert not decompressed
    with h5py.File(tall, "r+") as file:
        file["x"][5, 0] += 1
    with closing(Source([tall], DatasetSpec())) as source:
        assert source.facts().identity["files"]["1"]["sampled rows"] != before


def test_layouts_that_cost_little_are_not_spoken_of(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(ROWS, 1), compression="gzip")
    with closing(Source([tmp_path / "d.h5"], DatasetSpec())) as source:
        assert source.facts().remarks == ()


@pytest.mark.parametrize(
    ("shape", "chunk", "axis", "what"),
    [
        ((2_000_000, 128), (2_000_000, 1), 0, "a column, 2,000,000 rows tall; rechunk (h5repack -l x:CHUNK=2048x128)"),
        ((128, 2_000_000), (1, 2_000_000), 1, "CHUNK=128x2048"),
        ((2_000_000, 128), (2_000_000, 4), 0, "holds 4 of 128 of each, 2,000,000 rows tall"),
        ((1_000_000, 8, 32), (3_000_000, 1, 1), 0, "holds a column, 1,000,000 rows tall"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_layout(shape, chunk, axis, what):
    laid = Layout(shape, chunk, axis, 4 * int(np.prod(chunk)))
    assert laid.lies_along_rows and what in laid.described("d.h5: /x")


KINDS = {
    "plain": (VALUES, {}),
    "big-endian": (VALUES.astype(">f8"), {"compression": "gzip", "chunks": (7, 5)}),
    "bytes": (VALUES.astype("u1"), {"compression": "lzf"}),
    "booleans": (VALUES > 50, {"compression": "gzip"}),
    "chunked": (VALUES, {"chunks": (50, 3)}),
    "columns": (VALUES, {"chunks": (ROWS, 1), "compression": "gzip", "shuffle": True}),
    "compound": (
        np.rec.fromarrays([VALUES[:, 0], VALUES[:, :3]], [("a", ">i2"), ("b", "<f4", (3,))]),
        {"compression": "gzip"},
    ),
}


@pytest.mark.parametrize(
    ("kind", "field"), [*((kind, None) for kind in KINDS if kind != "compound"), ("compound", "a"), ("compound", "b")]
)
def test_the_digest_of_sampled_rows_is_that_of_earlier_versions(tmp_path, kind, field):
    """They read row by row, through the library, and in the byte order of the file."""
    values, how = KINDS[kind]
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", data=values, **how)
        samples = sorted({round(i * (ROWS - 1) / 64) for i in range(65)})
        rows = [file["x"][row : row + 1] for row in samples]
        assert (layout_of(file["x"], 0) is None) == ("compression" not in how)
    wanted = hashlib.sha256(b"".join((row if field is None else row[field]).tobytes() for row in rows)).hexdigest()[:32]
    spec = DatasetSpec(inputs={"x": InputSpec(path="x", field=field)})
    with closing(Source([tmp_path / "d.h5"], spec)) as source:
        assert source.facts().identity["files"]["1"]["sampled rows"] == wanted
