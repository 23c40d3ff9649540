"""State a job's planning problem: from the profiles in the book to what a planner may know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from hpcens.allocation import SEGMENTS_HELD, Problem, most_segment_bytes, timely
from hpcens.profiling import Needs
from hpcens.result import Finished, Output, outputs_of, require_same_axis
from hpcens.specs import Job, check_shapes, prepared_together
from hpcens.vocabulary import LARGEST_SEGMENT, OUTPUTS_HELD, Device, IoRates
from hpcens.vocabulary.groups import STACKED


def state_problem(
    needs: Needs, devices: Sequence[Device], rates: IoRates, *, readers: int = 1, reducers: int = 1
) -> Problem:
    """Return the problem of placing a job's members on these devices.

    readers, reducers  of them there may be at most
    Profiles are taken at the part of their rows/s that the latest runs reached on devices of their kind.
    Raises UsageError where a member is not profiled, or members disagree on the shape of their output.
    """
    families = {device.kind: device.family for device in devices}
    parts = {kind: median(needs.book.reached(kind) or [1.0]) for kind in families}
    profiles = {
        (kind, member, runtime): profile.scaled(parts[kind])
        for kind, family in families.items()
        for (member, runtime), profile in needs.profiles(kind, family).items()
    }
    grouping = needs.grouping
    profiles |= {
        (kind, group, STACKED): profile.scaled(parts[kind])
        for kind, family in families.items()
        for group, profile in grouping.profiles(kind, family).items()
    }
    job, preflight = needs.job, needs.preflight
    shapes = {name: profile.output_shape for (_, name, _), profile in profiles.items()}
    shapes |= _stored_shapes(job, preflight.stored)
    check_shapes(shapes)
    require_same_axis(job, preflight.space, next(iter(shapes.values())), preflight.stored)
    row_bytes = preflight.facts.row_bytes
    shape = next(iter(shapes.values()))
    outputs = outputs_of(job.spec, shape, preflight.space)
    scored = {member.name for member in needs.members}
    most = max(needs.parts.get(name, 1.0) for name in scored)
    parts_of_rows = {name: part for name, part in needs.parts.items() if name in scored}
    segment_bytes = most_segment_bytes(devices)
    problem = Problem(
        devices=tuple(devices),
        members=tuple(member.name for member in needs.members),
        profiles=profiles,
        row_bytes=row_bytes,
        output_bytes=max(_written_bytes(job, shape, outputs), _sent_if_wide(job, shape)),
        rates=rates,
        readers=readers,
        reducers=reducers,
        parts=parts_of_rows,
        stages=tuple(stage.members for stage in job.spec.cascade),
        segment_bytes=segment_bytes,
        reached=parts,
        groups={name: tuple(m.name for m in members) for name, members in grouping.groups.items()},
        together=prepared_together(needs.members),
        shared=not parts_of_rows,  # of rows that members do not score all, each is sent its own
    )
    if not job.spec.plan.batch_sizes:
        problem = timely(problem, preflight.facts.rows)
    # of a segment whose rows no member scores all, a device is sent what it scores
    sent = LARGEST_SEGMENT * most if parts_of_rows else segment_bytes
    # one is computed, another is on its way, and the next rows, or the outputs before, are there too
    batch_bytes = _largest_batch(needs, problem) * max(row_bytes, _sent_bytes(job, shape))
    return replace(problem, held=int(SEGMENTS_HELD * max(sent, batch_bytes)) + OUTPUTS_HELD)


def _largest_batch(needs: Needs, problem: Problem) -> int:
    """Return the rows of the largest batch that a device may be sent as a segment."""
    cpus = any(device.family == "cpu" for device in problem.devices)
    gpus = {device.kind for device in problem.devices if device.family == "cuda"}
    sizes = [size for member in needs.members for size in needs.batch_sizes(member.name, "cpu") if cpus]
    return max([*sizes, *(size for key, of in problem.profiles.items() if key[0] in gpus for size in of.batches)])


def rounded_inputs(needs: Needs) -> str:
    """Say which inputs of float64 are rounded for which members, in a line; empty where none are."""
    inputs = needs.preflight.facts.inputs
    rounded: dict[str, list[str]] = {}
    for member in needs.members:
        front = member.front
        taken = needs.preflight.facts.names if front.inputs is None else front.inputs
        for place, name in enumerate(taken):
            step = front.first_step(name, first=place == 0)
            wide = any(each.name == name and each.dtype.endswith("f8") for each in inputs)
            if wide and front.output_dtype == "float32" and (step is None or step.cast is None):
                rounded.setdefault(name, []).append(member.name)
    each = "; ".join(f"{name} for {', '.join(members)}" for name, members in rounded.items())
    return f"inputs of float64 are rounded to float32 ({each}); precision: float64 keeps them" if each else ""


def _written_bytes(job: Job, shape: Sequence[int], outputs: Sequence[Output]) -> int:
    """Return the bytes of one row of what is written; of a result that keeps few rows those that are sent, at least."""
    return 4 * math.prod(shape) if job.spec.output.keep is not None else sum(output.row_bytes for output in outputs)


def _sent_if_wide(job: Job, shape: Sequence[int]) -> int:
    """Return the bytes of one row of a member's output on its way, where the result may hold less: of float64."""
    return 8 * math.prod(shape) if any(member.output_dtype == "float64" for member in job.spec.members) else 0


def _sent_bytes(job: Job, shape: Sequence[int]) -> int:
    """Return the bytes of one row of a member's output on its way."""
    return max(4 * math.prod(shape), _sent_if_wide(job, shape))


def _stored_shapes(job: Job, stored: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the outputs for one row of members that the finished result has stored."""
    if not stored:
        return {}
    result = Finished(job.output)
    result.close()
    return {member: result.output(f"members/{member}").shape for member in stored}
