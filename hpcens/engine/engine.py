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
from hpcens.engine.outputs import Outputs
from hpcens.errors import DeviceOutOfMemory, MemberError, UsageError
from hpcens.members import Cast, Forward, PreprocessingFailed, cause_of
from hpcens.usercode import describe_exception
from hpcens.vocabulary import Array, Bad, Message, Predict, Predicted, Rows, batch_bounds

# what torch says of gradients that are asked for in inference mode, or of inputs that need none
_WITHOUT_GRADIENTS = ("does not require grad", "nference tensor", "inference mode")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A member on its device, and its planned batch size.

    again  makes it anew for a smaller batch; None where the one that is loaded runs any
    """

    forward: Forward
    batch: int
    again: Callable[[int], Forward] | None = None


class Engine:
    """Run members on one device; used by one thread, but for `stage`."""

    def __init__(self, hardware: Hardware, blank: tuple[int, ...] | None = None) -> None:
        """Start without members.

        blank  shape of a member's output for one row, where rows on which a preprocessing raises are left out and
               reported as bad; None where such a row ends the run
        """
        self.hardware = hardware
        self._blank = blank
        self._raised: list[int] = []
        self._finite: dict[int, bool] = {}
        self._not_finite: dict[int, list[int]] = {}
        self._lost: dict[tuple[int, Cast], list[int]] = {}
        self._members: dict[str, Loaded] = {}
        self._ceilings: dict[str, int] = {}
        self._staged: dict[int, tuple[Any, ...]] = {}

    @property
    def ceilings(self) -> Mapping[str, int]:
        """Members that ran out of memory, with the batch size they have used since."""
        return self._ceilings

    def host(self, name: str, forward: Forward, *, batch: int, again: Callable[[int], Forward] | None = None) -> None:
        """Place a member on the device, to be run in batches of `batch` rows. again: see `Loaded`."""
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
        """Yield one answer per member, (rows of the segment, *output shape), with the rows that are bad.

        Raises MemberError where a member raises or gives a wrong number of rows, UsageError where the YAML does not say
        what it gives, DeviceOutOfMemory where not even one
        row fits.
        """
        staged = self._staged.pop(task.segment, None)
        if staged is None:
            staged = self._stage_now(task)
        rows = tuple(self.hardware.receive(array) for array in staged)
        self._finite, self._not_finite, self._lost = {}, {}, {}
        for name in task.members:
            start = time.perf_counter()
            values, batch = self.run(name, rows)
            bad = self._bad(name, values, rows)
            yield Predicted(task.segment, name, values, batch, time.perf_counter() - start, bad)

    def _stage_now(self, task: Predict) -> tuple[Any, ...]:
        """Stage what is due; where it does not fit, what was staged ahead gives way."""
        reason = ""
        for _ in range(2):
            try:
                return self._bring(task.rows)
            except Exception as error:
                if not self.hardware.out_of_memory(error):
                    raise
                reason = str(error)
            self._staged.clear()
            self.hardware.release()
        raise DeviceOutOfMemory(
            f"segment {task.segment}: its {len(task.rows[0])} rows do not fit the memory of the device ({reason})",
            "give it a device with more memory, or fewer members to share it with",
        )

    def run(self, name: str, rows: Sequence[torch.Tensor]) -> tuple[Array, int]:
        """Return a member's output for rows on the device, and the batch size that fitted.

        rows  (rows, *row shape) of each input of the dataset
        """
        loaded = self._members[name]
        batch = min(loaded.batch, self._ceilings.get(name, loaded.batch))
        while True:
            try:
                return self._forward(name, loaded, rows, batch), batch
            except Exception as error:
                if not ran_out(self.hardware, error):
                    raise
                reason = str(error)
            # outside the handler: the traceback's frames hold the tensors that are in the way
            if batch == 1:
                raise DeviceOutOfMemory(
                    f"member {name}: one row does not fit the memory of its device ({reason})",
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

    def given(self, name: str, rows: Sequence[torch.Tensor]) -> Array:
        """Return what a member itself gives for one batch: before any softmax, in its own classes."""
        forward = self._members[name].forward
        outputs = Outputs(self.hardware, name, len(rows[0]))
        with forward.surroundings.around(), forward.grad_mode():
            outputs.take(0, forward.given(*(rows[place] for place in forward.inputs)))
            return outputs.fetch()

    def rounds(self, name: str, rows: Sequence[torch.Tensor]) -> bool:
        """Tell whether a member's network returns numbers that its outputs, of float32, do not keep."""
        forward = self._members[name].forward
        with forward.surroundings.around(), forward.grad_mode():
            return forward.rounds(*(rows[place] for place in forward.inputs))

    def _forward(self, name: str, loaded: Loaded, rows: Sequence[torch.Tensor], batch: int) -> Array:
        """Run a member on all rows in batches of this size."""
        outputs = Outputs(self.hardware, name, len(rows[0]))
        self._raised = []
        inputs = [rows[place] for place in loaded.forward.inputs]
        with loaded.forward.surroundings.around(), loaded.forward.grad_mode():
            for start, stop in batch_bounds(len(rows[0]), batch):
                piece = [x[start:stop] for x in inputs]
                try:
                    outputs.take(start, loaded.forward(*piece))
                except (MemberError, UsageError):
                    raise
                except PreprocessingFailed as failure:
                    if ran_out(self.hardware, failure):
                        raise
                    if self._blank is None or isinstance(failure.error, SystemExit):
                        raise _failed(f"{name}: {failure.step}", piece, start, failure.error) from failure.error
                    self._without_bad(loaded.forward, piece, start, self._blank, outputs)
                except (Exception, SystemExit) as error:
                    if self.hardware.out_of_memory(error):
                        raise  # as it is: an error that causes itself would keep the tensors of its frames alive
                    raise _failed(name, piece, start, error) from error
            return outputs.fetch()

    def _without_bad(
        self, forward: Forward, inputs: Sequence[torch.Tensor], start: int, blank: tuple[int, ...], outputs: Outputs
    ) -> None:
        """Run a batch on some of whose rows the preprocessing raises: a good row stands in for each of them.

        The batch keeps its size, so that the bytes of its other rows are those they would have had.

        inputs  (batch, *row shape) of each input the member takes
        start   place of the batch's first row in its segment
        blank   shape of a row of output, for a batch of which no row is good
        """
        count = len(inputs[0])
        good = [row for row in range(count) if forward.accepts([x[row : row + 1] for x in inputs])]
        bad = sorted(set(range(count)) - set(good))
        self._raised += [start + row for row in bad]
        if not good:
            outputs.take(start, torch.full((count, *blank), torch.nan, dtype=forward.dtype, device=inputs[0].device))
            return
        order = list(range(count))
        for row in bad:
            order[row] = good[0]
        outputs.take(start, forward(*(x[order] for x in inputs)))
        outputs.blank([start + row for row in bad])

    def _bad(self, name: str, values: Array, rows: Sequence[torch.Tensor]) -> tuple[Bad, ...]:
        """Return the rows that the member did not score, each under its first cause."""
        forward = self._members[name].forward
        raised_on = set(self._raised)
        for place in forward.judged:
            if place not in self._not_finite:
                self._not_finite[place] = [] if self._tame(place, rows[place]) else _not_finite(rows[place])
        of_input = {row for place in forward.judged for row in self._not_finite[place]} - raised_on
        of_cast = self._of_cast(forward, rows) - raised_on - of_input
        of_output: set[int] = set()
        if not np.isfinite(values).all():
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            of_output = set(np.flatnonzero(~finite).tolist()) - raised_on - of_input - of_cast
        causes = (
            Bad("raised", tuple(sorted(raised_on))),
            Bad("input", tuple(sorted(of_input))),
            Bad("cast", tuple(sorted(of_cast))),
            Bad("output", tuple(sorted(of_output))),
        )
        return tuple(bad for bad in causes if bad.rows)

    def _tame(self, place: int, rows: torch.Tensor) -> bool:
        """Tell whether all numbers of an input are finite in float32, as far as their sum shows it, taken once."""
        if place not in self._finite:
            self._finite[place] = not rows.is_floating_point() or bool(torch.isfinite(rows.sum(dtype=torch.float32)))
        return self._finite[place]

    def _of_cast(self, forward: Forward, rows: Sequence[torch.Tensor]) -> set[int]:
        """Return the rows whose numbers what they are cast to cannot hold."""
        for place, cast in zip(forward.inputs, forward.casts, strict=True):
            if (place, cast) not in self._lost:
                tame = cast.float32_suffices(rows[place].dtype) and self._tame(place, rows[place])
                self._lost[place, cast] = [] if tame else cast.lost(rows[place])
        return {row for wanted in zip(forward.inputs, forward.casts, strict=True) for row in self._lost[wanted]}


def ran_out(hardware: Hardware, error: BaseException) -> bool:
    """Tell whether an error says that the device's memory is used up, by a step of the preprocessing or otherwise."""
    return hardware.out_of_memory(cause_of(error))


def _failed(place: str, inputs: Sequence[torch.Tensor], start: int, error: BaseException) -> MemberError:
    """Return the error of a batch as the member's.

    place   the member's name, with the step that raised
    inputs  (batch, *row shape) of each input the member takes
    start   place of the batch's first row in its segment
    """
    shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
    stop = start + len(inputs[0])
    remedy = "check its inputs and its preprocess against the rows of this dataset"
    if any(words in str(error) for words in _WITHOUT_GRADIENTS):
        remedy = "it takes gradients in its forward, as forces are: write gradients: true for it in the YAML"
    return MemberError(
        f"member {place} raised {describe_exception(error)} (rows {start}–{stop - 1} of a segment, input {shapes})",
        remedy,
    )


def _not_finite(rows: torch.Tensor) -> list[int]:
    """Return the rows that hold NaN or infinity."""
    return torch.nonzero(~torch.isfinite(rows.reshape(len(rows), -1)).all(1)).reshape(-1).tolist()
