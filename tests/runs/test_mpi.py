"""MPI: ranks beat by the clock alone, and no name of shared memory stays on a node for a job that comes again."""

import subprocess
import sys

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
