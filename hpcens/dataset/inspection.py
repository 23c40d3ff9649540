"""Inspection: a process of its own first looks at a dataset, since libhdf5 may crash on a damaged file or never end."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from hpcens.arrays import Buffers
from hpcens.dataset.routes import Routes
from hpcens.dataset.source import Facts, Source
from hpcens.dataset.threads import thread_counts
from hpcens.errors import DataError, HpcensError
from hpcens.processes.isolation import Isolated, NoAnswer, isolated
from hpcens.specs import DatasetSpec, RowsSpec

Seen = TypeVar("Seen")
Look = Callable[[Sequence[Path], DatasetSpec, int | None], Seen]

_READING_BYTES = 32 << 20
_PIECE_BYTES = 4 << 20
_TRIED_BYTES, _TRIED_SECONDS = 16 << 20, 2.0  # of a number of threads at once; of all of them
_GAIN = 0.9  # of the speed of the best number of threads is worth fewer
_CPU_SECONDS = 120
_STILL_SECONDS = 120.0
_KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # by others: no word of the file
_DAMAGED = "the file is damaged: copy it again, or write it anew"


@contextlib.contextmanager
def inspecting(
    paths: Sequence[Path], spec: DatasetSpec, limit: int | None, rows: Mapping[str, RowsSpec | None] | None = None
) -> Iterator[Callable[[], Facts]]:
    """While the other process looks at the dataset, this one may do something else, and then call for the facts.

    rows  member → which rows it scores, where some member does not score all
    The call raises DataError: all that `Source` raises, and where looking at it crashes or never ends.
    """
    with isolated(partial(_seen, partial(facts_of, rows=rows), tuple(paths), spec, limit)) as process:
        yield partial(_answer, process, paths)


def inspect_speed(paths: Sequence[Path], spec: DatasetSpec, limit: int | None) -> Reading:
    """Return how fast the dataset is read. Raises DataError as `inspecting` does."""
    with isolated(partial(_seen, reading_speed, tuple(paths), spec, limit)) as process:
        return _answer(process, paths)


def _answer(process: Isolated[Seen | HpcensError], paths: Sequence[Path]) -> Seen:
    try:
        answer = process.answer(still=_STILL_SECONDS)  # computing is limited by _CPU_SECONDS; reading slowly is not
    except NoAnswer as silence:
        raise _fault(paths, silence) from None
    if isinstance(answer, HpcensError):
        raise answer
    return answer


def _fault(paths: Sequence[Path], silence: NoAnswer) -> HpcensError:
    which = f"dataset {paths[0]}" + (f" or one of the {len(paths) - 1} behind it" if len(paths) > 1 else "")
    code = silence.exit_code or 0
    if code == -signal.SIGXCPU and (seconds := _cpu_seconds()) < _CPU_SECONDS:
        return HpcensError(
            f"{which} could not be looked at in the {seconds} s of processor time that ulimit -t leaves",
            "raise it: ulimit -t unlimited",
        )
    if code == -signal.SIGXCPU:
        return DataError(
            f"{which}: the HDF5 library did not come to an end in {_CPU_SECONDS} s of computing",
            "the file is damaged, or its chunks are too large for a look: copy it again, or rechunk it (h5repack)",
        )
    if silence.exit_code is None:
        return HpcensError(
            f"{which}: looking at it neither read nor computed anything for {_STILL_SECONDS:.0f} s",
            "see whether its file system answers, and what its links lead to: ls -lL",
        )
    if -code in _KILLED:
        return HpcensError(
            f"{which}: the process that looked at it was killed by {signal.Signals(-code).name}",
            "run it again; SIGKILL may mean that memory was used up: free -h, or the limit of the job",
        )
    if code < 0:
        return DataError(f"{which}: the HDF5 library crashed on it ({signal.Signals(-code).name})", _DAMAGED)
    last = (silence.last_words or ("no word",))[-1]
    return HpcensError(f"{which} could not be looked at: {last}", "run it again; if that fails, report it")


def _cpu_seconds() -> int:
    """Return the processor time that a look may take; the limit of whoever started this process may be smaller."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    return _CPU_SECONDS if hard == resource.RLIM_INFINITY else max(1, min(_CPU_SECONDS, hard - 1))


def _seen(
    look: Look[Seen], paths: Sequence[Path], spec: DatasetSpec, limit: int | None
) -> Iterator[Seen | HpcensError]:
    """Yield what a look at the dataset gives, or the error it raises; in the other process."""
    seconds = _cpu_seconds()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1 if hard == resource.RLIM_INFINITY else hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer: Seen | HpcensError
    try:
        answer = look(paths, spec, limit)
    except HpcensError as error:
        answer = error
    except Exception as error:  # HDF5's errors come as half a dozen types
        answer = DataError(f"dataset {paths[0]} cannot be read: {type(error).__name__}: {error}", _DAMAGED)
    yield answer


def facts_of(
    paths: Sequence[Path], spec: DatasetSpec, limit: int | None, rows: Mapping[str, RowsSpec | None] | None = None
) -> Facts:
    """Look at a dataset, in this process. rows: see `inspecting`."""
    source = Source(paths, spec, limit)
    facts = source.facts()
    return facts if rows is None else replace(facts, routed=Routes(source, spec.route, rows).facts(all_rows=not limit))


@dataclass(frozen=True, slots=True)
class Reading:
    """How fast one reader reads a dataset.

    rows_per_second  at which it does
    threads          by so many; None where there are too few rows to try, or a chunk holds too many of them
    """

    rows_per_second: float
    threads: int | None


def reading_speed(paths: Sequence[Path], spec: DatasetSpec, limit: int | None) -> Reading:
    """Read whole chunks of rows: by numbers of threads each in its turn, all from places of their own.

    What was read once may lie in memory, so that nothing would be told by reading it again.
    """
    source = Source(paths, spec, limit)
    source.find_chunks()
    counts = thread_counts()
    turns = (*counts, *reversed(counts))  # so that none has the better half of a time in which others work beside it
    tried = max(_TRIED_BYTES // source.row_bytes, source.tall)
    if len(counts) > 1 and source.rows >= len(turns) * 2 * tried and not source.lies_along_rows:
        reading = _fastest(source, turns)
    else:
        rows, seconds = _read(source, 0.0, _READING_BYTES)
        reading = Reading(rows / seconds, None)
    source.close()
    return reading


def _fastest(source: Source, turns: Sequence[int]) -> Reading:
    """Read by so many threads in turn; return how the fewest read that are about as fast as any."""
    rows: dict[int, float] = dict.fromkeys(turns, 0.0)
    seconds = rows.copy()
    for turn, threads in enumerate(turns):
        source.threads.use(threads)
        read, took = _read(source, turn / len(turns), _TRIED_BYTES)
        rows[threads] += read
        seconds[threads] += took
        if sum(seconds.values()) > _TRIED_SECONDS:
            break
    speeds = {threads: rows[threads] / seconds[threads] for threads in sorted(rows) if rows[threads]}
    enough = next(threads for threads, speed in speeds.items() if speed >= _GAIN * max(speeds.values()))
    return Reading(speeds[enough], enough)


def read_part(paths: Sequence[Path], spec: DatasetSpec, limit: int | None, place: float) -> tuple[float, float]:
    """Read some rows from this part of the dataset on, 0 … 1; return how many they were, and the seconds it took."""
    source = Source(paths, spec, limit)
    source.find_chunks()
    rows, seconds = _read(source, place, _READING_BYTES)
    source.close()
    return rows, seconds


def _read(source: Source, place: float, size: int) -> tuple[float, float]:
    """Read some rows of so many bytes together; return how many they were, or would be, and the seconds it took.

    Of chunks along the rows only a few are tried.
    """
    step = max(1, _PIECE_BYTES // source.row_bytes)
    memory = Buffers().empty((source.bytes_of(step),), np.uint8)
    memory.fill(0)  # so that its pages are there, as those of slots are
    began = time.perf_counter()
    seconds = source.seconds_a_row(place, size)
    if seconds is not None:
        took = max(1e-6, time.perf_counter() - began)
        return took / max(1e-12, seconds), took
    wanted = max(1, size // source.row_bytes)
    first = int(place * source.rows) // source.tall * source.tall
    last: int = min(source.rows, first + -(-wanted // source.tall) * source.tall)
    for start in range(first, last, step):
        stop = min(start + step, last)
        source.rows_between(start, stop, memory[: source.bytes_of(stop - start)])
    return last - first, max(1e-6, time.perf_counter() - began)
