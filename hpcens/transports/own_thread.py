"""The one thread of a rank beside its main one: it does all that takes long, for as long as the rank lives.

What computes keeps much by thread: the current GPU, the stream that is recorded, plans of convolutions. And with torch
2.11 `torch.export.load` ends the process in the second thread that calls it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class OwnThread:
    """Do one task after another, all in the same thread, which starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, task: Callable[[], None]) -> threading.Event:
        """Let it do the task once it is through with those before; return what is set when the task is over.

        task  must not raise
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        over = threading.Event()
        self._tasks.put((task, over))
        return over

    def _work(self) -> None:
        while True:
            task, over = self._tasks.get()
            try:
                task()
            finally:
                over.set()
                del task
