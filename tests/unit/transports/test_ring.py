"""The ring: what one process writes into a slot another reads, and who cannot reach it says so."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from hpcens.arrays import ALIGNMENT, bytes_of, laid_out
from hpcens.transports.ring import RingAddress, Rings, join_ring, make_ring

KINDS = [((3, 5), "<f4"), ((3,), "|u1"), ((3, 2), "<f8")]
READS = """
import sys, json
from hpcens.transports.ring import RingAddress, Rings, join_ring
about = json.loads(sys.argv[1])
ring = join_ring(RingAddress(**about["address"] | {"nonce": bytes.fromhex(about["nonce"])}))
rings = Rings()
rings.read({0: ring})
for place, shape, dtype in about["arrays"]:
    print(rings.at(0, place, shape, dtype).ravel().tolist())
"""


@pytest.fixture
def ring():
    made = make_ring(4, bytes_of(KINDS), 1 << 20)
    assert made is not None and made.slots == 4
    return made


def test_another_process_reads_what_lies_in_a_slot(ring):
    arrays = laid_out(ring.slot(2), KINDS)
    for number, array in enumerate(arrays):
        array[...] = np.arange(array.size).reshape(array.shape) + number
        assert array.ctypes.data % ALIGNMENT == 0
    rings = Rings()
    rings.write(ring, [7])
    places = rings.places(7, arrays)
    assert None not in places and rings.places(8, arrays) == [None] * 3
    assert rings.places(7, [np.zeros(3)]) == [None], "of memory of its own nobody is told the place"
    address = asdict(ring.address) | {"nonce": ""}
    about = {"address": address, "nonce": ring.address.nonce.hex()}
    about["arrays"] = [(place, *kind) for place, kind in zip(places, KINDS, strict=True)]
    done = subprocess.run([sys.executable, "-c", READS, json.dumps(about)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(array.ravel().tolist()) for array in arrays]


def test_a_ring_that_cannot_be_reached_is_not_joined(ring):
    address = ring.address
    assert join_ring(address) is not None
    read, write = os.pipe()
    others = os.memfd_create("hpcens-rows")
    os.ftruncate(others, address.size)
    for change in ({"nonce": b"?" * 16}, {"size": address.size + 1}, {"descriptor": read}, {"descriptor": others}):
        assert join_ring(replace(address, **change)) is None
    assert join_ring(RingAddress(2**22 + 1, 3, address.size, address.nonce)) is None
    ring.conceal()
    assert join_ring(address) is None
    for descriptor in (read, write, others):
        os.close(descriptor)


def test_what_was_joined_stays_and_has_no_name(ring):
    joined = join_ring(ring.address)
    ring.slot(1)[:] = 7
    assert os.readlink(f"/proc/self/fd/{ring.address.descriptor}").startswith("/memfd:")
    ring.conceal()
    ring.slot(1)[:3] = 9
    assert joined.memory[4096 + 4096 :][:4].tolist() == [9, 9, 9, 7]


def test_slots_are_fewer_where_memory_is_scarce():
    assert make_ring(9, 4096, 5 * 4096 + 17).slots == 5
    assert make_ring(9, 4097, 4 * 4096).slots == 2, "a slot begins where a page does"
    assert make_ring(9, 4096, 4096) is None


def test_without_memory_that_has_no_name_there_is_none(monkeypatch):
    def refused(name):
        raise OSError("not here")

    monkeypatch.setattr(os, "memfd_create", refused)
    assert make_ring(2, 4096, 1 << 20) is None
