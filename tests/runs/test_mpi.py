"""MPI: ranks beat by the clock alone, and no name of shared memory stays on a node for a job that comes again."""

import subprocess
import sys

import torch

from hpcens.launch.local import mpiexec

PROGRAM = """
import sys
from pathlib import Path
from mpi4py import MPI
from hpcens.transports.mpich import unlink_shared_memory

def names():
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line.split()[-1] for line in lines if " /dev/shm/mpich_" in line and "deleted" not in line]

MPI.COMM_WORLD.barrier()
before = names()
unlink_shared_memory()
MPI.COMM_WORLD.barrier()
node = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
MPI.Win.Allocate_shared(1 << 16, 1, comm=node).Free()
told = [len(before), len(names()), node.allreduce(1), *(path for path in before if Path(path).exists())]
sys.stdout.write(" ".join(map(str, told)) + "\\n")  # at once: lines of two ranks may not mix
"""


def test_a_world_without_names_lives_on():
    made = subprocess.run([*mpiexec(), "-n", "2", sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert [line.split()[1:] for line in made.stdout.splitlines()] == [["0", "2"]] * 2


HEART = """
import time
from hpcens.vocabulary.messages import Drain
from hpcens.transports.mpi import MpiWorld

began, beats, told = time.monotonic(), [], []
world = MpiWorld(lambda: beats.append(1), lambda: told.append(1) or Drain("again and again"))
for _ in range(300):
    world.receive()
    world.work(lambda: None)
print(len(told), 1 <= len(beats) <= 1 + time.monotonic() - began)
"""


def test_a_rank_beats_by_the_clock_however_many_messages_come():
    """Story: a beat a message made minutes of seconds, and a healthy node was given up; or none was left time for."""
    made = subprocess.run([*mpiexec(), "-n", "1", sys.executable, "-c", HEART], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "300 True\n"


ONE_THREAD = """
import sys, threading, warnings
import torch
from hpcens.transports.mpi import MpiWorld
from hpcens.transports.tasks import Tasks
from hpcens.vocabulary import LOCAL, Read, SegmentRead, Send

warnings.simplefilter("ignore")
threads = []
world = MpiWorld(lambda: None, lambda: None)

def load():
    torch.export.load(sys.argv[1])
    threads.append(threading.get_ident())

def read(task):
    load()
    yield SegmentRead(task.segment, ())

world.work(load)
for _ in range(2):
    world.start_tasks(Tasks({Read: read}))
    world.post([Send(LOCAL, Read(3))])
    assert world.receive()[1].segment == 3
    world.stop_tasks()
    world.work(load)
print(len(threads), len(set(threads)), threading.get_ident() in threads)
"""


def test_whatever_a_rank_computes_it_computes_in_one_thread(tmp_path):
    """Story: with torch 2.11 a device was killed by SIGSEGV where it loaded an exported member once more."""
    file = tmp_path / "linear.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2).eval(), (torch.zeros(2, 3),)), file)
    command = [*mpiexec(), "-n", "1", sys.executable, "-c", ONE_THREAD, str(file)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "5 1 False\n"
