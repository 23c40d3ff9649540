"""References: what eager gave, batch size by batch size, on which other runtimes are held against it.

On the rows for which a runtime is prepared, and on others from all over the dataset: a trace that keeps what was
decided on the first is right on them alone. Of a member of a precision narrower than float32 eager is no better a
reference than what the member gives in float32: operators that are fused round less often than eager does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hpcens.engine import Engine, ran_out
from hpcens.errors import DeviceOutOfMemory, MemberError
from hpcens.members import Forward, result_axis
from hpcens.runtimes import accepted
from hpcens.runtimes.agreement import difference, spread_over_rows
from hpcens.specs import RunSpec, Space
from hpcens.vocabulary import Array, Profile, Rows

# Of the time to measure a member, what running it on the other rows may take; but at least so many rows are run.
_SHARE = 0.05
_LEAST = 2
_WIDE = "in float32"


@dataclass(frozen=True, slots=True)
class Pass:
    """A batch that fits.

    staged     its rows on the device, for each input
    shape      of a row of output
    workspace  bytes
    apart      difference from eager
    others     what it gives for the other rows; None where these were not run
    same_bits  whether a second call gave the same bits
    """

    staged: Any
    shape: tuple[int, ...]
    workspace: int
    apart: float
    others: Array | None
    same_bits: bool


@dataclass(slots=True)
class References:
    """Outputs of eager for the rows of a batch and for the other rows.

    others         (rows, *row shape) of each input of the dataset; may be none
    probabilities  whether outputs are compared as probabilities
    outputs        batch size → of the batch, and of the other rows; None where these could not be run
    labelled       gives what it is that labels of outputs are taken of, row by row; None where there are no classes
    whole          whether all other rows are run, whatever that takes: narrower precisions are judged on them
    wide           what the member gives in float32 for the other rows; None where it computes in no narrower precision,
                   or that could not be run
    """

    others: Rows
    probabilities: bool
    outputs: dict[int, tuple[Array, Array | None]] = field(default_factory=dict)
    labelled: Callable[[Array], Array | None] = lambda values: None
    whole: bool = False
    wide: Array | None = None
    _limited: bool = False

    def limit(self, rows_per_second: float, seconds: float) -> None:
        """Keep no more other rows than can be run in a share of the time, once that is known.

        seconds  to measure the member
        """
        if not self._limited and not self.whole:
            count = max(_LEAST, int(_SHARE * seconds * rows_per_second))
            self.others = tuple(array[:: max(1, len(array) // count)] for array in self.others)
            self._limited = True

    def look_at_float32(self, engine: Engine, make: Callable[[int], Forward], rows: Rows, seconds: float) -> None:
        """Find out what a member of a narrower precision gives in float32, where it can compute in it.

        engine   without members, as which it is left
        make     makes the member in float32, for batches of a size
        rows     of one batch, (batch, *row shape) of each input
        seconds  see `limit`
        """
        batch, hardware = len(rows[0]), engine.hardware
        try:
            engine.host(_WIDE, make(batch), batch=batch)
            staged = tuple(hardware.receive(hardware.stage(array)) for array in rows)
            began = time.perf_counter()
            engine.run(_WIDE, staged)
            self.limit(batch / (time.perf_counter() - began), seconds)
            self.wide = self.on_others(engine, _WIDE)
        except MemberError:  # its file may compute in its own precision alone
            return
        except Exception as error:
            if not isinstance(error, DeviceOutOfMemory) and not ran_out(hardware, error):
                raise
        finally:
            engine.clear()

    def apart(self, batch: int, values: Array, others: Array | None) -> float:
        """Return how far outputs of another runtime lie from those of eager in batches of the same size.

        From those in float32, where they are nearer to these on the other rows.

        values  for the rows of the batch
        others  for the other rows; None where they could not be run
        """
        reference, reference_of_others = self.outputs[batch]
        pairs = [(values, reference)]
        if others is not None and reference_of_others is not None:
            pairs.append((others, reference_of_others))
        scale = spread_over_rows(np.concatenate([wanted for _, wanted in pairs]))
        apart = max(difference(got, wanted, probabilities=self.probabilities, scale=scale) for got, wanted in pairs)
        if others is None or self.wide is None:
            return apart
        return min(apart, difference(others, self.wide, probabilities=self.probabilities))

    def judged(self, profile: Profile, others: Array | None) -> Profile:
        """Return the profile of a narrower precision with how far it is from float32.

        others  what the member gives for the other rows
        """
        if others is None or self.wide is None:
            return profile
        apart = difference(others, self.wide, probabilities=self.probabilities)
        pair = self.labelled(others), self.labelled(self.wide)
        differing = 0.0
        if pair[0] is not None and pair[1] is not None:
            differing = float((pair[0] != pair[1]).reshape(len(others), -1).any(axis=1).mean())
        return replace(
            profile,
            rounding=max(profile.rounding, apart),
            labels=max(profile.labels, differing),
            judged=len(others),
        )

    def on_others(self, engine: Engine, name: str) -> Array | None:
        """Run the other rows; None where there are none, they do not fit beside what is held, or one of them is bad."""
        hardware = engine.hardware
        if not self.others:
            return None
        try:
            return engine.run(name, tuple(hardware.receive(hardware.stage(array)) for array in self.others))[0]
        except MemberError:
            return None
        except Exception as error:
            if not isinstance(error, DeviceOutOfMemory) and not ran_out(hardware, error):
                raise
            return None

    def between_calls(self, batch: int, first: Array, second: Array) -> float:
        """Return how far outputs of two equal calls lie apart."""
        reference = self.outputs[batch][0] if batch in self.outputs else first
        return difference(second, first, probabilities=self.probabilities, scale=spread_over_rows(reference))


def labels(values: Array, spec: RunSpec, space: Space) -> Array | None:
    """Return the label of each row, of several positions each; of labels that do not exclude one another which hold.

    values  (rows, *output shape), as the ensemble combines them
    None where they are of no classes.
    """
    axis = result_axis(spec, values.shape[1:], space)
    if axis is None:
        return None
    if spec.task == "multilabel":
        return np.asarray(values > (0.5 if space == "probabilities" else 0.0))
    return np.asarray(values.argmax(axis=axis))


def rows_to_time(spec: RunSpec, load: Callable[[], Forward], rows: Rows, others: Rows) -> tuple[Rows, Rows]:
    """Return the rows to time a member on, and to hold it against eager on: none with faults, where those are masked.

    load  loads the member
    """
    if spec.bad_rows != "mask":
        return rows, others
    forward = load()
    return accepted(forward, rows), accepted(forward, others) if others else ()
