"""Recordings: what a member gave in a runtime for a few rows when it was measured, held against what it gives now.

    NAME.npz  names of the dataset's inputs, the rows of each, the member's own output for them, and the driver of GPUs

Every instance repeats its recording once it is loaded, which costs a batch. Other bits mean that something else
computes: another library, another instruction set, memory that is damaged.
"""

from __future__ import annotations

import io
import os
import secrets
import sys
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcens.engine import Engine, driver, ran_out
from hpcens.errors import MemberError
from hpcens.runtimes.agreement import difference, tolerance_in
from hpcens.specs import MemberSpec
from hpcens.vocabulary import Array, Rows

_ROWS = 8
_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Recording:
    """A few rows, and what the member gave for them.

    inputs  names of the dataset's inputs, in their order
    rows    (rows, *row shape) of each input
    values  (rows, *output shape) before any softmax, in the member's own classes
    driver  version of the GPUs' driver; empty where it is not known, or none had a part in it
    """

    inputs: tuple[str, ...]
    rows: Rows
    values: Array
    driver: str = ""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all. Raises OSError where the folder is full or refuses."""
        content = io.BytesIO()
        arrays: dict[str, Any] = {f"rows{i}": array for i, array in enumerate(self.rows)}
        np.savez(content, inputs=np.array(self.inputs), values=self.values, driver=np.array(self.driver), **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
        try:
            temporary.write_bytes(content.getbuffer())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @staticmethod
    def load(path: Path) -> Recording | None:
        """Return the recording; None where there is none or it is damaged, which the checksums of its zip tell."""
        try:
            with np.load(path, allow_pickle=False) as content:
                rows = tuple(content[f"rows{i}"] for i in range(sum(name.startswith("rows") for name in content.files)))
                under = str(content["driver"]) if "driver" in content.files else ""
                return Recording(tuple(map(str, content["inputs"])), rows, content["values"], under)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile):
            return None


def recording_of(package: Path, batch: int) -> Path:
    """Name the recording of a member in a runtime. package: as for `prepare`, without the batch size and a suffix."""
    return package.with_name(f"{package.name}-{batch}.npz")


def record(engine: Engine, member: MemberSpec, inputs: Sequence[str], rows: Rows, path: Path) -> None:
    """Record what a hosted member gives for the first of these rows; nothing where they are large or do not fit."""
    row_bytes = max(1, sum(array[:1].nbytes for array in rows))
    few = tuple(np.ascontiguousarray(array[: min(_ROWS, _BYTES // row_bytes)]) for array in rows)
    if not len(few[0]):
        return
    try:
        values = _given(engine, member.name, few)
    except Exception:  # one of them may be bad, which is for the run to judge
        return
    if values is None:
        return
    with suppress(OSError):  # the next start has nothing to compare with, and this one is none the worse
        Recording(tuple(inputs), few, values, _driver(engine)).save(path)


def repeat(
    engine: Engine, member: MemberSpec, inputs: Sequence[str], rows: Rows, path: Path, *, tolerance: float
) -> None:
    """Repeat the recording of a hosted member; where there is none, make one.

    rows       of the dataset, for each input; may be none
    path       of the recording
    tolerance  `plan.tolerance`
    Warns where the member gives other bits. Raises MemberError where it gives other values than the tolerance allows.
    """
    recording = Recording.load(path)
    if recording is None or recording.inputs != tuple(inputs):
        if rows and recording is None:
            record(engine, member, inputs, rows, path)
        return
    values = _given(engine, member.name, recording.rows)
    if values is None or values.tobytes() == recording.values.tobytes():
        return
    probabilities = member.output == "probabilities"
    now = _driver(engine)
    drivers = f" (driver {recording.driver} then, {now} now)" if recording.driver != now else ""
    apart = difference(values, recording.values, probabilities=probabilities)
    if apart > tolerance_in(member.computes_in, tolerance):
        raise MemberError(
            f"member {member.name} does not give what it gave when it was measured: it is {apart:.2g} off, and"
            f" plan.tolerance is {tolerance:g} (recorded in {path})",
            f"find what changed{drivers}: a library, the processor, memory, numbers that its factory draws without a"
            " seed; then measure it anew: hpcens profile --clear, and run again",
        )
    print(
        f"hpcens: warning: member {member.name} gives other bits than when it was measured, {apart:.2g} apart and"
        f" within plan.tolerance: another library or processor computes{drivers}",
        file=sys.stderr,
        flush=True,
    )


def _driver(engine: Engine) -> str:
    return driver() if engine.hardware.name != "CPU" else ""


def _given(engine: Engine, name: str, rows: Rows) -> Array | None:
    """Return what the member itself gives for a few rows; None where they do not fit beside what is held."""
    hardware = engine.hardware
    try:
        return engine.given(name, [hardware.receive(hardware.stage(array)) for array in rows])
    except Exception as error:
        if ran_out(hardware, error):
            return None
        raise
