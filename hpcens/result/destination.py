"""The destination: whether a result can be written where it is wanted."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from math import ceil
from pathlib import Path
from tempfile import TemporaryFile

from hpcens.dataset import check_filter
from hpcens.errors import Incomplete, UsageError
from hpcens.files import require_folder
from hpcens.result.finished import fingerprint_of
from hpcens.result.outputs import Output
from hpcens.runs import RunDirectory
from hpcens.shell import amount
from hpcens.specs import CompressionSpec, Job

INCOMPRESSIBLE = 1.01
"""So many times as large as its rows is a compressed result at most, indexes of chunks included."""
_ELSEWHERE = "choose another output: output.path in the YAML; for hpcens combine, -o"


def check_output(output: Path, compression: CompressionSpec | None, *sources: Path) -> None:
    """Raise UsageError where the output cannot be written, is one of the sources, or is no result of hpcens.

    compression  that of the output; its filter has to be installed
    sources      files that are read
    """
    if output.exists() and any(output.samefile(source) for source in sources):
        raise UsageError(f"the output {output} is the input itself", _ELSEWHERE)
    require_folder(output)
    if not os.access(output.parent, os.W_OK):
        raise UsageError(f"no permission to write into {output.parent}", _ELSEWHERE)
    _require_files_in(output.parent)
    if output.exists() and fingerprint_of(output) is None:
        raise UsageError(f"{output} exists and is not a result of hpcens", _ELSEWHERE)
    if compression:
        check_filter(compression)


def _require_files_in(folder: Path) -> None:
    """Raise UsageError where no file can be made in a folder, whatever its permissions say: in /proc, or read-only.

    A full disk is no reason: it may have room by the time the result is written.
    """
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(f"no file can be made in {folder}: {error.strerror}", _ELSEWHERE) from None


def room(run: RunDirectory, rows: int, outputs: Iterable[Output], compression: CompressionSpec | None) -> int:
    """Return the bytes that the disk must have free for a file of these outputs; 0 where it has taken them already.

    rows  rows of the file
    """
    if any(path.suffix == ".h5" for path in run.unfinished()):
        return 0
    copies = 2 if compression else 1  # the working file stays until its compressed copy is whole
    return copies * rows * sum(output.row_bytes for output in outputs)


def room_for_assembly(
    run: RunDirectory, rows: int, outputs: Iterable[Output], compression: CompressionSpec | None
) -> int:
    """Return the bytes that the disk must have free to put a result together of its parts, which are there."""
    if compression is None:
        return room(run, rows, outputs, None)
    begun = sum(path.stat().st_size for path in run.unfinished() if path.exists())  # which goes first
    return max(0, ceil(INCOMPRESSIBLE * rows * sum(output.row_bytes for output in outputs)) - begun)


def require_room(job: Job, wanted: int) -> None:
    """Raise Incomplete where the disk has no room for `wanted` bytes."""
    free = shutil.disk_usage(job.output.parent).free
    if wanted > free:
        raise Incomplete(
            f"{job.output} will take {amount(wanted)} while it is written, and {job.output.parent} has"
            f" {amount(free)} free",
            "make room, choose another output.path, or fewer output.datasets",
        )
