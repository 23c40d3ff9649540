"""Transports: carry messages between roles, over MPI or within one process in virtual time."""

from hpcens.transports.mpich import library_from_wheel, remove_leftovers, take_short_addresses, unlink_shared_memory
from hpcens.transports.role import Role, Transport, drive
from hpcens.transports.tasks import Tasks, reader_tasks, reducer_tasks, worker_tasks
from hpcens.transports.timeline import WAITS, Span, Timeline, clock, write_trace

__all__ = [
    "WAITS",
    "Role",
    "Span",
    "Tasks",
    "Timeline",
    "Transport",
    "clock",
    "drive",
    "library_from_wheel",
    "reader_tasks",
    "reducer_tasks",
    "remove_leftovers",
    "take_short_addresses",
    "unlink_shared_memory",
    "worker_tasks",
    "write_trace",
]
