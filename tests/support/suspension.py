"""Suspend threads at their system calls: each runs alone, up to a call that is named by its number.

A call is whatever Python's audit events tell of files (open, rename, remove, mkdir, listing, linking), and every call
of a `SuspendedDisk`.
"""

import sys
import threading

from hpcens.result.disk import Disk

_EVENTS = ("open", "os.", "shutil.")
_suspended = threading.local()


def _hear(event, arguments):
    thread = getattr(_suspended, "thread", None)
    if thread is not None and event.startswith(_EVENTS):
        thread.call()


sys.addaudithook(_hear)


class Suspended:
    """A thread that runs only where it is let, and no further than it is let.

    what  is run; `result` is what it returned, `error` what it raised
    """

    def __init__(self, what):
        self.calls = 0
        self.result = self.error = None
        self._bound = 0
        self._run, self._stands = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, args=(what,), daemon=True)
        self._thread.start()

    @property
    def ended(self):
        return not self._thread.is_alive()

    def run(self, bound=sys.maxsize):
        """Let it run until it is about to make the call of this number, counted from 0, or ends."""
        if not self.ended and bound > self.calls:
            self._bound = bound
            self._run.release()
            self._stands.acquire()
            if self.error is not None or self.result is not None:
                self._thread.join()
        return self

    def call(self):
        if self.calls >= self._bound:
            self._stands.release()
            self._run.acquire()
        self.calls += 1

    def _live(self, what):
        self._run.acquire()
        _suspended.thread = self
        try:
            self.result = what() or ()
        except BaseException as error:
            self.error = error
        finally:
            _suspended.thread = None
            self._stands.release()


class SuspendedDisk(Disk):
    """A disk whose calls suspend the thread that makes them, beneath a disk that does what they ask.

    disk  that does it
    """

    def __init__(self, disk=None):
        self._disk = disk or Disk()

    def _call(self):
        if (thread := getattr(_suspended, "thread", None)) is not None:
            thread.call()


def _passed_on(name):
    def method(self, *arguments, **options):
        self._call()
        return getattr(self._disk, name)(*arguments, **options)

    return method


for _name in ("open", "close", "write", "read", "sync_data", "sync", "rename", "sync_folder"):
    setattr(SuspendedDisk, _name, _passed_on(_name))
