"""Several threads read what one reads; how many is measured, and no more than there are cores."""

import os
import threading

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcens.dataset import inspection, threads
from hpcens.dataset.inspection import Reading, reading_speed
from hpcens.dataset.source import Source
from hpcens.dataset.threads import Threads, parts, thread_counts
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec

ROWS = np.random.default_rng(0).integers(0, 9, (90, 40)).astype("f4")
LAYOUTS = {
    "contiguous": {},
    "chunks": {"chunks": (7, 40)},
    "gzip": {"chunks": (7, 40), "compression": "gzip"},
    "beside": {"chunks": (7, 20), "compression": "lzf"},
}


@pytest.fixture
def cores(monkeypatch):
    """Processor cores that this process has."""
    own = {"cores": 4}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(own["cores"])))
    return own


@pytest.fixture
def small(monkeypatch):
    """Parts of any size are worth a thread."""
    monkeypatch.setattr(threads, "_LEAST_BYTES", 64)
    monkeypatch.setattr(threads, "_ALIGNMENT", 16)


def written(path, layout):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=ROWS, **LAYOUTS[layout])
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bytes_are_the_same_by_any_number_of_threads(tmp_path, cores, small, layout):
    path = written(tmp_path / "d.h5", layout)
    for count in (None, 1, 2, 3, 4, 99):
        source = Source((path,), DatasetSpec(), threads=count)
        read = [source.rows_between(at, min(at + 13, 90))[0] for at in range(0, 90, 13)]
        source.close()
        assert np.concatenate(read).tobytes() == ROWS.tobytes()


@pytest.mark.parametrize("layout", ["contiguous", "chunks"])
def test_two_threads_read_at_once(tmp_path, cores, small, monkeypatch, layout):
    """Each waits for the other: one alone would never come to an end."""
    path = written(tmp_path / "d.h5", layout)
    source, both, preadv = Source((path,), DatasetSpec(), threads=2), threading.Barrier(2, timeout=120), os.preadv

    def meeting(*of):
        both.wait()
        return preadv(*of)

    monkeypatch.setattr(os, "preadv", meeting)
    assert (source.rows_between(0, 90)[0] == ROWS).all()


@pytest.mark.parametrize("cut", [9, 90 * 160 - 9])
def test_a_file_that_ends_in_the_part_of_any_thread_is_an_error(tmp_path, cores, small, cut):
    path = written(tmp_path / "d.h5", "contiguous")
    source = Source((path,), DatasetSpec(), threads=4)
    os.truncate(path, os.path.getsize(path) - cut)
    [table] = source._file(0)[0]._tables.values()
    with pytest.raises(DataError, match=r"the file ends [0-9]+ bytes before them"):
        table.read(slice(0, 90), [(None, np.empty_like(ROWS))])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 120))
def test_parts_are_all_bytes_once_in_their_order(sizes, size):
    numbers = np.arange(sum(sizes)).astype(np.uint8)
    ends = np.cumsum(sizes).tolist()
    pieces = [(1000 * i + end - n, numbers[end - n : end]) for i, (n, end) in enumerate(zip(sizes, ends, strict=True))]
    made = list(parts(pieces, size))
    lengths = [sum(len(into) for _, into in part) for part in made]
    assert all(length == size for length in lengths[:-1]) and 0 < lengths[-1] <= size
    flat = [piece for part in made for piece in part]
    assert np.concatenate([into for _, into in flat]).tobytes() == numbers.tobytes()
    wanted = [offset + i for offset, into in pieces for i in range(len(into))]
    assert [offset + i for offset, into in flat for i in range(len(into))] == wanted


@pytest.mark.parametrize(("own", "count", "decompressing"), [(2, None, 2), (16, None, 4), (2, 8, 2), (16, 8, 8)])
def test_no_more_threads_than_cores(cores, own, count, decompressing):
    cores["cores"] = own
    made = Threads(count)
    assert made.decompressing == decompressing
    made.use(1)
    assert made.decompressing == 1
    made.close()


def test_numbers_that_are_tried(cores):
    for own, tried in {1: (1,), 2: (1, 2), 7: (1, 2, 4), 8: (1, 2, 4, 8), 200: (1, 2, 4, 8, 16)}.items():
        cores["cores"] = own
        assert thread_counts() == tried


@pytest.mark.parametrize(
    ("speeds", "best"),
    [
        ({1: 3200.0, 2: 1800.0, 4: 1100.0}, 1),
        ({1: 100.0, 2: 190.0, 4: 205.0}, 2),
        ({1: 100.0, 2: 190.0, 4: 380.0}, 4),
        ({1: 95.0, 2: 100.0, 4: 99.0}, 1),
    ],
)
def test_the_fewest_that_are_about_as_fast_as_any_are_taken(tmp_path, cores, monkeypatch, speeds, best):
    path, used, places = written(tmp_path / "d.h5", "contiguous"), [], []

    def read(source, place, size):
        used.append(source.threads.decompressing)
        places.append(place)
        return 10.0, 10.0 / speeds[used[-1]]

    monkeypatch.setattr(inspection, "_TRIED_BYTES", 160)
    monkeypatch.setattr(inspection, "_read", read)
    assert reading_speed([path], DatasetSpec(), None) == Reading(pytest.approx(speeds[best]), best)
    assert used == [1, 2, 4, 4, 2, 1] and len(set(places)) == 6
    monkeypatch.setattr(inspection, "_TRIED_SECONDS", 0.0)
    assert reading_speed([path], DatasetSpec(), None).threads == 1, "what takes long is not tried on and on"


@pytest.mark.parametrize("why", ["few rows", "one core"])
def test_where_nothing_is_to_be_told_apart_none_is_chosen(tmp_path, cores, monkeypatch, why):
    if why == "one core":
        cores["cores"] = 1
        monkeypatch.setattr(inspection, "_TRIED_BYTES", 160)
    reading = reading_speed([written(tmp_path / "d.h5", "gzip")], DatasetSpec(), None)
    assert reading.threads is None and reading.rows_per_second > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_numbers_are_tried_on_rows_of_any_layout(tmp_path, cores, monkeypatch, layout):
    monkeypatch.setattr(inspection, "_TRIED_BYTES", 7 * 160)
    reading = reading_speed([written(tmp_path / "d.h5", layout)], DatasetSpec(), None)
    assert reading.threads in (1, 2, 4) and reading.rows_per_second > 0
