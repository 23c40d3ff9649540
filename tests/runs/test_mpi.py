"""MPI: ranks beat by the clock alone, and no name of shared memory stays on a node for a job that comes again."""

import ast
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


SHARED = """
import resource, sys
import numpy as np
from hpcens.transports import collectives
from hpcens.transports.mpi import MpiWorld

collectives._FAN = 2
world = MpiWorld(lambda: None, lambda: None)
sent = []
hold = world._collectives._hold
world._collectives._hold = lambda request, buffer: (sent.append(len(memoryview(buffer))), hold(request, buffer))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
rows = (np.full((8 << 20,), 7.0, np.float32), np.arange(5)[::2]) if world.rank == 0 else None
begun = peak()
first = world.broadcast(("all", rows and rows[1]))
some = world.broadcast(rows, to=[5, 1, 3, 4])
nobody = world.broadcast("rank 0 alone" if world.rank == 0 else None, to=[])
world.broadcast()
kinds = None if some is None else [float(some[0].sum()) / (8 << 20), some[1].tolist(), some[0].flags.writeable]
world._collectives._hold = hold
everyone = world.gather((first[0], first[1].tolist(), kinds, nobody, peak() - begun, sum(sent) >> 20))
for line in everyone:
    print(repr(line))
"""


def test_what_rank_0_hands_out_is_pickled_once_and_goes_to_those_who_need_it():
    """Story: a pickled copy of a batch of images for every rank, parked ones too: 9.5 GB at 128 ranks."""
    made = subprocess.run([*mpiexec(), "-n", "6", sys.executable, "-c", SHARED], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    told = [ast.literal_eval(line) for line in made.stdout.splitlines()]
    assert [line[:2] for line in told] == [("all", [0, 2, 4])] * 6
    rows = [7.0, [0, 2, 4], True]
    assert [line[2] for line in told] == [rows, rows, None, rows, rows, rows]
    assert [line[3] for line in told] == ["rank 0 alone", None, None, None, None, None]
    grown, sent = [line[4] for line in told], [line[5] for line in told]
    assert sent == [64, 64, 0, 0, 0, 0], "MiB: two get 32 each from rank 0, and two from one of these"
    assert grown[0] < 24 and grown[2] < 16 and max(grown) < 56, grown


SLEEPERS = """
import numpy as np
from hpcens.transports import mpi
from hpcens.vocabulary import Prediction, Send

mpi._LONGEST_PAUSE_OF_ROLES = 3600.0
world = mpi.MpiWorld(lambda: None, lambda: None)
world.hang_bells()
other = 1 - world.rank
for segment, size in enumerate([1, 10_000, 3_000_000] * 5):
    if world.rank:
        world.post([Send(other, Prediction(segment, "member", np.full(size, segment, np.float32), 1))])
    source, answer = world.receive()
    assert (source, answer.segment, len(answer.values)) == (other, segment, size)
    assert (answer.values == segment).all()
    if not world.rank:
        world.post([Send(other, answer)])
world.finish_sends()
world.gather(None)
"""


def test_a_message_wakes_a_rank_of_the_same_host():
    """Story: a rank that slept had each message up to 30 ms late, and one that waited for it looked 500 times a second.

    It sleeps for an hour here.
    """
    made = subprocess.run([*mpiexec(), "-n", "2", sys.executable, "-c", SLEEPERS], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
