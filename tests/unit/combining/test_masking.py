"""Rows that cannot be scored: they end the run with their names, or are masked, counted, and spoil no other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcens.combining.masking import fill_masked, mask, masked_rows, valid
from hpcens.errors import DataError, next_steps
from hpcens.result.journal import Content, Header, Kind, Record
from hpcens.result.outputs import Output
from hpcens.vocabulary import Bad


@given(st.lists(st.integers(0, 9), max_size=6), st.lists(st.integers(0, 9), max_size=6))
def test_every_row_that_some_member_could_not_score_is_masked_once(first, second):
    bad = {"a": [Bad("input", tuple(first))], "b": [Bad("output", tuple(second)), Bad("raised", (3,))]}
    assert masked_rows("mask", 100, bad) == sorted({*first, *second, 3})


def test_failing_names_the_member_and_the_rows_of_the_dataset():
    with pytest.raises(
        DataError, match="member b gave NaN or infinity for at least 7 rows: 102, 103, 104, 105, 106, …"
    ) as e:
        masked_rows("fail", 100, {"a": [], "b": [Bad("output", tuple(range(2, 9)))]})
    assert "bad_rows: mask" in e.value.remedy
    assert masked_rows("fail", 100, {"a": [], "b": []}) == []


def test_what_to_do_about_nan_is_a_line_each_in_names_of_the_users():
    with pytest.raises(DataError, match="is fed NaN or infinity in row 107, the first that was met") as error:
        masked_rows("fail", 100, {"a": [Bad("input", (7,))]}, {"a": ("images", "meta")})
    assert str(error.value).splitlines()[1:] == [
        "  → look at these rows of the dataset",
        "  → or have such rows masked and counted: write bad_rows: mask",
        "  → or, if this network takes NaN, write bad_rows: pass under member a",
        "  → or, if NaN comes from fill values, have them replaced:"
        " dataset.inputs.images.fill: 0, dataset.inputs.meta.fill: 0",
    ]
    assert next_steps(error.value.remedy).count("\n  → ") == 4
    assert (next_steps("run it again"), next_steps("")) == ("; next: run it again", "")


@given(st.sets(st.integers(0, 5)), st.sampled_from(["<f4", "<f2", "<i4", "|u1"]))
def test_masked_rows_are_blank_and_the_others_untouched(rows, dtype):
    masked = sorted(rows)
    values = np.arange(1, 25).reshape(6, 4).astype(dtype)
    got = mask(values, Output("x", (4,), dtype), masked)
    blank = {"f": np.nan, "i": -1, "u": 0}[np.dtype(dtype).kind]
    kept = sorted(set(range(6)) - rows)
    assert got.dtype == values.dtype
    assert (got[kept] == values[kept]).all()
    assert np.array_equal(got[masked], np.full((len(masked), 4), blank, dtype), equal_nan=got.dtype.kind == "f")
    assert valid(6, masked).tolist() == [0 if row in rows else 1 for row in range(6)]


def test_a_rule_is_given_numbers_for_what_is_masked():
    stack = [np.full((3, 4), np.nan, np.float32), np.ones((3, 4), np.float32)]
    assert (fill_masked(stack, [0, 2])[0][[0, 2]] == 0.25).all()
    assert np.isnan(stack[0]).all(), "what was sent was changed"


def test_what_is_noted_of_a_segment_is_what_was_written_last():
    def of(*records):
        return Content(Header(1, "", "w", 2), tuple(records), 0).notes()

    first, again = Record(Kind.MASKED_OUTPUT, 1, 7, 0, 2), Record(Kind.MASKED_OUTPUT, 1, 8, 0, 1)
    written, revoked = Record(Kind.WRITTEN, 1), Record(Kind.REVOKED, 1)
    assert of(first, written) == [first]
    assert of(first, written, revoked) == []
    assert of(first, written, revoked, again, written) == [again]
    assert of(first) == []
