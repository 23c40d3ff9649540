"""Runs to interrupt: a member that holds them, and what they have written by then."""

import time
from dataclasses import asdict

from hpcens.result.journal import read_journal
from hpcens.runs import Epoch
from hpcens.runs import signatures as signed
from support.project import ENSEMBLE

HELD = """
import time
from math import inf
from pathlib import Path
from nets_fast import *

HOLD = Path(__file__).with_name("hold")

def passes():
    try:
        return int(HOLD.read_text())
    except FileNotFoundError:
        return inf

def held(network):
    class Held(network):
        calls = 0

        def forward(self, x):
            Held.calls += 1
            while Held.calls > passes():
                time.sleep(0.005)
            return super().forward(x)

    return Held

HeldLinear, HeldConv = held(Linear), held(Conv)
"""


def write_held(folder):
    """Give a project the members `nets:HeldLinear` and `nets:HeldConv`, one text for all: profiles are measured once.

    While there is a file `hold`, they stop after as many forward passes in a rank as it says.
    """
    (folder / "nets_fast.py").write_text((ENSEMBLE / "nets.py").read_text())
    (folder / "nets.py").write_text(HELD)


def wait_for(condition, process, seconds=60):
    """Until the condition holds; fails if the process ends first or time runs out."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, f"ended with {process.returncode}: {process.communicate()}"
        assert time.monotonic() < deadline, "did not come to pass"
        time.sleep(0.01)
    return found


def journalled(project):
    found = [read_journal(path) for path in sorted(project.run.glob("epochs/*/journal"))]
    return [content for content in found if content]


def some_are_durable(project):
    contents = journalled(project)
    return contents and len(contents[-1].written()) >= 2


def signatures(project):
    """What the ranks of all starts left last, the starts and then the ranks in order."""
    starts = [Epoch(folder) for folder in sorted(project.run.glob("epochs/[0-9]*"))]
    return [{"role": s.role, "rank": s.rank, **asdict(s.process)} for epoch in starts for s in signed(epoch)]


def rank_of(project, role):
    return next((s for s in signatures(project) if s["role"].startswith(role)), None)
