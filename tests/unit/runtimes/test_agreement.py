"""How far outputs lie apart: probabilities as they are, values by how much they differ from row to row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpcens.runtimes.agreement import difference, differences, spread_over_rows, tolerance_in

finite = st.integers(-1000, 1000).map(lambda n: n / 128)  # float32 holds them exactly
VALUES = arrays(np.float32, (3, 4), elements=finite.map(np.float32))
ENERGIES = (-123457 + np.random.default_rng(0).normal(0, 5, (64, 1))).astype(np.float32)


@given(VALUES)
def test_equals_are_not_apart(values):
    assert difference(values, values, probabilities=True) == difference(values, values, probabilities=False) == 0


@given(VALUES, st.integers(0, 2), st.integers(0, 3))
def test_the_worst_value_counts(values, row, column):
    moved = values.copy()
    moved[row, column] += 1
    assert difference(moved, values, probabilities=True) == pytest.approx(1, abs=1e-5)
    scale = max(values[:, column].astype(float).std(), 1e-6 * abs(values[row, column]))
    scale = scale or 1e-6 * np.abs(values[row]).max()
    wanted = 1 / scale if scale else np.inf
    assert difference(moved, values, probabilities=False) == pytest.approx(wanted, rel=1e-4)
    apart = differences(moved, values, probabilities=False)
    assert apart[row] > 0 and not np.delete(apart, row).any()


def test_energies_are_told_apart_by_how_they_differ_from_row_to_row():
    wrong = ENERGIES.copy()
    wrong[7] += 12
    assert difference(wrong, ENERGIES, probabilities=False) > 1, "1e-4 of their size, but two standard deviations"


def test_rounding_is_no_difference():
    """Where values are large beside their spread, their last bits are more than a ten thousandth of it."""
    last_bit = np.nextafter(ENERGIES, np.float32(0))
    assert not np.array_equal(last_bit, ENERGIES)
    assert difference(last_bit, ENERGIES, probabilities=False) < 1e-4
    constant = np.full((8, 2), 0.3, np.float32)
    assert difference(np.nextafter(constant, np.float32(1)), constant, probabilities=False) < 1e-4
    assert difference(constant * np.float32(1 + 1e-4), constant, probabilities=False) > 1


def test_each_element_has_its_own_scale():
    rows = np.random.default_rng(1).normal(0, [1e-3, 1e3], (50, 2)).astype(np.float32)
    moved = rows + np.float32([1e-3, 0])
    assert difference(moved, rows, probabilities=False) == pytest.approx(1, rel=0.3)
    assert difference(rows + np.float32([0, 1]), rows, probabilities=False) == pytest.approx(1e-3, rel=0.3)


def test_the_scale_may_come_from_more_rows():
    row = np.zeros((1, 2), np.float32)
    scale = spread_over_rows(np.random.default_rng(1).normal(0, 2, (500, 2)))
    assert difference(row + 1, row, probabilities=False, scale=scale) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_equal_to_nothing_but_itself(bad):
    values = np.ones((2, 3), np.float32)
    spoiled = values.copy()
    spoiled[1, 1] = bad
    assert difference(spoiled, spoiled, probabilities=False) == 0
    assert difference(spoiled, values, probabilities=True) == difference(values, spoiled, probabilities=True)
    assert difference(spoiled, values, probabilities=True) == np.inf


def test_bad_rows_do_not_hide_the_others():
    rows = np.random.default_rng(1).normal(size=(9, 2)).astype(np.float32)
    rows[3] = np.nan
    moved = rows.copy()
    moved[5] += 1
    assert 0.1 < difference(moved, rows, probabilities=False) < 10


def test_another_shape_is_no_small_difference():
    assert difference(np.zeros((2, 1)), np.zeros((2, 3)), probabilities=True) == np.inf


def test_narrow_types_round_more():
    assert tolerance_in("float32", 1e-4) == 1e-4 < tolerance_in("float16", 1e-4) < tolerance_in("bfloat16", 1e-4)
    assert tolerance_in("float16", 0.5) == 0.5
