"""Member trial: members are loaded and run on the dataset's first rows, before anything is queued."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcens.checks.steadiness import examine
from hpcens.checks.trials import Trial
from hpcens.dataset import Source
from hpcens.engine import Hardware, open_hardware, use_cores
from hpcens.errors import USAGE, HpcensError, MemberError, MemberMisnamed, UsageError, as_verdict
from hpcens.members import Taken, describe_taken, has_code, load, taken
from hpcens.processes import die_with
from hpcens.specs import Job, MemberSpec, RunSpec, Space
from hpcens.usercode.imported import Imported
from hpcens.vocabulary import Array, Device, Rows

if TYPE_CHECKING:
    from hpcens.engine import Engine
    from hpcens.members import Forward

ROWS = 2
# Other rows of the dataset, by which a larger batch is filled; fewer where they are large.
_OTHERS = 6
_OTHER_BYTES = 64 << 20
# Seconds that the first batch may take, so that some more can be run in the time of a trial.
_QUICK = 4.0
# of a member with more
_MOST_PASSES = 3
# of a row of probabilities: how far from 1 rounding may take their sum, in float32 and in narrower types
_SUM_TOLERANCE = 1e-3
# numbers from 0 to 1 that are hardly all logits
_MANY = 16
_CHANNELS = (1, 3, 4)  # of images
_EPSILON = {"float64": 0.0, "float32": 0.0, "bfloat16": 2.0**-7, "float16": 2.0**-10, "tf32": 2.0**-10}


def trials(
    job: Job, members: Sequence[str], *, inputs: Sequence[str], space: Space, device: Device
) -> Iterator[tuple[str, Trial | HpcensError | None]]:
    """Try members in turn: yield a member's name with None where its trial begins, then with what came of it.

    Each code of theirs is tried in a process of its own, forked from this one before anything of theirs is imported,
    so that what it imports is known apart from what others do.

    members  names of those to try
    inputs   names of the dataset's inputs, in their order
    space    the one the rule combines in
    """
    use_cores(device.cores)
    import hpcens.engine.engine  # noqa: F401 torch, once for all: what follows is the members' own time

    source = Source(job.datasets, job.spec.dataset, job.limit)
    rows = source.head(ROWS)
    others = other_rows(source)
    by_code: dict[str, list[MemberSpec]] = {}
    for member in job.spec.members:
        if member.name in members:
            by_code.setdefault(_code(member), []).append(member)
    for alike in by_code.values():
        if _continue_in_child():
            hardware = open_hardware(device)
            before = frozenset(sys.modules)
            for member in alike:
                yield member.name, None
                try:
                    trial = try_member(
                        member,
                        job.spec,
                        inputs=inputs,
                        space=space,
                        cores=device.cores,
                        hardware=hardware,
                        rows=rows,
                        others=others,
                    )
                    imported = Imported.since(before) if has_code(member) else trial.imported
                    yield member.name, replace(trial, imported=imported, family=device.family)
                except (Exception, SystemExit) as error:
                    yield member.name, _fault(member, error)
            os._exit(0)


def _code(member: MemberSpec) -> str:
    """Return what is the same for members that run the same code."""
    unpickled = str(member.file) if member.unpickles else ""
    calls = list(member.functions.values())
    parts: list[object] = [member.factory, member.arguments, unpickled, calls]
    if member.featuriser is not None:
        parts += [member.front.factory, member.front.arguments, list(member.front.functions.values())]
    return json.dumps(parts, sort_keys=True)


def _continue_in_child() -> bool:
    """Fork; return True in the child, False in the parent once that child has ended well. Else end alike."""
    parent = os.getpid()
    if (child := os.fork()) == 0:
        die_with(parent)
        return True
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler to put back
            signal.signal(-code, signal.SIG_DFL)
        os.kill(parent, -code)
    if code:
        os._exit(code)
    return False


def _fault(member: MemberSpec, error: BaseException) -> HpcensError:
    """Return the error as one of the member's, or of the configuration's."""
    known = as_verdict(error)
    if not isinstance(error, HpcensError):
        return MemberError(f"member {member.name}: {known.what}", "it fails before it is run; try it alone")
    if isinstance(error, MemberMisnamed):
        return MemberMisnamed(error.what, error.remedy)
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
    others: Rows = (),
) -> Trial:
    """Load a member and run it on these rows, together, alone, and with others.

    rows    the dataset's first, for each input
    others  some from elsewhere in the dataset, for each input; may be none
    Raises MemberError where it cannot be loaded or run, or gives what it does not say it gives.
    """
    from hpcens.engine import Engine
    from hpcens.members import unwritten

    engine, whole = Engine(hardware), member
    if member.passes is not None:  # what is found out hangs on no number of them
        member = replace(member, passes=replace(member.passes, count=min(member.passes.count, _MOST_PASSES)))
    forward = load(member, spec, inputs=inputs, space=space, cores=cores)
    engine.host(member.name, forward, batch=ROWS + _OTHERS)
    staged = tuple(hardware.receive(hardware.stage(array)) for array in rows)
    began = time.monotonic()
    try:
        values, _ = engine.run(member.name, staged)
    except MemberError as error:
        remedies = [error.remedy, *_channels_last(member, [rows[place] for place in forward.inputs])]
        raise MemberError(error.what, "\n".join(remedies)) from error.__cause__
    quick = time.monotonic() - began < _QUICK
    if member.unsaid and member.output == "values" and engine.rounds(member.name, staged):
        raise unwritten(member, "returns float64")
    looked_at = engine.first_look(member.name, staged)
    given = engine.given(member.name, staged)
    shape = tuple(given.shape[1:])
    how = taken(member, spec, shape, space)
    warnings = [*_check_space(member, spec, how, given), *_alone(engine, member, forward, staged, values)]
    warnings += _never_straight(member)
    notes = [f"member {member.name}: {note}" for note in (*forward.notes, *looked_at)]
    found = examine(engine, member, rows, others if quick else (), values, probabilities=space == "probabilities")
    if changed := forward.surroundings.changed:
        warnings.append(forward.surroundings.described(changed))
    words = ", ".join(filter(None, (describe_taken(whole, spec, shape, space), forward.viewed)))
    return Trial(
        tuple(values.shape[1:]),
        (*notes, *warnings),
        taken=words,
        state=forward.state,
        steadiness=found,
        complex=forward.complex,
    )


def _channels_last(member: MemberSpec, rows: Sequence[Array]) -> Iterator[str]:
    """Ask whether images are to be turned, where they look as if their channels were last, and no step turns them.

    rows  of each input the member takes
    """
    if any(step.layout is not None for step in member.front.preprocess):
        return
    for array in rows:
        if array.ndim == 4 and array.shape[-1] in _CHANNELS and array.shape[1] not in _CHANNELS:
            shape = tuple(array.shape[1:])
            yield f"its rows are {shape}, channels last: did you mean preprocess: [{{layout: NHWC->NCHW}}]?"
            return


def other_rows(source: Source) -> Rows:
    """Read some rows from all over the dataset, for each input; none where there are no others than the first."""
    count = min(_OTHERS, source.rows - ROWS, max(1, _OTHER_BYTES // max(1, source.row_bytes)))
    if count < 1:
        return ()
    places = [ROWS + (source.rows - ROWS - 1) * (i + 1) // count for i in range(count)]
    pieces = [source.rows_between(place, place + 1) for place in places]
    return tuple(np.concatenate(arrays) for arrays in zip(*pieces, strict=True))


def _check_space(member: MemberSpec, spec: RunSpec, how: Taken, values: Array) -> Iterator[str]:
    """Hold values against the space they are said to be in.

    how     what they are taken to be
    values  (rows, …) of the member's output, in its own classes and space
    """
    tolerance = max(_SUM_TOLERANCE, _EPSILON[member.computes_in])
    if member.output == "probabilities":
        if how.axis is None:
            what = f"{values.shape}: probabilities of {len(values)} rows need an axis of classes"
            remedy = "write task: binary in the YAML if they are of the second of two classes, else output: values"
            raise MemberError(f"member {member.name} returned {what}", remedy)
        if how.pair or spec.task == "multilabel":
            _require_within_one(member, values[np.isfinite(values)], tolerance)
            return
        of_classes = np.moveaxis(values, how.axis, -1)
        finite = of_classes[np.isfinite(of_classes).all(axis=-1)]
        if finite.size and not _are_probabilities(finite, tolerance):
            sums = finite.sum(axis=-1)
            worst = sums.flat[np.abs(sums - 1).argmax()]
            raise MemberError(
                f"member {member.name} says output: probabilities, but on the dataset's first rows it gives"
                f" {finite.min():.4g} to {finite.max():.4g}, with sums like {worst:.4g} over axis {how.axis}",
                "write output: logits if they are logits; task: multilabel if its classes do not exclude one another",
            )
    elif member.output == "logits" and how.axis is not None and values.size:
        of_classes = np.moveaxis(values, how.axis, -1) if values.ndim > 1 else values[:, None]
        alike = spec.task == "multilabel" and values.size >= _MANY and values.min() >= 0 and values.max() <= 1
        if alike or (of_classes.shape[-1] > 1 and _are_probabilities(of_classes, tolerance)):
            sums = "more than 1" if alike else "negative, and sums of 1"
            yield (
                f"member {member.name} says output: logits, but for the dataset's first rows it gives nothing {sums}:"
                " if these are probabilities, write output: probabilities, lest"
                f" {'sigmoid' if alike else 'softmax'} be taken twice"
            )


def _never_straight(member: MemberSpec) -> Iterator[str]:
    """Warn where all views are turned: some libraries take the row itself as one of them, unsaid."""
    views = member.views.apply if member.views is not None else ()
    if views and all(view.by_name and view.call != "identity" for view in views):
        named = ", ".join(view.call for view in views)
        yield (
            f"member {member.name} does not see its rows as they are, only by {named}: write"
            f" views: [identity, {named}], unless that is meant"
        )


def _require_within_one(member: MemberSpec, finite: Array, tolerance: float) -> None:
    """Raise MemberError where these are no probabilities, each by itself."""
    if finite.size and not (finite.min() >= 0 and finite.max() <= 1 + tolerance):
        raise MemberError(
            f"member {member.name} says output: probabilities, but on the dataset's first rows it gives"
            f" {finite.min():.4g} to {finite.max():.4g}",
            "write output: logits if they are logits",
        )


def _are_probabilities(values: Array, tolerance: float) -> bool:
    return bool((values >= 0).all() and (np.abs(values.sum(axis=-1) - 1) <= tolerance).all())


def _alone(
    engine: Engine, member: MemberSpec, forward: Forward, staged: Sequence[Any], together: Array
) -> Iterator[str]:
    """Run the member on a single row, which the last batch of a dataset may be; a warning where that needs a second.

    Raises MemberError where it fails with one as well.
    """
    try:
        values, _ = engine.run(member.name, [x[:1] for x in staged])
        wrong = f"it gives {list(values.shape)}" if values.shape[1:] != together.shape[1:] else ""
    except MemberError as error:
        wrong = error.what
    if wrong:
        raise MemberError(
            f"member {member.name} fails where a batch has one row, and the last one may: {wrong}",
            "let its forward keep the axis of rows: squeeze(-1), not squeeze()",
        )
    if forward.single_rows.doubles:
        yield f"member {member.name} fails where a batch has one row: such a batch is run as two rows, and cut"
