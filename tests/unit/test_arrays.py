"""Buffers: what is held keeps its values, and what nobody holds is used again."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcens.arrays import Buffers
from hpcens.engine.cpu import CpuHardware

SIZES = st.sampled_from([0, 1, 1000, 64 << 10, 100_000, 130_000, 1 << 20])


@given(st.lists(st.tuples(SIZES, st.integers(0, 5), st.booleans()), max_size=40))
def test_no_two_arrays_that_are_held_share_memory(steps):
    buffers, held = Buffers(), {}
    for number, (size, place, cut) in enumerate(steps):
        held.pop(place, None)  # what lay there is free from now on
        array = buffers.empty((size // 4,), np.float32)
        array[:] = number
        held[place] = number, torch.from_numpy(array[size // 8 :]) if cut else array
        del array
        for wrote, kept in held.values():
            assert (np.asarray(kept) == wrote).all()


def test_memory_is_used_again_once_nobody_holds_it():
    buffers = Buffers()
    first = buffers.empty((3, 50_000), "<f4")
    where = first.ctypes.data
    part = first[1, 7:]
    del first
    assert buffers.empty((3, 50_000), "<f4").ctypes.data != where, "a part of it is held still"
    del part
    assert {buffers.empty((140_000,), "<f4").ctypes.data for _ in range(3)} & {where}, "a little smaller will do"
    assert buffers.empty((10_000,), "<f4").ctypes.data != where, "but not a much smaller one"


def test_a_copy_is_equal_and_its_own():
    values = np.arange(90_000, dtype=np.int16).reshape(300, 300)
    copy = Buffers().copy(values)
    assert copy.dtype == values.dtype and (copy == values).all() and not np.shares_memory(copy, values)


@given(st.integers(0, 63), SIZES.filter(bool))
def test_an_array_made_or_handed_on_begins_where_any_other_does(shift, size):
    buffers = Buffers()
    some = np.zeros(size + 128, np.uint8)[shift : shift + size]
    handed = buffers.aligned(some)
    assert handed.ctypes.data % 64 == buffers.empty((size,), np.uint8).ctypes.data % 64 == 0
    assert (handed == some).all()


def test_where_rows_lie_in_memory_changes_no_bit():
    torch.set_num_threads(1)
    torch.manual_seed(7)
    network = torch.nn.Linear(192, 10)
    values = np.random.default_rng(0).random((12, 192), np.float32)
    found = set()
    for shift in range(0, 64, 4):
        memory = np.empty(values.nbytes + 128, np.uint8)
        start = -memory.ctypes.data % 64 + shift
        rows = memory[start : start + values.nbytes].view(np.float32).reshape(values.shape)
        rows[...] = values
        with torch.inference_mode():
            found.add(network(CpuHardware(1).stage(rows)).numpy().tobytes())
    assert len(found) == 1
