"""A device that breaks is told apart from what it was to compute, and is not asked again."""

import gc
import weakref

import pytest
import torch
from support.engines import Calls, Cuda, forward, hosting, net, rows

from hpcens import processes
from hpcens.engine import Engine, Guard
from hpcens.engine import guard as module
from hpcens.errors import DeviceFailed, MemberError
from hpcens.members import PreprocessingFailed
from hpcens.members.forward import Forward
from hpcens.transports import worker_tasks
from hpcens.vocabulary import Failed, Part, Predict, Predicted, Released, Returned, Unable

pytestmark = pytest.mark.usefixtures("one_thread")

ECC = "CUDA error: uncorrectable ECC error encountered"
TASK = Predict(3, ("a", "b"), (rows(4),), 5, Part(8, 16))


def failing(words, calls=None):
    def fails(x):
        if calls is not None:
            calls.append(len(x))
        raise RuntimeError(words)

    return Calls(fails)


def guarded(engine):
    guard = Guard(engine.hardware)
    return guard, worker_tasks(guard.around(engine.predict), guard.ahead(engine.stage))


def test_what_was_predicted_stands_and_the_rest_is_returned_with_the_slot():
    calls = []
    engine = hosting(Cuda(), a=net(), b=failing(ECC, calls))
    engine.hardware.ahead = 0
    guard, tasks = guarded(engine)
    predicted, unable, released = tasks.run(TASK)
    assert isinstance(predicted, Predicted) and predicted.member == "a"
    assert unable == Unable(guard.failed, Returned(3, ("b",), 4, Part(8, 16))) and released == Released(5)
    assert guard.failed == Failed(f"{engine.hardware.name} failed: {ECC}", processes.node())
    [again, _] = tasks.run(TASK)
    assert again.returned.members == ("a", "b") and calls == [4], "it is not asked again"
    tasks.prepare(TASK)


@pytest.mark.parametrize("where", ["stage", "receive", "fetch"])
def test_it_may_break_wherever_it_is_used(monkeypatch, where):
    """Bringing rows, which another thread does ahead; waiting until they are there, or until the outputs are."""
    engine = hosting(Cuda(), a=net(), b=net(1))
    guard, tasks = guarded(engine)

    def lost(*of):
        raise RuntimeError("CUDA error: GPU is lost")

    monkeypatch.setattr(engine.hardware, where, lost)
    tasks.prepare(TASK)
    unable, _ = tasks.run(TASK)
    assert unable.returned.members == ("a", "b") and "GPU is lost" in guard.failed.failure


def test_it_may_break_in_a_step_of_the_preprocessing(monkeypatch):
    """Story: where bad rows are masked, none of a batch was good, and all were masked."""
    engine = Engine(Cuda().hardware, (3,))
    engine.host("a", forward(net(), "a"), batch=4)

    def raises(*of, **named):
        raise PreprocessingFailed("preprocess", RuntimeError(ECC))

    monkeypatch.setattr(Forward, "__call__", raises)
    monkeypatch.setattr(Forward, "accepts", lambda *of: False)
    guard, tasks = guarded(engine)
    unable, _ = tasks.run(Predict(3, ("a",), (rows(4),), 5))
    assert unable.returned == Returned(3, ("a",), 4) and guard.failed is not None


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("CUDA error: device-side assert triggered", MemberError),
        ("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", MemberError),
        ("CUDA error: an illegal memory access was encountered", DeviceFailed),
    ],
)
def test_what_may_be_the_networks_own_fault_ends_the_start(words, error):
    """Another device would fail on it too."""
    guard, tasks = guarded(hosting(Cuda(), a=failing(words), b=net()))
    with pytest.raises(error):
        list(tasks.run(TASK))
    assert guard.failed is None


def test_nothing_that_is_on_it_is_let_go():
    """Story: pinned buffers were freed, which torch does by a call to the device that failed: the process was ended."""
    buffers = []

    def fails(x):
        buffer = torch.zeros(3)
        buffers.append(weakref.ref(buffer))
        raise RuntimeError(ECC)

    guard, tasks = guarded(hosting(Cuda(), a=Calls(fails), b=net()))
    hardware = weakref.ref(guard._hardware)
    list(tasks.run(TASK))
    del guard, tasks
    gc.collect()
    assert buffers[0]() is not None and hardware() is not None


@pytest.mark.parametrize("shown", [True, False])
def test_a_launch_that_failed_on_a_gpu_that_the_driver_no_longer_shows_is_the_gpus(monkeypatch, shown):
    words = "CUDA error: unspecified launch failure"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa11")
    monkeypatch.setattr(module, "gpu_of", lambda uuid: uuid if shown else None)
    guard, tasks = guarded(hosting(Cuda(), a=failing(words), b=net()))
    if shown:
        with pytest.raises(DeviceFailed, match=words) as caught:
            list(tasks.run(TASK))
        assert not caught.value.node
    else:
        assert len(list(tasks.run(TASK))) == 2
        assert guard.failed.failure.endswith(f" failed: {words}; the driver no longer shows it")


def test_bringing_rows_fails_aloud_where_the_device_does_not():
    def stage(task):
        raise ValueError("not a failure of the device")

    with pytest.raises(ValueError, match="not a failure"):
        Guard(Cuda().hardware).ahead(stage)(TASK)
