"""Inspection: a dataset is first looked at by a process of its own: libhdf5 may crash on a damaged file, or never end.

this process ──paths, spec, limit──► python -m hpcens.dataset.inspection ──Facts or rows/s or an error──► this process
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hpcens.dataset.source import Facts, Source
from hpcens.errors import DataError, HpcensError
from hpcens.specs import DatasetSpec

_READING_BYTES = 32 << 20
_PIECE_BYTES = 4 << 20
_CPU_SECONDS = 120


@contextmanager
def inspecting(paths: Sequence[Path], spec: DatasetSpec, limit: int | None) -> Iterator[Callable[[], Facts]]:
    """While the other process looks at the dataset, this one may do something else, and then call for the facts.

    The call raises DataError: all that `Source` raises, and where looking at it crashes or never ends.
    """
    with _asked("facts", paths, spec, limit) as answer:
        yield answer


def inspect_speed(paths: Sequence[Path], spec: DatasetSpec, limit: int | None) -> float:
    """Rows/s at which the dataset is read. Raises DataError as `inspect`."""
    with _asked("speed", paths, spec, limit) as answer:
        speed: float = answer()
    return speed


def reading_speed(paths: Sequence[Path], spec: DatasetSpec, limit: int | None) -> float:
    """Rows/s at which the first rows of a dataset are read, whole chunks of them."""
    source = Source(paths, spec, limit)
    began = time.perf_counter()
    speed = _read(source, 0.0) / max(1e-6, time.perf_counter() - began)
    source.close()
    return speed


def read_part(paths: Sequence[Path], spec: DatasetSpec, limit: int | None, place: float) -> int:
    """Read as many rows as `reading_speed` does from this part of the dataset on, 0 … 1; how many they were."""
    source = Source(paths, spec, limit)
    rows = _read(source, place)
    source.close()
    return rows


def _read(source: Source, place: float) -> int:
    wanted = max(1, _READING_BYTES // source.row_bytes)
    first = int(place * source.rows) // source.tall * source.tall
    last: int = min(source.rows, first + -(-wanted // source.tall) * source.tall)
    step = max(1, _PIECE_BYTES // source.row_bytes)
    for start in range(first, last, step):
        source.rows_between(start, min(start + step, last))
    return last - first


@contextmanager
def _asked(question: str, paths: Sequence[Path], spec: DatasetSpec, limit: int | None) -> Iterator[Callable[[], Any]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hpcens.dataset.inspection"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # what it died of is told by how it ended
                process.stdin.write(pickle.dumps((question, tuple(paths), spec, limit)))
                process.stdin.flush()
            yield partial(_answered, process, paths)
        finally:
            process.kill()


def _answered(process: subprocess.Popen[bytes], paths: Sequence[Path]) -> Any:
    said, noise = process.communicate()
    if process.returncode or not said:
        raise _died(paths, process.returncode, noise.decode(errors="replace"))
    answer = pickle.loads(said)
    if isinstance(answer, HpcensError):
        raise answer
    return answer


def _died(paths: Sequence[Path], code: int, said: str) -> HpcensError:
    which = f"dataset {paths[0]}" + (f" or one of the {len(paths) - 1} behind it" if len(paths) > 1 else "")
    if code == -signal.SIGXCPU:
        return DataError(f"{which}: the HDF5 library did not come to an end in {_CPU_SECONDS} s", _DAMAGED)
    if code < 0:
        return DataError(f"{which}: the HDF5 library crashed on it ({signal.Signals(-code).name})", _DAMAGED)
    last = (said.strip().splitlines() or ["no word"])[-1]
    return HpcensError(f"{which} could not be looked at: {last}", "run it again; if that fails, report it")


_DAMAGED = "the file is damaged: copy it again, or write it anew"


def _answer(question: str, paths: Sequence[Path], spec: DatasetSpec, limit: int | None) -> Any:
    try:
        return Source(paths, spec, limit).facts() if question == "facts" else reading_speed(paths, spec, limit)
    except HpcensError as error:
        return error
    except Exception as error:  # HDF5's errors come as half a dozen types
        return DataError(f"dataset {paths[0]} cannot be read: {type(error).__name__}: {error}", _DAMAGED)


def _main() -> None:
    """Be the other process. Its answer goes where nothing that a library prints can get in between."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.dup(1)
    os.dup2(2, 1)
    answer = pickle.dumps(_answer(*pickle.load(sys.stdin.buffer)))
    with os.fdopen(out, "wb") as file:
        file.write(answer)
    os._exit(0)  # a thread that hangs in the library would keep it from ending


if __name__ == "__main__":
    _main()
