"""The witness: says how its rank ended, before anybody else can know."""

import os
import select
import signal
import subprocess
import sys

import pytest

from hpcens.errors import COMPLETE
from hpcens.processes import born, node
from hpcens.runs import Epoch, Verdict

SCRIPT = """
import faulthandler, json, os, signal, sys, time
from pathlib import Path
from hpcens.launch.witness import witnessed

def rank(tell):
    print("pid", os.getpid(), flush=True)
    if {speaks}:
        tell(json.dumps({{"epoch": {epoch!r}, "rank": 3, "role": "reducer"}}))
        print("spoken", flush=True)
    faulthandler.register(signal.SIGUSR1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    {does}

sys.exit(witnessed(rank, silence={silence}, birth={birth}, epoch={known}))
"""


@pytest.fixture
def epoch(tmp_path):
    folder = tmp_path / "0001"
    (folder / "ranks").mkdir(parents=True)
    return Epoch(folder)


class Witnessed:
    """A witness in a process of its own, with a child that does what it is told."""

    def __init__(self, epoch, does, *, speaks=True, silence=60.0, birth=60.0, known=False):
        text = SCRIPT.format(
            epoch=str(epoch.folder),
            does=does,
            speaks=speaks,
            silence=silence,
            birth=birth,
            known=f"Path({str(epoch.folder)!r})" if known else None,
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.child = int(self.process.stdout.readline().split()[1])
        self.born = born(self.child)
        if speaks:
            assert self.process.stdout.readline() == "spoken\n"

    def end(self):
        out, error = self.process.communicate(timeout=120)
        return self.process.returncode, out, error


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_killed_rank_is_named_with_its_role_and_signal(epoch, number):
    waiting = "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM]); print('on', flush=True); time.sleep(60)"
    witnessed = Witnessed(epoch, waiting)
    assert witnessed.process.stdout.readline() == "on\n"
    os.kill(witnessed.child, number)
    code, _, _ = witnessed.end()
    assert code == 128 + number
    verdict = epoch.verdict
    assert verdict.rank == 3
    assert verdict.role == "reducer"
    assert f"rank 3 (reducer), process {witnessed.child}" in verdict.reason
    assert signal.Signals(number).name in verdict.reason
    assert verdict.node == (node() if number == signal.SIGKILL else ""), "a member's own fault is not the node's"
    assert "run the same command again" in verdict.remedy


def test_a_rank_that_leaves_without_a_word_is_named(epoch):
    code, _, _ = Witnessed(epoch, "os._exit(7)").end()
    assert code == 7
    assert "ended with exit code 7" in epoch.verdict.reason


def test_a_rank_that_ends_in_order_is_not_judged(epoch):
    code, _, _ = Witnessed(epoch, "return 0").end()
    assert code == 0
    assert epoch.verdict is None


def test_the_first_to_speak_is_believed(epoch):
    epoch.judge(Verdict(COMPLETE, "done"))
    Witnessed(epoch, "os._exit(1)").end()
    assert epoch.verdict.reason == "done"


def test_a_rank_that_dies_nameless_is_told_on_the_terminal(epoch):
    code, _, error = Witnessed(epoch, "os.abort()", speaks=False).end()
    assert code == 128 + signal.SIGABRT
    assert epoch.verdict is None
    assert "SIGABRT, before it could say who it was" in error


@pytest.mark.parametrize("does", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(7)"])
def test_a_rank_that_dies_before_mpi_is_up_is_named_and_its_launcher_told_by_a_signal(epoch, does):
    """Story: mpiexec waits for ever for a rank that left with an exit code before it had found the others."""
    witnessed = Witnessed(epoch, does, speaks=False, known=True)
    code, _, _ = witnessed.end()
    assert code == -signal.SIGKILL
    assert f"a rank, process {witnessed.child} on" in epoch.verdict.reason
    assert "before MPI was up" in epoch.verdict.reason and "run the same command again" in epoch.verdict.remedy


def test_a_rank_that_is_stopped_is_named_and_ended(epoch):
    witnessed = Witnessed(epoch, "os.kill(os.getpid(), signal.SIGSTOP)", silence=1.0)
    code, _, _ = witnessed.end()
    assert code == 128 + signal.SIGKILL
    assert "rank 3 (reducer)" in epoch.verdict.reason and "was stopped (SIGSTOP) for 1 s" in epoch.verdict.reason


def test_a_silent_rank_writes_down_where_it_is_and_is_ended(epoch):
    witnessed = Witnessed(epoch, "def stuck_here(): time.sleep(60)\n    stuck_here()", silence=0.0)
    code, _, error = witnessed.end()
    assert code == 128 + signal.SIGKILL
    assert "gave no sign of life" in epoch.verdict.reason
    assert "in stuck_here" in error


def test_a_rank_that_finds_no_world_is_ended_and_told(epoch):
    """Story: MPI_Init waits for ranks that another srun --mpi has put into worlds of their own."""
    code, _, error = Witnessed(epoch, "time.sleep(60)", speaks=False, birth=0.0).end()
    assert code == 128 + signal.SIGKILL
    assert "found no MPI world within 0 s: srun --mpi and MPI may not fit" in error
    assert "SIGKILL" not in error


def test_a_rank_is_given_up_when_others_say_so(epoch):
    text = SCRIPT.replace("birth={birth}", "birth=0.0, overdue=lambda waited: 'n7 is missing' if waited > 2 else ''")
    text = text.format(epoch=str(epoch.folder), does="time.sleep(60)", speaks=False, silence=60.0, known=None)
    made = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert made.returncode == 128 + signal.SIGKILL
    assert made.stderr == "hpcens: n7 is missing\n"


def test_signals_wait_until_the_rank_can_hear_them(epoch):
    """Story: the batch system signals the whole group while the rank still imports: the drain is not lost."""
    does = "sys.stdin.readline(); signal.signal(signal.SIGTERM, lambda n, f: print('heard', flush=True)); "
    does += "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM]); return 0"
    text = SCRIPT.format(epoch=str(epoch.folder), does=does, speaks=True, silence=60.0, birth=60.0, known=None)
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    process.stdout.readline()
    assert process.stdout.readline() == "spoken\n"  # both may be in the buffer, which communicate does not see
    os.killpg(process.pid, signal.SIGTERM)
    out, _ = process.communicate("go\n", timeout=120)
    assert process.returncode == 0
    assert out == "heard\n"


def test_what_waited_for_the_rank_before_it_was_there_is_handed_on(epoch):
    """Story: the warning of the job's end came while Python started, and was the witness's alone."""
    does = "print('heard' if signal.sigtimedwait([signal.SIGUSR2], 20) else 'not heard', flush=True); return 0"
    text = SCRIPT.format(epoch=str(epoch.folder), does=does, speaks=False, silence=60.0, birth=60.0, known=None)
    early = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]); os.kill(os.getpid(), signal.SIGUSR2)\n"
    made = subprocess.run(
        [sys.executable, "-c", text.replace("sys.exit(", f"{early}sys.exit(")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[1:] == ["heard"]


def test_a_warning_while_the_rank_leaves_does_not_kill_it(epoch):
    """Story: the job's end was near when its last row was written; Python gives signals back before it ends."""
    late = "import atexit; atexit.register(lambda: signal.signal(signal.SIGUSR2, signal.SIG_DFL)); "
    late += "atexit.register(lambda: os.kill(os.getpid(), signal.SIGUSR2)); "
    does = f"{late}signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2]); return 0"
    text = SCRIPT.format(epoch=str(epoch.folder), does=does, speaks=False, silence=60.0, birth=60.0, known=None)
    made = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr


def test_no_rank_outlives_its_witness(epoch):
    witnessed = Witnessed(epoch, "time.sleep(60)")
    descriptor = os.pidfd_open(witnessed.child)
    witnessed.process.kill()
    witnessed.end()
    assert select.select([descriptor], [], [], 30)[0] == [descriptor]
    os.close(descriptor)
    assert born(witnessed.child) != witnessed.born


@pytest.mark.parametrize(
    ("does", "birth", "noted"),
    [
        ("os.abort()", 60, True),
        ("3", 60, True),
        ("tell('') or 3", 60, False),
        ("0", 60, False),
        ("time.sleep(9)", 0, False),
    ],
)
def test_a_rank_that_dies_before_it_said_a_word_is_noted_unless_it_was_given_up(does, birth, noted):
    text = f"""
import os, sys, time
from hpcens.launch.witness import witnessed
overdue = lambda seconds: "" if seconds < {birth} else "late"
witnessed(lambda tell: {does}, overdue=overdue, stillborn=lambda: print("stillborn"))
"""
    made = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert ("stillborn" in made.stdout.splitlines()) is noted, made.stderr
