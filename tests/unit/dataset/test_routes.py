"""Routes: who scores which rows, by columns of every kind, and what of them is refused, in one line."""

import re

import h5py
import numpy as np
import pytest

from hpcens.dataset.inspection import facts_of
from hpcens.dataset.routes import Routes
from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec, SelectSpec

ROWS = 12
FOLD = np.arange(ROWS) % 3
SITE = ["north", "south", "wüste"]


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.arange(ROWS, dtype=np.float32).reshape(ROWS, 1)
        file["fold"] = FOLD
        file["text"] = [SITE[fold] for fold in FOLD]
        file["fixed"] = np.array([b"a", b"b", b"c"])[FOLD]
        file.create_dataset("enum", data=FOLD, dtype=h5py.enum_dtype(dict(zip(SITE, range(3), strict=True)), "i1"))
        file["mask"] = FOLD == 1
        file["marks"] = (FOLD == 1).astype(np.uint8)
        file["floats"] = FOLD * 1.0
        file["pairs"] = np.zeros((ROWS, 2), np.int64)
        file["short"] = FOLD[:5]
    return tmp_path / "data.h5"


def routes(path, rows, *, route=None, select=None, paths=None):
    spec = DatasetSpec(input="x", route=route or {"r": "fold"}, select=select)
    return Routes(Source(paths or (path,), spec), spec.route, rows)


@pytest.mark.parametrize(
    ("column", "rows", "scored"),
    [
        ("fold", {"r": (1,)}, FOLD == 1),
        ("fold", {"r": (0, 2)}, FOLD != 1),
        ("fold", {"not r": (1,)}, FOLD != 1),
        ("fold", {"not r": (0, 1)}, FOLD == 2),
        ("fold", {"r": (7,)}, FOLD == 7),
        ("text", {"r": ("south",)}, FOLD == 1),
        ("text", {"not r": ("wüste",)}, FOLD != 2),
        ("fixed", {"r": ("a", "c")}, FOLD != 1),
        ("enum", {"r": ("wüste",)}, FOLD == 2),
        ("mask", {"r": (1,)}, FOLD == 1),
        ("fold", {"path": ("mask",)}, FOLD == 1),
        ("fold", {"path": ("marks",)}, FOLD == 1),
    ],
)
def test_a_member_scores_the_rows_whose_value_is_meant(path, column, rows, scored):
    made = routes(path, {"all": None, "some": rows}, route={"r": column})
    present = made.present(0, ROWS)
    assert present[:, 0].all() and (present[:, 1] == scored).all()
    assert (made.present(3, 8) == present[3:8]).all()


def test_values_of_several_routes_all_have_to_hold(path):
    made = routes(path, {"a": {"r": (0, 1), "not s": ("south",)}}, route={"r": "fold", "s": "text"})
    assert (made.present(0, ROWS)[:, 0] == (FOLD == 0)).all()


def test_rows_are_those_selected_of_all_files(path, tmp_path):
    with h5py.File(path) as one, h5py.File(tmp_path / "more.h5", "w") as file:
        for name in ("x", "text"):
            one.copy(name, file)
        file["fold"] = np.full(ROWS, 5)
    made = routes(path, {"a": {"r": (5,)}}, select=SelectSpec(start=10, stop=15), paths=(path, tmp_path / "more.h5"))
    assert made.present(0, 5)[:, 0].tolist() == [False, False, True, True, True]


def test_members_that_score_the_same_share_their_rows_and_nothing_is_read_for_none(path, monkeypatch):
    rows = {"a": {"r": (1,)}, "b": {"r": (1,)}, "c": None, "d": {"r": (7,)}}
    made = routes(path, rows)
    divided = made.divide(2, 9, ("a", "b", "c", "d"))
    assert list(divided.rows) == ["a", "b", "c"] and divided.rows["a"] is divided.rows["b"]
    assert divided.rows["a"][0].tolist() == [[4], [7]] and len(divided.rows["c"][0]) == 7
    present = np.unpackbits(divided.present, axis=1, count=4)
    assert present.sum(0).tolist() == [2, 2, 7, 0]
    monkeypatch.setattr(Source, "rows_between", lambda *rows: pytest.fail("read for nobody"))
    assert made.divide(2, 9, ("d",)).rows == {}


def test_facts_tell_how_rows_are_divided(path):
    spec = DatasetSpec(input="x", route={"r": "fold"})
    rows = {"a": {"r": (0,)}, "b": {"not r": (2,)}, "c": None}
    facts = facts_of((path,), spec, None, rows)
    assert facts.routed.rows == {"a": 4, "b": 8} and facts.parts == {"a": 4 / 12, "b": 8 / 12}
    assert sorted(facts.routed.sets) == [("a", "b", "c"), ("b", "c"), ("c",)] and facts.routed.unscored == 0
    del rows["c"]
    fewer = facts_of((path,), spec, None, rows).routed
    assert (fewer.unscored, fewer.first) == (4, (2, 5, 8, 11))
    assert fewer.digests == facts.routed.digests
    assert facts_of((path,), spec, None, {"a": {"path": ("mask",)}}).routed.digests["a"] != fewer.digests["a"]
    assert facts_of((path,), spec, None).routed is None


@pytest.mark.parametrize(
    ("column", "rows", "what"),
    [
        ("gone", {"r": (1,)}, "gone"),
        ("floats", {"r": (1,)}, r"floats is float64\[12\], and routes rows → it is to have one value a row: whole"),
        ("pairs", {"r": (1,)}, r"pairs is int64\[12, 2\], and routes rows"),
        ("short", {"r": (1,)}, "short has 5 values for 12 rows"),
        ("fold", {"r": ("1",)}, "fold holds int64, and rows of member a names '1' → correct rows: r"),
        ("text", {"r": (1,)}, "text holds text, and rows of member a names 1 → .* numbers that are text in quotes"),
        ("fold", {"path": ("text",)}, "text holds text and is to mark rows → a mask has booleans, or 0 and 1"),
        ("fold", {"path": ("fold",)}, "fold holds 2 and is to mark rows → a mask has booleans, or 0 and 1"),
        ("fold", {"r": (7,)}, "member a scores none of the 12 rows, its rows being r 7: fold holds 0, 1, 2 → correct"),
        ("text", {"r": ("x", "y")}, "its rows being r x or y: text holds north, south, wüste"),
    ],
)
def test_what_routes_no_rows_is_refused_in_one_line(path, column, rows, what):
    spec = DatasetSpec(input="x", route={"r": column})
    with pytest.raises(DataError) as caught:
        facts_of((path,), spec, None, {"a": rows, "b": None})
    said = f"{caught.value.what} → {caught.value.remedy}"
    assert "\n" not in said and re.search(what, said), said


def test_of_the_first_rows_alone_a_member_may_score_none(path):
    spec = DatasetSpec(input="x", route={"r": "fold"})
    facts = facts_of((path,), spec, 2, {"a": {"r": (2,)}, "b": None})
    assert facts.routed.rows == {"a": 0} and facts.parts == {"a": 0.5}
