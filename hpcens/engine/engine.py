"""The engine: all instances of one device, run one after another on rows that are staged once.

A batch that does not fit the device's memory is halved and the member's segment run again from its
first row, so that its bytes depend on the segment and the batch size alone; the ceiling is remembered.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from hpcens.engine.groups import parted, units_of
from hpcens.engine.guard import require_device, require_whole
from hpcens.engine.hardware import Hardware
from hpcens.engine.judge import Judge
from hpcens.engine.outputs import Outputs
from hpcens.engine.staging import Staging
from hpcens.engine.together import Launched, good_rows, grouped, run_batches
from hpcens.errors import DeviceOutOfMemory, MemberError, UsageError
from hpcens.members import Carried, Forward, PreprocessingFailed, cause_of
from hpcens.usercode import describe_exception
from hpcens.vocabulary import Array, Bad, Message, Predict, Predicted

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

    def __init__(self, hardware: Hardware, blank: tuple[int, ...] | None = None, *, segment_rows: int = 0) -> None:
        """Start without members.

        blank         shape of a member's output for one row, where rows on which a preprocessing raises are left out
                      and reported as bad; None where such a row ends the run
        segment_rows  of each segment but the last; members with passes draw by the number of a row
        """
        self.hardware = hardware
        self._blank = blank
        self._segment_rows = segment_rows
        self._members: dict[str, Loaded] = {}
        self._ceilings: dict[str, int] = {}
        self._staging = Staging(hardware)

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
        self._staging.drop()
        self.hardware.release()

    def rest(self) -> None:
        """Let go of what is staged; the members stay."""
        self._staging.drop()

    def stage(self, task: Message) -> None:
        """Begin to bring a task's rows to the device. What does not fit now is brought when its turn comes."""
        if isinstance(task, Predict):
            self._staging.stage(task)

    def predict(self, task: Predict) -> Iterator[Predicted]:
        """Yield one answer per member, (rows of the segment, *output shape), with the rows that are bad.

        Of a member with passes, with what it carries beside its classes (`members.carried`). A group runs once for all
        of its members that are asked for.

        Raises MemberError where a member raises or gives a wrong number of rows, UsageError where the YAML does not say
        what it gives, DeviceOutOfMemory where not even one row fits.
        """
        rows = self._staging.take(task)
        units = units_of(task.members, {name: loaded.forward for name, loaded in self._members.items()})
        judge = Judge(self.hardware, rows, [self._members[name].forward for name in units])
        launched, began = deque[list[Launched]](), time.perf_counter()
        for names in (*grouped(units, self._members, self._ceilings), *[()] * self.hardware.ahead):
            if names:
                launched.append(self._launch_all(names, rows, task.segment * self._segment_rows + task.start))
            if launched and (not names or len(launched) > self.hardware.ahead):
                together = launched.popleft()
                answers = [self._answers(of, units[of.name], judge) for of in together]
                # since those before were there: passes do not overlap, and a group's members took equal parts
                of_each = (time.perf_counter() - began) / sum(of.seconds for of in together)
                for of, given in zip(together, answers, strict=True):
                    for member, values, bad in given:
                        took = of_each * of.seconds / len(given)
                        yield Predicted(task.segment, member, values, of.batch, took, bad, task.part)
                began = time.perf_counter()

    def _answers(self, of: Launched, members: Sequence[str], judge: Judge) -> list[tuple[str, Array, tuple[Bad, ...]]]:
        """Return each of these members with its output and the rows that are bad. of: a member, or their group."""
        forward, values = self._members[of.name].forward, self._collect(of)
        return [(m, own, judge.bad(forward, own, of.raised)) for m, own in parted(forward, values, members)]

    def run(self, name: str, rows: Sequence[torch.Tensor]) -> tuple[Array, int]:
        """Return a member's output for rows on the device, and the batch size that fitted.

        rows  (rows, *row shape) of each input of the dataset
        """
        launched = self._launch(name, rows)
        values, carried = self._collect(launched), self._members[name].forward.carried
        return (values if carried is None else carried.parted(values)[0]), launched.batch

    def _collect(self, launched: Launched) -> Array:
        try:
            return launched.outputs.fetch()
        except Exception as error:
            require_device(self.hardware, error)
            raise

    def _launch_all(self, names: tuple[str, ...], rows: Sequence[torch.Tensor], first: int) -> list[Launched]:
        """Begin all batches of members that are run together; of each by itself where they do not fit together."""
        if len(names) > 1:
            try:
                batch = self._members[names[0]].batch
                return self._forward(names, rows, min(batch, self._ceilings.get(names[0], batch)), first)
            except Exception as error:
                if not ran_out(self.hardware, error):
                    raise
            self.hardware.release()  # outside the handler, as below
        return [self._launch(name, rows, first) for name in names]

    def _launch(self, name: str, rows: Sequence[torch.Tensor], first: int = 0) -> Launched:
        """Begin all batches of a member, smaller ones where they do not fit. first: number of the first row."""
        loaded = self._members[name]
        batch = min(loaded.batch, self._ceilings.get(name, loaded.batch))
        try:
            while True:
                try:
                    return self._forward((name,), rows, batch, first)[0]
                except Exception as error:
                    if not ran_out(self.hardware, error):
                        raise
                    reason = str(error)
                # outside the handler: the traceback's frames hold the tensors that are in the way
                ahead = self._staging.drop(scarce=True)
                self.hardware.release()
                if ahead:  # without it the same batch may fit
                    continue
                if batch == 1:
                    raise DeviceOutOfMemory(
                        f"member {name}: one row does not fit the memory of its device ({reason})",
                        "give it a device with more memory, or fewer members to share it with",
                    )
                batch = (batch + 1) // 2
                self._ceilings[name] = batch
                if loaded.again is not None:
                    planned, again = loaded.batch, loaded.again
                    del loaded, self._members[name]  # there is no room for both
                    loaded = Loaded(again(batch), planned, again)
                    self._members[name] = loaded
        finally:
            self._staging.scarce = False

    def given(self, name: str, rows: Sequence[torch.Tensor]) -> Array:
        """Return what a member itself gives for one batch: before any softmax, in its own classes."""
        forward = self._members[name].forward
        outputs = Outputs(self.hardware, name, len(rows[0]))
        with forward.surroundings.around(), forward.grad_mode():
            outputs.take(0, forward.given(*(rows[place] for place in forward.inputs)))
            return outputs.fetch()

    def carried(self, name: str) -> Carried | None:
        """Return where entropies lie beside what a member gave last; None where there are none."""
        return self._members[name].forward.carried

    def first_look(self, name: str, rows: Sequence[torch.Tensor]) -> tuple[str, ...]:
        """Return what is to be known of a member's passes over these rows; raises what `Draws.require_any` does."""
        forward = self._members[name].forward
        with forward.surroundings.around(), forward.grad_mode():
            return forward.first_look(*(rows[place] for place in forward.inputs))

    def rounds(self, name: str, rows: Sequence[torch.Tensor]) -> bool:
        """Tell whether a member's network returns numbers that its outputs, of float32, do not keep."""
        forward = self._members[name].forward
        with forward.surroundings.around(), forward.grad_mode():
            return forward.rounds(*(rows[place] for place in forward.inputs))

    def _forward(self, names: tuple[str, ...], rows: Sequence[torch.Tensor], batch: int, first: int) -> list[Launched]:
        """Run members that prepare their rows alike on all rows in batches of this size."""
        forwards = [self._members[name].forward for name in names]
        launched = [Launched(name, Outputs(self.hardware, name, len(rows[0])), batch) for name in names]
        run_batches(launched, forwards, rows, batch, partial(self._run_batch, first), self.hardware)
        return launched

    def _run_batch(
        self, first: int, launched: Launched, forward: Forward, piece: Sequence[torch.Tensor], start: int
    ) -> None:
        """Run a member on a batch. first: number of the segment's first row; start: place of the batch's in it."""
        try:
            launched.outputs.take(start, forward(*piece, first=first + start))
        except (MemberError, UsageError):
            raise
        except PreprocessingFailed as failure:
            if ran_out(self.hardware, failure):
                raise
            require_whole(self.hardware, failure)  # else no row would be good
            if self._blank is None or isinstance(failure.error, SystemExit):
                raise _failed(f"{launched.name}: {failure.step}", piece, start, failure.error) from failure.error
            self._without_bad(forward, piece, start, self._blank, launched, first, failure)
        except (Exception, SystemExit) as error:
            if self.hardware.out_of_memory(error):
                raise  # as it is: an error that causes itself would keep the tensors of its frames alive
            require_device(self.hardware, error)
            raise _failed(launched.name, piece, start, error) from error

    def _without_bad(
        self,
        forward: Forward,
        inputs: Sequence[torch.Tensor],
        start: int,
        blank: tuple[int, ...],
        launched: Launched,
        first: int,
        failure: PreprocessingFailed,
    ) -> None:
        """Run a batch on some of whose rows the preprocessing raises: a good row stands in for each of them.

        The batch keeps its size, so that the bytes of its other rows are those they would have had.

        inputs   (batch, *row shape) of each input the member takes
        start    place of the batch's first row in its segment
        blank    shape of a row of output, for a batch of which no row is good
        first    number of the segment's first row
        failure  that of the whole batch
        Raises MemberError where no row of it is to blame.
        """
        count, outputs = len(inputs[0]), launched.outputs
        good, stand_ins = good_rows(forward, inputs)
        bad = sorted(set(range(count)) - set(good))
        if not bad:  # it raises on the batch, and on no row of it alone
            raise _failed(f"{launched.name}: {failure.step}", inputs, start, failure.error) from failure.error
        launched.raised += [start + row for row in bad]
        if not good:
            empty = (count, *forward.widened(blank))
            outputs.take(start, torch.full(empty, torch.nan, dtype=forward.dtype, device=inputs[0].device))
            return
        outputs.take(start, forward(*stand_ins, first=first + start))
        outputs.blank([start + row for row in bad])


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
    if "on the same device" in str(error):
        remedy = (
            "it makes tensors on the device it was traced on: trace it on a GPU, take devices from its inputs"
            " (x.device), or export it with torch.export, whose programs are moved"
        )
    return MemberError(
        f"member {place} raised {describe_exception(error)} (rows {start}–{stop - 1} of a segment, input {shapes})",
        remedy,
    )
