"""Isolation: a question put to a process of its own, since answering it may print, hang, exit or crash.

this process ──question──► hpcens.processes.isolation ──answers, one after another──► this process

A question is a generator function with its arguments (`functools.partial`), both found by import; what it yields
are the answers. They come through a pipe of their own: all that is printed goes to a log, whose last lines tell
what happened where no answer comes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from math import inf
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Generic, TypeVar

from hpcens.entry import command
from hpcens.processes import die_with

Answer = TypeVar("Answer")

_LOOK_SECONDS = 0.02
_LOG_BYTES = 1 << 14
_LAST_LINES = 3


class NoAnswer(Exception):
    """The process gave no further answer.

    exit_code   its exit code, or minus the number of the signal that ended it; None where it took too long
    last_words  the last lines that it printed, the oldest first
    """

    def __init__(self, exit_code: int | None, last_words: tuple[str, ...]) -> None:
        super().__init__(exit_code, last_words)
        self.exit_code = exit_code
        self.last_words = last_words

    @property
    def ending(self) -> str:
        """How the process ended, in words: 'was killed by SIGSEGV', 'ended with exit code 7'."""
        if self.exit_code is not None and self.exit_code < 0:
            return f"was killed by {signal.Signals(-self.exit_code).name}"
        return f"ended with exit code {self.exit_code}"

    @property
    def quotation(self) -> str:
        """The last words as the end of a sentence; empty where nothing was printed."""
        return f"; it said: {' | '.join(self.last_words)}" if self.last_words else ""


class Isolated(Generic[Answer]):
    """The process that a question was put to."""

    def __init__(self, process: subprocess.Popen[bytes], answers: Connection[Any, Any], log: IO[bytes]) -> None:
        self._process = process
        self._answers = answers
        self._log = log

    def answer(self, limit: float = inf, still: float = inf) -> Answer:
        """Return the next answer.

        limit  seconds to wait for it
        still  seconds in which the process need neither compute nor read anything, before it is given up
        Raises NoAnswer where the process ends before it answers, or takes longer.
        """
        deadline = time.monotonic() + limit
        progress, stands_since = self._progress(), time.monotonic()
        piped = True
        while True:
            ended = self._process.poll() is not None  # looked up first: what it sent before its end still counts
            if piped and self._answers.poll(0 if ended else _LOOK_SECONDS):
                try:
                    answer: Answer = self._answers.recv()
                    return answer
                except EOFError:
                    piped = False
            elif ended:
                raise NoAnswer(self._process.returncode, self._last_words())
            elif time.monotonic() > min(deadline, stands_since + still):
                now = self._progress()
                if now == progress or time.monotonic() > deadline:
                    raise NoAnswer(None, self._last_words())
                progress, stands_since = now, time.monotonic()
            elif not piped:
                time.sleep(_LOOK_SECONDS)

    def _progress(self) -> tuple[str, ...]:
        """Return what grows while the process computes or reads: where the system does not show it, the time."""
        folder = Path("/proc", str(self._process.pid))
        try:
            spent = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
            return *spent, *(folder / "io").read_text().splitlines()[:1]
        except OSError:
            return (str(time.monotonic()),)

    def _last_words(self) -> tuple[str, ...]:
        file = self._log.fileno()
        text = os.pread(file, _LOG_BYTES, max(0, os.fstat(file).st_size - _LOG_BYTES))  # a seek would move its writer
        return tuple(text.decode(errors="replace").strip().splitlines()[-_LAST_LINES:])


@contextlib.contextmanager
def isolated(question: Callable[[], Iterator[Answer]]) -> Iterator[Isolated[Answer]]:
    """Put a question to a process of its own. It ends with the block, together with all that it has started."""
    reading, writing = os.pipe()
    with TemporaryFile() as text, TemporaryFile() as log, Connection(reading, writable=False) as answers:
        try:
            pickle.dump(question, text)
            text.seek(0)
            process = subprocess.Popen(
                command(__name__, str(os.getpid()), str(writing)),
                stdin=text,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            yield Isolated(process, answers, log)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _main(parent: int, writing: int) -> None:
    die_with(parent)
    os.set_inheritable(writing, False)
    question = pickle.load(sys.stdin.buffer)
    with Connection(writing, readable=False) as answers:
        for answer in question():
            answers.send(answer)
    os._exit(0)  # a thread that the question left behind would keep the process from ending


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
