"""The witness: the parent of a rank, which sees how it ends and says so before anybody else can notice.

A launcher (mpiexec, srun) that sees a rank die kills the others at once, and afterwards nobody can tell
which was first. So the process it starts is the witness: a small one that forks the rank, waits, and, if
the rank ends without a verdict, judges: which rank, which role, which signal. The launcher learns of the
death only when the witness ends, since both hold the launcher's pipes.

The rank tells its witness over a pipe: a line of JSON when its name or role changes, an empty line as a
sign of life. A rank that is silent for too long is asked for its stack, judged, and killed.

    python hpcens/entry.py -m hpcens.launch.witness RUN EPOCH RANKS LAUNCHER [--only-profile]
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcens.errors import FAILURE
from hpcens.processes import die_with, is_stopped, node
from hpcens.runs import AGAIN, Epoch, Verdict

Tell = Callable[[str], None]

_SILENCE = 60.0
_BIRTH = 120.0
_LOOK = 1.0
# for the rank to hear, in order; blocked until it has its handlers, so that none is lost
_FOR_THE_RANK = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}

# Signals that a node's lack of memory or its hardware ends a rank by; a member's fault comes as another one.
_OF_THE_NODE = (signal.SIGKILL, signal.SIGBUS)


def witnessed(
    rank: Callable[[Tell], int],
    silence: float = _SILENCE,
    birth: float = _BIRTH,
    epoch: Path | None = None,
    overdue: Callable[[float], str] | None = None,
    stillborn: Callable[[], None] | None = None,
) -> int:
    """Run `rank` in a child and see it through; its exit code, 128 + n where signal n ended it.

    rank       is called in the child with the callable it speaks to its witness by
    silence    seconds without a word after which a rank that has said who it is is given up
    birth      seconds after which a rank that never said a word is
    epoch      folder of the start, where that is known before the rank says it
    overdue    in place of `birth`: asked, with the seconds waited, why a rank that never said a word is to be given up
    stillborn  called where a rank that never said a word ends with a failure, and was not given up
    """
    listen, speak = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_RANK | {signal.SIGCHLD})
    witness = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(listen)
        die_with(witness)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.set_blocking(speak, False)
        _leave(rank(lambda line: _say(speak, line)))
    for number in signal.sigpending() & _FOR_THE_RANK:  # what waits is not inherited
        os.kill(child, number)
    os.close(speak)
    os.set_blocking(listen, False)
    return Witness(child, listen, silence, birth, epoch, overdue, stillborn).see_through()


def _leave(code: int) -> None:
    """End the child here: what its caller would still do is the witness's business."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})  # too late to drain, and Python gives its handler back
    sys.stdout.flush()
    sys.stderr.flush()
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        # Python would wait for a thread that a member left behind, and only then end MPI
        if (mpi := sys.modules.get("mpi4py.MPI")) is not None and not mpi.Is_finalized():
            mpi.Finalize()
        os._exit(code)
    sys.exit(code)


def _say(pipe: int, line: str) -> None:
    with contextlib.suppress(BlockingIOError, BrokenPipeError):  # a witness that is not listening is not waited for
        os.write(pipe, line.encode() + b"\n")


class Witness:
    """See one child through, listening at the reading end of the pipe it speaks into."""

    def __init__(
        self,
        child: int,
        listen: int,
        silence: float,
        birth: float,
        epoch: Path | None = None,
        overdue: Callable[[float], str] | None = None,
        stillborn: Callable[[], None] | None = None,
    ) -> None:
        self._child = child
        self._listen = listen
        self._silence = silence
        self._birth = birth
        self._epoch = epoch
        self._overdue = overdue
        self._stillborn = stillborn
        self._heard = b""
        self._who: dict[str, Any] = {}
        self._spoken = False
        self._told = False

    def see_through(self) -> int:
        """Wait for the child's end; judge it where nobody has. Return its exit code."""
        silent = stopped = 0.0
        while (status := self._ended()) is None:
            began = time.monotonic()
            signal.sigtimedwait({signal.SIGCHLD}, _LOOK)
            # whoever stopped this process may have stopped the rank too: a long look counts as one
            look = min(time.monotonic() - began, _LOOK)
            silent += look
            stopped = stopped + look if is_stopped(self._child) else 0.0
            if self._hear():
                silent = 0.0
            elif stopped > self._silence:
                self._judge(f"was stopped (SIGSTOP) for {self._silence:.0f} s", node())
                os.kill(self._child, signal.SIGKILL)
            elif silent > self._silence and self._who:
                self._give_up()
            elif self._spoken:  # ranks that wait for rank 0 have
                continue
            elif self._overdue is not None:
                if not self._told and (why := self._overdue(silent)):
                    print(f"hpcens: {why}", file=sys.stderr, flush=True)
                    self._told = True
                    os.kill(self._child, signal.SIGKILL)
            elif silent > self._birth:
                fit = "srun --mpi and MPI may not fit" if self._epoch is None else "is another rank stopped?"
                self._judge(f"found no MPI world within {self._birth:.0f} s: {fit}")
                os.kill(self._child, signal.SIGKILL)
        self._hear()
        code = os.waitstatus_to_exitcode(status)
        if code and not self._spoken and not self._told and self._stillborn is not None:
            self._stillborn()
        if code < 0:
            self._judge(f"was killed by {_signal_name(-code)}", node() if -code in _OF_THE_NODE else "")
        elif code:
            self._judge(f"ended with exit code {code} and without a word")
        if code and not self._spoken and self._epoch is not None:
            # MPI is not up yet: of an exit code mpiexec waits for the other ranks to come, of a signal it ends them
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return code if code >= 0 else 128 - code

    def _ended(self) -> int | None:
        pid, status = os.waitpid(self._child, os.WNOHANG)
        return status if pid else None

    def _hear(self) -> bool:
        """Take in what the child has said since the last look; whether it said anything."""
        try:
            fresh = os.read(self._listen, 1 << 16)
        except BlockingIOError:
            return False
        self._spoken = self._spoken or bool(fresh)
        *lines, self._heard = (self._heard + fresh).split(b"\n")
        for line in filter(None, lines):
            self._who = json.loads(line)
        return bool(fresh)

    def _give_up(self) -> None:
        """End a rank that was silent for too long; it first writes down where it is."""
        os.kill(self._child, signal.SIGUSR1)
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK)
        self._judge(f"gave no sign of life for {self._silence:.0f} s (where it was is in the log)", node())
        os.kill(self._child, signal.SIGKILL)

    def _judge(self, how: str, to_blame: str = "") -> None:
        """State how the rank ended, unless this start has a verdict.

        to_blame  the node, where it may be; empty where not
        """
        if not self._who and self._epoch is not None:
            who = f"a rank, process {self._child} on {node()},"
            Epoch(self._epoch).judge(Verdict(FAILURE, f"{who} {how}, before MPI was up", AGAIN, node=to_blame))
            return
        if not self._who:
            if not self._told:
                print(f"hpcens: a rank on {node()} {how}, before it could say who it was", file=sys.stderr)
            self._told = True
            return
        rank, role = self._who["rank"], self._who["role"]
        who = f"rank {rank} ({role}), process {self._child} on {node()},"
        Epoch(Path(self._who["epoch"])).judge(Verdict(FAILURE, f"{who} {how}", AGAIN, rank, role, to_blame))


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} (a person, the batch system, or the kernel short of memory)" if name == "SIGKILL" else name


def main(arguments: list[str]) -> int:
    """Be the witness of a rank that mpiexec started."""
    die_with(os.getppid())
    folder, number, expected, launcher, *flags = arguments

    def rank(tell: Tell) -> int:
        from hpcens.scoring.rank import main as live

        only_profile = "--only-profile" in flags
        return live(Path(folder), int(number), int(expected), launcher, tell, only_profile=only_profile)

    return witnessed(rank, epoch=Path(folder) / "epochs" / f"{int(number):04d}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
