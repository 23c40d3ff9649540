"""The book of profiles: what is kept covers what is asked, and a damaged file is none."""

import json
from dataclasses import replace
from functools import partial

import pytest
from support.engines import Cpu
from support.profiles import KEY, profile, profile_within

import hpcens.profiling.bench
from hpcens.profiling import ProfileBook
from hpcens.vocabulary import BatchProfile, Profile, ProfileKey

pytestmark = pytest.mark.usefixtures("one_thread")


def covers(book, key, sizes):
    return book.covers(key, sizes, rows=100, tolerance=1e-4)


class TestProfileBook:
    def test_keeps_a_profile_as_it_is(self, book, member):
        got = profile(member)
        assert book.get(KEY) is None
        book.put(KEY, got)
        assert book.get(KEY) == got
        assert book.get(replace(KEY, torch="2.14")) is None

    def test_a_second_start_measures_nothing(self, book, member, monkeypatch):
        """Whatever made the first one stop: time, speed or memory."""
        sizes = (2, 4, 8)
        assert not covers(book, KEY, sizes)
        stops = {
            "time": profile(member, sizes, seconds=0),
            "memory": profile_within(monkeypatch, member, Cpu(), 4, sizes),
        }
        monkeypatch.undo()
        monkeypatch.setattr(hpcens.profiling.bench, "_WORTH_GOING_ON", float("inf"))
        stops["speed"] = profile(member, sizes)
        for why, got in stops.items():
            key = replace(KEY, member=why)
            assert len(got.batches) < len(sizes)
            book.put(key, got)
            assert covers(book, key, sizes) and covers(book, key, [2, 8]), why
            assert not covers(book, key, [2, 16]), why
            assert not covers(book, key, [8]), "it has to be run with this size, and nothing is known of it"

    def test_sizes_tried_at_different_times_add_up(self, book, member):
        whole = profile(member, (4, 8), seconds=0)
        book.put(KEY, whole)
        book.put(KEY, profile(member, (8,)))
        book.put(KEY, latest := profile(member, (2, 16), seconds=0))
        got = book.get(KEY)
        assert got.tried == (2, 4, 8, 16) and set(got.batches) == {2, 4, 8}
        assert got.batches[4] == whole.batches[4] and got.weights == latest.weights
        assert covers(book, KEY, [8]) and covers(book, KEY, [2, 4, 8, 16])

    def test_what_was_measured_again_replaces_what_was(self, book, member):
        for spread in (0.5, 0.1):
            got = profile(member, (4,))
            book.put(KEY, replace(got, batches={4: replace(got.batches[4], spread=spread)}))
        assert book.get(KEY).batches[4].spread == 0.1

    @pytest.mark.parametrize(
        "damage",
        [
            lambda text: text[: len(text) // 2],
            lambda text: "",
            lambda text: "null",
            lambda text: "[]",
            lambda text: text.replace('"batches"', '"portions"'),
            lambda text: text.replace('"tried"', '"asked"'),
            lambda text: text.replace('"digest"', '"another"'),
            lambda text: '{"key": ' + text[text.index("{", 1) : text.index("}") + 1] + ', "batches": []}',
        ],
    )
    def test_a_damaged_file_is_ignored(self, book, member, damage):
        got = profile(member, (4,))
        book.put(KEY, got)
        [file] = book.folder.iterdir()
        file.write_text(damage(file.read_text()))
        assert book.get(KEY) is None and not covers(book, KEY, [4])
        book.put(KEY, got)
        assert book.get(KEY) == got


def test_a_profile_of_an_earlier_format_is_measured_anew(book, member):
    """Its difference from eager was another: of the values' size, on the rows it was prepared for."""
    got = profile(member, (4,))
    book.put(KEY, got)
    [file] = book.folder.iterdir()
    raw = json.loads(file.read_text())
    del raw["format"], raw["same_bits"]
    file.write_text(json.dumps(raw))
    assert book.get(KEY) is None and not covers(book, KEY, [4])
    book.put(KEY, got)
    assert covers(book, KEY, [4])


def test_other_bits_at_one_batch_size_count_for_the_profile(book, member):
    got = profile(member, (4,))
    book.put(KEY, replace(got, same_bits=False))
    book.put(KEY, replace(got, batches={8: replace(got.batches[4], batch=8)}, tried=(8,)))
    assert not book.get(KEY).same_bits
    book.put(KEY, replace(got, batches={b: replace(got.batches[4], batch=b) for b in (4, 8)}, tried=(4, 8)))
    assert book.get(KEY).same_bits


def test_what_another_driver_of_gpus_gave_is_measured_anew(book, member):
    sizes, got = (2, 4), replace(profile(member, (2, 4)), driver="570.1")
    book.put(KEY, got)
    lack = partial(book.lack, KEY, sizes, rows=100, tolerance=1e-4)
    assert lack() == lack(driver="570.1") == "", "a host without a GPU knows none"
    assert lack(driver="575.2") == "measured under driver 570.1, and 575.2 is here"
    refused = replace(got, refused="frozen: no such operator", batches={})
    book.put(replace(KEY, runtime="frozen"), refused)
    assert book.lack(replace(KEY, runtime="frozen"), sizes, rows=100, tolerance=1e-4, driver="575.2") != ""
    [two, four] = (replace(got, batches={size: got.batches[size]}, tried=(size,)) for size in sizes)
    book.put(KEY, two)
    assert set(book.get(KEY).batches) == {2, 4}, "what was measured before under the same one is kept"
    book.put(KEY, replace(four, driver="575.2"))
    assert set(book.get(KEY).batches) == {4} and lack(driver="575.2") != ""


def test_a_book_lists_what_it_holds_and_forgets_it(tmp_path):
    book = ProfileBook(tmp_path / "book")
    keys = [ProfileKey("k", member, "eager", "row", "2.0") for member in ("b", "a")]
    for key in keys:
        book.put(key, Profile(1, 2, 0.1, (3,), {8: BatchProfile(8, 100.0, 5, 0.0)}, (8,)))
    (tmp_path / "book" / "damaged.json").write_text("{")
    assert [key.member for key, _ in book.all()] == ["a", "b"]
    assert book.clear() == 3 and list(book.all()) == [] and not book.covers(keys[0], [8], rows=1, tolerance=1)
