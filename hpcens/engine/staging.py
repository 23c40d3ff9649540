"""Staging: the rows of segments that wait are brought to the device ahead, a few at a time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from hpcens.engine.hardware import Hardware
from hpcens.errors import DeviceOutOfMemory
from hpcens.vocabulary import Predict

if TYPE_CHECKING:
    import torch

# Segments that wait on the device, at most: of several readers each may have sent one.
_AHEAD = 2
# By segment, members and the place of the first row: members that score other rows of a segment come as a task of their
# own, and so does each part of one.
_Key = tuple[int, tuple[str, ...], int]


def _key(task: Predict) -> _Key:
    return task.segment, task.members, task.start


class Staging:
    """Segments on their way to a device; staged by one thread, taken by another.

    scarce  whether nothing is to be staged ahead: all memory is for the member that has just run out
    """

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._lock = threading.Lock()
        self._waiting: dict[_Key, Predict] = {}
        self._staged: dict[_Key, tuple[Any, ...]] = {}
        self.scarce = False

    def stage(self, task: Predict) -> None:
        """Begin to bring a task's rows to the device, or once those before it are taken. What does not fit is not."""
        with self._lock:
            self._waiting[_key(task)] = task
            self._fill()

    def take(self, task: Predict) -> tuple[torch.Tensor, ...]:
        """Return the rows of a task on the device, (rows, *row shape) of each input; bring what was not.

        Raises DeviceOutOfMemory where they do not fit, even with nothing ahead.
        """
        with self._lock:
            self._waiting.pop(_key(task), None)
            staged = self._staged.pop(_key(task), None)
        if staged is None:
            staged = self._bring_now(task)
        with self._lock:
            self._fill()
        return tuple(self._hardware.receive(array) for array in staged)

    def drop(self, *, scarce: bool = False) -> bool:
        """Let go of all that is ahead, which is brought when its turn comes; tell whether that was anything."""
        with self._lock:
            self.scarce = scarce
            some = bool(self._staged)
            self._staged.clear()
            self._waiting.clear()
            return some

    def _fill(self) -> None:
        """Bring the segments that have waited longest, as many as may lie on the device."""
        while self._waiting and len(self._staged) < _AHEAD and not self.scarce:
            key = next(iter(self._waiting))
            task = self._waiting.pop(key)
            try:
                self._staged[key] = self._bring(task)
            except Exception as error:
                if not self._hardware.out_of_memory(error):
                    raise

    def _bring(self, task: Predict) -> tuple[Any, ...]:
        return tuple(self._hardware.stage(array) for array in task.rows)

    def _bring_now(self, task: Predict) -> tuple[Any, ...]:
        """Bring what is due; where it does not fit, what was staged ahead gives way."""
        reason = ""
        for _ in range(2):
            try:
                return self._bring(task)
            except Exception as error:
                if not self._hardware.out_of_memory(error):
                    raise
                reason = str(error)
            self.drop()
            self._hardware.release()
        raise DeviceOutOfMemory(
            f"segment {task.segment}: its {len(task.rows[0])} rows do not fit the memory of the device ({reason})",
            "give it a device with more memory, or fewer members to share it with",
        )
