"""Tell what fails because of a device from what it was asked to compute, and ask nothing more of one that is broken."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from hpcens.engine.cuda_words import says_broken
from hpcens.engine.gpus import gpu_of
from hpcens.engine.hardware import Hardware
from hpcens.engine.pinning import pinned
from hpcens.errors import DeviceFailed
from hpcens.members import cause_of
from hpcens.processes import node
from hpcens.vocabulary import Failed, Message, Predict, Predicted

Answer = TypeVar("Answer")


def require_device(hardware: Hardware, error: BaseException) -> None:
    """Raise DeviceFailed where the error says that the device is to blame, and not what it was asked to compute."""
    if said := hardware.failure(cause_of(error)):
        broken = _broken(said)
        raise DeviceFailed(f"{hardware.name} failed: {broken or said}", node() if broken else "") from error


def require_whole(hardware: Hardware, error: BaseException) -> None:
    """Raise DeviceFailed where the error, or what caused it, says that the device is broken."""
    for each in (error, error.__cause__):
        if each is not None and (broken := _broken(hardware.failure(cause_of(each)))):
            raise DeviceFailed(f"{hardware.name} failed: {broken}", node()) from error


def _broken(said: str) -> str:
    """Return what says that the device is broken, of what it said of a failure; empty where nothing does.

    One that fell off the bus may say no more than that a launch failed: the driver then no longer shows it.
    """
    if not said or says_broken(said):
        return said
    uuid = pinned()
    return f"{said}; the driver no longer shows it" if uuid and gpu_of(uuid) is None else ""


class Guard:
    """Around all that is asked of a device in mid-run: once it is broken, none of its calls can be relied on.

    failed  what became of it; None while it works
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self.failed: Failed | None = None

    def around(self, predict: Callable[[Predict], Iterator[Predicted]]) -> Callable[[Predict], Iterator[Predicted]]:
        """Return `predict`, which raises DeviceFailed with its node where the device is broken, now or before."""

        def guarded(task: Predict) -> Iterator[Predicted]:
            if self.failed is None:
                try:
                    yield from predict(task)
                    return
                except Exception as error:
                    if (broken := self._broken(error)) is None:
                        raise
                    self.failed = broken
            raise DeviceFailed(self.failed.failure, self.failed.node)

        return guarded

    def ahead(self, stage: Callable[[Message], None]) -> Callable[[Message], None]:
        """Return `stage`, which does nothing where the device is broken: the task will tell when its turn comes."""
        return lambda task: self.attempt(partial(stage, task))

    def attempt(self, task: Callable[[], Answer]) -> Answer | None:
        """Do something with the device and return what it gives; None where the device is broken, now or before."""
        if self.failed is None:
            try:
                return task()
            except Exception as error:
                if (broken := self._broken(error)) is None:
                    raise
                self.failed = broken
        return None

    def _broken(self, error: Exception) -> Failed | None:
        """Return what became of the device by this error; None where it says nothing of that."""
        try:
            require_whole(self._hardware, error)
        except DeviceFailed as failure:
            _keep(error)
            return Failed(failure.what, failure.node)
        return None


def _keep(error: Exception) -> None:
    """Let go of nothing that the frames of an error hold, not even when Python ends: engine, pinned buffers, graphs.

    torch lets go of them by calls to the device, and where such a call fails in a destructor C++ ends the process.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(error))
