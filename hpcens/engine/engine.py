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

from hpcens.engine.hardware import Hardware
from hpcens.errors import DeviceOutOfMemory, MemberError
from hpcens.members.forward import Forward
from hpcens.usercode import describe_exception
from hpcens.vocabulary import Array, Bad, Message, Predict, Predicted, Rows, batch_bounds


@dataclass(frozen=True, slots=True)
class Loaded:
    """A member on its device, and its planned batch size.

    again  makes it anew for a smaller batch; None where the one that is loaded runs any
    """

    forward: Forward
    batch: int
    again: Callable[[int], Forward] | None = None


class Engine:
    """Runs members on one device; used by one thread, but for `stage`.

    blank  shape of a member's output for one row, where rows on which a preprocessing raises are to be left out
           and told as bad; None: they end the run
    """

    def __init__(self, hardware: Hardware, blank: tuple[int, ...] | None = None) -> None:
        self.hardware = hardware
        self._blank = blank
        self._raised: list[int] = []
        self._fed: dict[int, list[int]] = {}
        self._members: dict[str, Loaded] = {}
        self._ceilings: dict[str, int] = {}
        self._staged: dict[int, tuple[Any, ...]] = {}

    @property
    def ceilings(self) -> Mapping[str, int]:
        """Members that ran out of memory, with the batch size they have used since."""
        return self._ceilings

    def host(self, name: str, forward: Forward, *, batch: int, again: Callable[[int], Forward] | None = None) -> None:
        """Place a member on the device. again: see `Loaded`."""
        self.hardware.place(forward)
        self._members[name] = Loaded(forward, batch, again)

    def clear(self) -> None:
        """Let go of all members, and of what is staged or cached."""
        self._members.clear()
        self._ceilings.clear()
        self._staged.clear()
        self.hardware.release()

    def stage(self, task: Message) -> None:
        """Begin to bring a task's rows to the device. What does not fit now is brought when its turn comes."""
        if isinstance(task, Predict):
            try:
                self._staged[task.segment] = self._bring(task.rows)
            except Exception as error:
                if not self.hardware.out_of_memory(error):
                    raise

    def _bring(self, rows: Rows) -> tuple[Any, ...]:
        return tuple(self.hardware.stage(array) for array in rows)

    def predict(self, task: Predict) -> Iterator[Predicted]:
        """One answer per member, (rows of the segment, *output shape) float32, with the rows that are bad.

        Raises MemberError where a member raises or gives a wrong number of rows, DeviceOutOfMemory where not even one
        row fits.
        """
        rows = self._staged.pop(task.segment, None)
        if rows is None:
            rows = self._stage_now(task)
        on_device = tuple(self.hardware.receive(array) for array in rows)
        self._fed = {}
        for name in task.members:
            began = time.perf_counter()
            values, batch = self.run(name, on_device)
            bad = self._bad(name, values, on_device)
            yield Predicted(task.segment, name, values, batch, time.perf_counter() - began, bad)

    def _stage_now(self, task: Predict) -> tuple[Any, ...]:
        """Stage what is due; where it does not fit, what was staged ahead gives way."""
        failed = ""
        for _ in range(2):
            try:
                return self._bring(task.rows)
            except Exception as error:
                if not self.hardware.out_of_memory(error):
                    raise
                failed = str(error)
            self._staged.clear()
            self.hardware.release()
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
                if not self.hardware.out_of_memory(error):
                    raise
                failed = str(error)
            # outside the handler: the traceback's frames hold the tensors that are in the way
            if batch == 1:
                raise DeviceOutOfMemory(
                    f"member {name}: one row does not fit the memory of its device ({failed})",
                    "give it a device with more memory, or fewer members to share it with",
                )
            self.hardware.release()
            batch = (batch + 1) // 2
            self._ceilings[name] = batch
            if loaded.again is not None:
                planned, again = loaded.batch, loaded.again
                del loaded, self._members[name]  # there is no room for both
                loaded = Loaded(again(batch), planned, again)
                self._members[name] = loaded

    def _failed(
        self, name: str, loaded: Loaded, inputs: Sequence[torch.Tensor], start: int, stop: int, error: BaseException
    ) -> MemberError:
        """The error of a batch, as the member's."""
        shapes = ", ".join(str(tuple(x[start:stop].shape)) for x in inputs)
        where = f"member {name}{': ' * bool(loaded.forward.stage)}{loaded.forward.stage}"
        return MemberError(
            f"{where} raised {describe_exception(error)} (rows {start}–{stop - 1} of a segment, input {shapes})",
            "check its inputs and its preprocess against the rows of this dataset",
        )

    def _without_bad(
        self, forward: Forward, inputs: Sequence[torch.Tensor], start: int, blank: tuple[int, ...]
    ) -> torch.Tensor:
        """A batch on some of whose rows the preprocessing raises: a good row stands in for each of them.

        The batch keeps its size, so that the bytes of its other rows are those they would have had.
        """
        good = [row for row in range(len(inputs[0])) if forward.accepts([x[row : row + 1] for x in inputs])]
        bad = sorted(set(range(len(inputs[0]))) - set(good))
        self._raised += [start + row for row in bad]
        if not good:
            return torch.full((len(inputs[0]), *blank), torch.nan, device=inputs[0].device)
        order = list(range(len(inputs[0])))
        for row in bad:
            order[row] = good[0]
        values: torch.Tensor = forward(*(x[order] for x in inputs))
        values[bad] = torch.nan
        return values

    def _bad(self, name: str, values: Array, rows: Sequence[torch.Tensor]) -> tuple[Bad, ...]:
        """Rows that the member did not score, each under its first cause."""
        forward = self._members[name].forward
        raised_on = set(self._raised)
        for place in forward.judged:
            if place not in self._fed:
                self._fed[place] = _not_finite(rows[place])
        fed = {row for place in forward.judged for row in self._fed[place]} - raised_on
        gave: set[int] = set()
        if not np.isfinite(values).all():
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            gave = set(np.flatnonzero(~finite).tolist()) - raised_on - fed
        found = (
            Bad("raised", tuple(sorted(raised_on))),
            Bad("input", tuple(sorted(fed))),
            Bad("output", tuple(sorted(gave))),
        )
        return tuple(bad for bad in found if bad.rows)

    def given(self, name: str, rows: Sequence[torch.Tensor]) -> Array:
        """What a member itself gives for one batch: before any softmax, in its own classes."""
        forward = self._members[name].forward
        with torch.inference_mode():
            return self.hardware.fetch(forward.given(*(rows[place] for place in forward.inputs)))

    def _forward(self, name: str, loaded: Loaded, rows: Sequence[torch.Tensor], batch: int) -> Array:
        parts = []
        self._raised = []
        inputs = [rows[place] for place in loaded.forward.inputs]
        with torch.inference_mode():
            for start, stop in batch_bounds(len(rows[0]), batch):
                try:
                    parts.append(loaded.forward(*(x[start:stop] for x in inputs)))
                except MemberError:
                    raise
                except Exception as error:
                    if self.hardware.out_of_memory(error):
                        raise  # as it is: an error that causes itself would keep the tensors of its frames alive
                    if self._blank is None or not loaded.forward.stage:
                        raise self._failed(name, loaded, inputs, start, stop, error) from error
                    parts.append(self._without_bad(loaded.forward, [x[start:stop] for x in inputs], start, self._blank))
                except SystemExit as error:
                    raise self._failed(name, loaded, inputs, start, stop, error) from error
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            return self.hardware.fetch(whole)


def _not_finite(rows: torch.Tensor) -> list[int]:
    """Rows that hold NaN or infinity. A sum shows that there are none; only else is every number looked at."""
    if not rows.is_floating_point() or bool(torch.isfinite(rows.sum(dtype=torch.float32))):
        return []
    return torch.nonzero(~torch.isfinite(rows.reshape(len(rows), -1)).all(1)).reshape(-1).tolist()
