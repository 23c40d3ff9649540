"""A device's post: members stay loaded from start to start where they would be made of the same."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hpcens import runtimes
from hpcens.scoring import spot_checks
from hpcens.scoring.device_post import DevicePost, LoadedMembers
from hpcens.vocabulary import Failed, Instance, Send, cpu_devices

[DEVICE] = cpu_devices("h", "Z80", count=1, cores=1, memory=1)
BOTH = tuple(Instance(DEVICE.name, name, 8, "eager", speed=9.0, share=4.0) for name in ("a", "b"))
ROWS = (np.zeros((8, 3), np.float32),)
PHASE = SimpleNamespace(members=("a", "b"))


@pytest.fixture
def hosted(monkeypatch):
    """Which members were loaded, time after time."""
    every = []

    def host(engine, instances, **_):
        engine.clear()
        every.append([instance.member for instance in instances])

    monkeypatch.setattr(runtimes, "host", host)
    monkeypatch.setattr(
        spot_checks, "SpotChecks", lambda *_: SimpleNamespace(open=lambda phase: None, around=lambda of: of)
    )
    monkeypatch.setattr("hpcens.scoring.device_post.use_cores", lambda cores: None)
    return every


def post(loaded, instances=BOTH, rows=ROWS, shape=(2,), digests="one", phase=PHASE, segment_rows=16):
    assignment = SimpleNamespace(
        job=SimpleNamespace(spec=SimpleNamespace(bad_rows="mask")),
        plan=SimpleNamespace(on=lambda name: list(instances), numerics=SimpleNamespace(segment_rows=segment_rows)),
        preflight=SimpleNamespace(facts=SimpleNamespace(names=("x",)), space="logits", digests={"a": digests}),
        rank_roles=SimpleNamespace(devices={2: DEVICE}, readers=(0,), reducers=(1,)),
        rows=rows,
        shape=shape,
    )
    opened = DevicePost(2, assignment, None, loaded)
    opened.open(phase)
    return opened


def start(loaded, *of, **changes):
    post(loaded, *of, **changes)
    return loaded.engine


def test_a_start_of_the_same_members_loads_nothing(hosted):
    loaded = LoadedMembers()
    engine = start(loaded)
    faster = tuple(replace(instance, share=5.0) for instance in BOTH)  # another plan, whose shares differ
    assert start(loaded, faster) is engine and hosted == [["a", "b"]]


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"instances": (replace(BOTH[0], batch=4), BOTH[1])}, False),
        ({"instances": (replace(BOTH[0], runtime="frozen"), BOTH[1])}, False),
        ({"instances": BOTH[:1]}, False),
        ({"phase": SimpleNamespace(members=("b",))}, False),
        ({"rows": (np.zeros((8, 4), np.float32),)}, False),
        ({"rows": (np.zeros((8, 3), np.float64),)}, False),
        ({"digests": "another"}, False),
        ({"shape": (3,)}, True),
        ({"segment_rows": 32}, True),
    ],
)
def test_other_members_or_numbers_are_loaded_anew(hosted, change, anew):
    loaded = LoadedMembers()
    engine = start(loaded)
    assert (start(loaded, **change) is not engine) == anew
    assert len(hosted) == 2


def test_members_that_ran_out_of_memory_or_were_let_go_are_loaded_anew(hosted):
    loaded = LoadedMembers()
    engine = start(loaded)
    engine._ceilings["a"] = 4
    start(loaded)
    assert len(hosted) == 2 and not engine.ceilings
    loaded.release()
    start(loaded)
    assert len(hosted) == 3


def test_a_device_that_breaks_while_it_loads_a_phase_leaves_it_to_others(hosted, monkeypatch):
    loaded = LoadedMembers()
    engine = start(loaded)

    def lost(engine, instances, **_):
        raise RuntimeError("CUDA error: GPU is lost")

    monkeypatch.setattr(runtimes, "host", lost)
    monkeypatch.setattr(engine.hardware, "failure", str, raising=False)
    worker, _ = post(loaded, BOTH[:1]).role([0])
    assert worker.start() == [Send(0, loaded.failed)] and "GPU is lost" in loaded.failed.failure


def test_nothing_is_asked_of_a_broken_device_in_later_starts_of_the_same_world(hosted):
    loaded = LoadedMembers()
    engine = start(loaded)
    loaded.guard.failed = Failed("GPU 7 of h failed: ECC", "h")
    engine.clear = pytest.fail
    worker, _ = post(loaded, BOTH[:1], shape=(3,)).role([0])
    assert worker.start() == [Send(0, loaded.failed)] and loaded.engine is engine and len(hosted) == 1
    loaded.release()
