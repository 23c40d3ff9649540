"""Member trial: members are loaded and run on the dataset's first rows, before anything is queued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcens.checks.trials import Trial
from hpcens.dataset import Source
from hpcens.engine import Hardware, open_hardware, use_cores
from hpcens.errors import USAGE, HpcensError, MemberError, UsageError, as_verdict
from hpcens.members import load
from hpcens.specs import Job, MemberSpec, RunSpec, Space
from hpcens.vocabulary import Array, Device, Rows

if TYPE_CHECKING:
    from hpcens.engine import Engine

ROWS = 2
# of a row of probabilities: how far from 1 rounding may take their sum, in float32 and in narrower types
_SUM_TOLERANCE = 1e-3
_EPSILON = {"float64": 0.0, "float32": 0.0, "bfloat16": 2.0**-7, "float16": 2.0**-10}


def trials(
    job: Job, members: Sequence[str], *, inputs: Sequence[str], space: Space, device: Device
) -> Iterator[tuple[str, Trial | HpcensError | None]]:
    """Try members in turn: yield a member's name with None where its trial begins, then with what came of it.

    members  names of those to try
    inputs   names of the dataset's inputs, in their order
    space    the one the rule combines in
    """
    use_cores(device.cores)
    rows = Source(job.datasets, job.spec.dataset, job.limit).head(ROWS)
    hardware = open_hardware(device)  # imports torch: what follows is the members' own time
    for member in job.spec.members:
        if member.name in members:
            yield member.name, None
            try:
                outcome: Trial | HpcensError = try_member(
                    member, job.spec, inputs=inputs, space=space, cores=device.cores, hardware=hardware, rows=rows
                )
            except (Exception, SystemExit) as error:
                outcome = _fault(member, error)
            yield member.name, outcome


def _fault(member: MemberSpec, error: BaseException) -> HpcensError:
    """Return the error as one of the member's, or of the configuration's."""
    known = as_verdict(error)
    if not isinstance(error, HpcensError):
        return MemberError(f"member {member.name}: {known.what}", "it fails before it is run; try it alone")
    kind = UsageError if known.exit_code == USAGE else MemberError
    return kind(known.what, known.remedy)


def try_member(
    member: MemberSpec,
    spec: RunSpec,
    *,
    inputs: Sequence[str],
    space: Space,
    cores: int,
    hardware: Hardware,
    rows: Rows,
) -> Trial:
    """Load a member and run it on these rows, and on the first alone.

    Raises MemberError where it cannot be loaded or run, or gives what it does not say it gives.
    """
    from hpcens.engine import Engine
    from hpcens.members import unwritten

    engine = Engine(hardware)
    forward = load(member, spec, inputs=inputs, space=space, cores=cores)
    engine.host(member.name, forward, batch=ROWS)
    staged = tuple(hardware.receive(hardware.stage(array)) for array in rows)
    values, _ = engine.run(member.name, staged)
    if forward.rounded and member.precision is None:
        raise unwritten(member, "returns float64")
    warnings = [*_check_space(member, engine.given(member.name, staged)), *_alone(engine, member, staged, values)]
    return Trial(tuple(values.shape[1:]), tuple(warnings))


def _check_space(member: MemberSpec, values: Array) -> Iterator[str]:
    """Hold values against the space they are said to be in.

    values  (rows, …) of the member's output, in its own classes and space
    """
    tolerance = max(_SUM_TOLERANCE, _EPSILON[member.computes_in])
    if member.output == "probabilities":
        if values.ndim < 2:
            what = f"{values.shape}: probabilities of {len(values)} rows need an axis of classes"
            raise MemberError(f"member {member.name} returned {what}", "write output: values in the YAML")
        finite = values[np.isfinite(values).all(axis=-1)]
        if finite.size and not _are_probabilities(finite, tolerance):
            sums = finite.sum(axis=-1)
            worst = sums.flat[np.abs(sums - 1).argmax()]
            raise MemberError(
                f"member {member.name} says output: probabilities, but on the dataset's first rows it gives"
                f" {finite.min():.4g} to {finite.max():.4g}, with sums like {worst:.4g}",
                "write output: logits if they are logits; output: values if its classes do not exclude one another",
            )
    elif (
        member.output == "logits" and values.ndim > 1 and values.shape[-1] > 1 and _are_probabilities(values, tolerance)
    ):
        yield (
            f"member {member.name} says output: logits, but for the dataset's first rows it gives nothing negative, and"
            " sums of 1: if these are probabilities, write output: probabilities, lest softmax be taken twice"
        )


def _are_probabilities(values: Array, tolerance: float) -> bool:
    return bool((values >= 0).all() and (np.abs(values.sum(axis=-1) - 1) <= tolerance).all())


def _alone(engine: Engine, member: MemberSpec, staged: Sequence[Any], together: Array) -> Iterator[str]:
    """Run the member on a single row, which the last batch of a dataset may be; a warning where it fails."""
    try:
        values, _ = engine.run(member.name, [x[:1] for x in staged])
        wrong = f"it gives {list(values.shape)}" if values.shape[1:] != together.shape[1:] else ""
    except MemberError as error:
        wrong = error.what
    if wrong:
        yield f"member {member.name} fails where a batch has one row, and the last one may: {wrong}"
