"""The engine: all instances of one device, run one after another on rows that are staged once.

A batch that does not fit the device's memory is halved and the member's segment run again from its
first row, so that its bytes depend on the segment and the batch size alone; the ceiling is remembered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hpcens.errors import DataError, DeviceOutOfMemory, MemberError
from hpcens.messages import Array, Message, Predict, Predicted, Rows
from hpcens.runtimes.hardware import Hardware
from hpcens.segments import batch_bounds
from hpcens.specs import Space

Forward = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A member on its device.

    forward  what is called, with a tensor of rows for each input it takes
    batch    planned batch size
    softmax  whether it gives logits to be normalised
    inputs   which of the dataset's inputs it takes, in its order; None: all
    """

    forward: Forward
    batch: int
    softmax: bool
    inputs: tuple[int, ...] | None

    def taken(self, rows: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        return rows if self.inputs is None else [rows[i] for i in self.inputs]


class Engine:
    """Runs members on one device; used by one thread, but for `stage`."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._members: dict[str, Loaded] = {}
        self._ceilings: dict[str, int] = {}
        self._staged: dict[int, tuple[Any, ...]] = {}

    @property
    def ceilings(self) -> Mapping[str, int]:
        """Members that ran out of memory, with the batch size they have used since."""
        return self._ceilings

    def host(
        self,
        name: str,
        module: torch.nn.Module,
        *,
        batch: int,
        output: Space,
        space: Space,
        inputs: tuple[int, ...] | None = None,
    ) -> None:
        """Place a member on the device.

        space   the one the rule combines in
        inputs  positions of the dataset's inputs that its forward takes, in its order; None: all
        """
        softmax = output == "logits" and space == "probabilities"
        self._members[name] = Loaded(self._hardware.place(module), batch, softmax, inputs)

    def stage(self, task: Message) -> None:
        """Begin to bring a task's rows to the device. What does not fit now is brought when its turn comes."""
        if isinstance(task, Predict):
            try:
                self._staged[task.segment] = self._bring(task.rows)
            except Exception as error:
                if not self._hardware.out_of_memory(error):
                    raise

    def _bring(self, rows: Rows) -> tuple[Any, ...]:
        return tuple(self._hardware.stage(array) for array in rows)

    def predict(self, task: Predict) -> Iterator[Predicted]:
        """One answer per member, (rows of the segment, *output shape) float32.

        Raises MemberError where a member raises, DataError where it gives NaN, infinity or a wrong number of rows,
        DeviceOutOfMemory where not even one row fits.
        """
        rows = self._staged.pop(task.segment, None)
        if rows is None:
            rows = self._stage_now(task)
        on_device = tuple(self._hardware.receive(array) for array in rows)
        for name in task.members:
            began = time.perf_counter()
            values, batch = self.run(name, on_device)
            _check(name, values, task.segment)
            yield Predicted(task.segment, name, values, batch, time.perf_counter() - began)

    def _stage_now(self, task: Predict) -> tuple[Any, ...]:
        """Stage what is due; where it does not fit, what was staged ahead gives way."""
        failed = ""
        for _ in range(2):
            try:
                return self._bring(task.rows)
            except Exception as error:
                if not self._hardware.out_of_memory(error):
                    raise
                failed = str(error)
            self._staged.clear()
            self._hardware.release()
        raise DeviceOutOfMemory(
            f"segment {task.segment}: its {len(task.rows[0])} rows do not fit the memory of the device ({failed})",
            "give it a device with more memory, or fewer members to share it with",
        )

    def run(self, name: str, rows: Sequence[torch.Tensor]) -> tuple[Array, int]:
        """A member's output for rows on the device (a tensor for each input), and the batch size that fitted."""
        loaded = self._members[name]
        batch = min(loaded.batch, self._ceilings.get(name, loaded.batch))
        while True:
            try:
                return self._forward(name, loaded, rows, batch), batch
            except Exception as error:
                if not self._hardware.out_of_memory(error):
                    raise
                failed = str(error)
            # outside the handler: the traceback's frames hold the tensors that are in the way
            if batch == 1:
                raise DeviceOutOfMemory(
                    f"member {name}: one row does not fit the memory of its device ({failed})",
                    "give it a device with more memory, or fewer members to share it with",
                )
            self._hardware.release()
            batch = (batch + 1) // 2
            self._ceilings[name] = batch

    def _forward(self, name: str, loaded: Loaded, rows: Sequence[torch.Tensor], batch: int) -> Array:
        parts = []
        inputs = loaded.taken(rows)
        with torch.inference_mode():
            for start, stop in batch_bounds(len(rows[0]), batch):
                try:
                    # a copy always: modules may change their input, and the rows are shared
                    values = loaded.forward(*(x[start:stop].to(torch.float32, copy=True) for x in inputs))
                except Exception as error:
                    if self._hardware.out_of_memory(error):
                        raise
                    shapes = ", ".join(str(tuple(x[start:stop].shape)) for x in inputs)
                    raise MemberError(
                        f"member {name} raised {type(error).__name__}: {error} (input {shapes})",
                        "its module fails on rows of this dataset; try it on them alone",
                    ) from error
                if not isinstance(values, torch.Tensor) or values.shape[:1] != (stop - start,):
                    got = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
                    raise MemberError(f"member {name} returned {got} for {stop - start} rows", "one output row per row")
                if loaded.softmax and (values.dim() < 2 or values.shape[-1] < 2):
                    raise MemberError(
                        f"member {name} returned {tuple(values.shape)}: logits of {stop - start} rows need an axis of"
                        " two classes or more to become probabilities",
                        "give it output: probabilities or values in the YAML, or one logit per class",
                    )
                values = values.to(torch.float32)
                parts.append(torch.softmax(values, -1) if loaded.softmax else values)
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            return self._hardware.fetch(whole)


def _check(name: str, values: Array, segment: int) -> None:
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        raise DataError(
            f"member {name} gave NaN or infinity for {len(bad)} rows of segment {segment}, first: row {bad[0]} of it",
            "look at these rows of the dataset, or at the member's weights",
        )
