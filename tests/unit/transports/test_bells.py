"""Bells: a sleeping rank wakes for what another process or its own thread has for it, and nobody needs them."""

import os
import resource
import subprocess
import sys
import threading

import pytest

from hpcens.transports.bells import Bells

HOUR = 3600


@pytest.fixture
def hang():
    """Make bells, and take them down."""
    made = []

    def hang():
        made.append(Bells())
        return made[-1]

    yield hang
    for bells in made:
        bells.close()


RINGS = """
import sys
from hpcens.transports.bells import Bells
bells = Bells()
bells.reach([bytes.fromhex(sys.argv[1]), bells.address])
print(bells.all_nearby)
bells.close()
"""


def heard(bells):
    """Whether the bell rings or has rung, without waiting for it."""
    waits = threading.Thread(target=bells.wait, args=(HOUR,), daemon=True)
    waits.start()
    waits.join(0.05)
    if waits.is_alive():
        bells.ring_own()  # let the thread go
        waits.join()
        return False
    return True


def test_another_process_wakes_whoever_sleeps(hang):
    bells = hang()
    sleeps = threading.Thread(target=bells.wait, args=(HOUR,), daemon=True)
    sleeps.start()
    rings = subprocess.run([sys.executable, "-c", RINGS, bells.address.hex()], capture_output=True, check=True)
    sleeps.join(60)
    assert not sleeps.is_alive()
    assert rings.stdout.split() == [b"True"]


def test_however_often_it_rang_it_is_heard_once(hang):
    one, other = hang(), hang()
    one.reach([one.address, other.address])
    assert one.all_nearby
    for _ in range(1000):  # more than a socket holds
        one.ring(1)
    assert heard(other) and not heard(other)
    one.ring(0)
    assert not heard(one), "no rank sends itself anything"


def test_who_is_not_reached_is_not_rung(hang):
    here, gone = hang(), b"\0hpcens-nobody-has-this"
    here.reach([gone, here.address])
    assert not here.all_nearby
    here.ring(0)
    there = hang()
    here.reach([there.address, here.address])
    assert here.all_nearby
    there.close()
    here.ring(0)


def test_a_process_of_many_descriptors_hears_its_bell(hang):
    """Story: `select` knows no descriptor beyond 1,023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        bells = hang()
        bells.ring_own()
        assert heard(bells) and not heard(bells)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
