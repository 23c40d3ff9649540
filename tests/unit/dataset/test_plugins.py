"""Filters called directly: whatever they say, or do not say, of the buffer that they leave behind."""

import ctypes

import numpy as np
import pytest

from hpcens.dataset.plugins import _bound, _libc

PACKED = np.arange(10, dtype=np.uint8)


def filter_that(returns, *, replaces=True, says=None):
    """A filter that gives back a buffer of 100 bytes of 7, and what it says of it.

    says  size of the buffer; None: it says nothing
    """

    def function(flags, count, values, size, room, buffer):
        if replaces:
            _libc.free(buffer._obj.value)
            address = _libc.malloc(100)
            ctypes.memset(address, 7, 100)
            buffer._obj.value = address
        if says is not None:
            room._obj.value = says
        return returns

    return _bound(function, ())


@pytest.mark.parametrize("says", [None, 100, 128])
def test_what_a_filter_leaves_is_taken_whether_or_not_it_says_how_large_it_is(says):
    assert filter_that(100, says=says)(PACKED, None).tolist() == [7] * 100


@pytest.mark.parametrize(
    ("returns", "options"),
    [
        (0, {}),
        (2**64 - 1, {}),
        (2**64 - 1, {"says": 100}),
        (101, {"says": 100}),
        (11, {"replaces": False}),
    ],
)
def test_damage_is_told(returns, options):
    with pytest.raises(ValueError, match="damaged"):
        filter_that(returns, **options)(PACKED, None)
