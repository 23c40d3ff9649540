"""Questions put to a process of their own: whatever it does, there is an answer or a reason why there is none."""

import os
import select
import signal
import subprocess
import sys
from functools import partial

import pytest

from hpcens.processes.isolation import NoAnswer, isolated

QUESTIONS = """
import os, subprocess, sys, threading, time

def counts(numbers):
    print("noise on stdout", flush=True)
    os.write(2, b"and on stderr")
    for number in range(numbers):
        yield number

def leaves(how):
    yield "first"
    print("one", "two", "three", "farewell", sep="\\n", flush=True)
    exec(how)
    yield "never"

def is_large(size):
    yield bytes(size)

def leaves_a_thread():
    threading.Thread(target=threading.Event().wait).start()
    yield "done"

def starts_another():
    child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    yield os.getpid(), child.pid
    threading.Event().wait()

def reads_the_terminal():
    yield sys.stdin.read()


def computes(seconds):
    yield "first"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    yield "done"


def reads(seconds):
    yield "first"
    end = time.monotonic() + seconds
    with open(__file__, "rb", buffering=0) as file:
        while time.monotonic() < end:
            file.seek(0)
            file.read(1)
            time.sleep(0.1)
    yield "done"
"""


@pytest.fixture
def questions(tmp_path, monkeypatch):
    """A module that both processes find."""
    (tmp_path / "questions.py").write_text(QUESTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    import questions

    yield questions
    del sys.modules["questions"]


def unanswered(process, limit=60.0):
    with pytest.raises(NoAnswer) as caught:
        process.answer(limit)
    return caught.value


def gone(descriptor):
    """Whether the process of a pidfd ends."""
    ended = select.select([descriptor], [], [], 30)[0] == [descriptor]
    os.close(descriptor)
    return ended


def test_answers_come_in_order_and_noise_goes_nowhere(questions, capfd):
    with isolated(partial(questions.counts, 3)) as process:
        assert [process.answer() for _ in range(3)] == [0, 1, 2]
        silence = unanswered(process)
    assert (silence.exit_code, silence.last_words) == (0, ("noise on stdout", "and on stderr"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("how", "code", "ending"),
    [
        ("os._exit(9)", 9, "ended with exit code 9"),
        ("sys.exit(7)", 7, "ended with exit code 7"),
        ("os.kill(os.getpid(), 11)", -signal.SIGSEGV, "was killed by SIGSEGV"),
    ],
)
def test_what_was_answered_before_the_end_counts_and_the_end_is_told(questions, how, code, ending):
    with isolated(partial(questions.leaves, how)) as process:
        assert process.answer() == "first"
        silence = unanswered(process)
    assert (silence.exit_code, silence.ending) == (code, ending)
    assert silence.quotation == "; it said: two | three | farewell"


def test_an_exception_is_no_answer_but_its_last_line_is_told(questions):
    with isolated(partial(questions.leaves, "1 / 0")) as process:
        assert process.answer() == "first"
        silence = unanswered(process)
    assert silence.exit_code == 1 and silence.last_words[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("how", ["threading.Event().wait()", "os.closerange(3, 100); threading.Event().wait()"])
def test_who_takes_too_long_has_no_exit_code(questions, how):
    with isolated(partial(questions.leaves, how)) as process:
        assert process.answer() == "first"
        silence = unanswered(process, limit=0.5)
    assert silence.exit_code is None and silence.last_words[-1] == "farewell"


def test_who_neither_computes_nor_reads_is_given_up_and_who_does_is_not(questions):
    with isolated(partial(questions.leaves, "threading.Event().wait()")) as process:
        assert process.answer(still=30) == "first"
        with pytest.raises(NoAnswer) as caught:
            process.answer(still=0.5)
    assert caught.value.exit_code is None
    for how in ("computes", "reads"):
        with isolated(partial(getattr(questions, how), 3.0)) as process:
            assert process.answer(still=30) == "first"
            assert process.answer(still=1.0) == "done", how


def test_an_answer_may_be_larger_than_a_pipe_and_a_thread_holds_up_nothing(questions):
    with isolated(partial(questions.is_large, 1 << 22)) as process:
        assert process.answer() == bytes(1 << 22)
    with isolated(questions.leaves_a_thread) as process:
        assert process.answer() == "done"
        assert unanswered(process).exit_code == 0


def test_nobody_is_at_the_terminal(questions):
    with isolated(questions.reads_the_terminal) as process:
        assert process.answer(60) == ""


def test_what_the_process_has_started_ends_with_the_block(questions):
    with isolated(questions.starts_another) as process:
        descriptors = [os.pidfd_open(pid) for pid in process.answer(60)]
    assert all(map(gone, descriptors))


def test_no_process_outlives_the_one_that_asked(questions):
    script = """
import questions
from hpcens.processes.isolation import isolated
with isolated(questions.starts_another) as process:
    print(process.answer(60)[0], flush=True)
    process.answer(60)
"""
    asking = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(asking.stdout.readline())
    descriptor = os.pidfd_open(pid)
    asking.kill()
    asking.communicate()
    assert gone(descriptor)
    # its own child, in the same session, is nobody's to end now
    os.killpg(pid, signal.SIGKILL)
