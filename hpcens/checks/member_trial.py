"""The trial: each member run on the dataset's first rows, in a process of its own, before anything is queued.

A factory may print, exit, hang or crash: here that ends one trial, and `contract` names the member.

    python -m hpcens.checks.member_process FOLDER PARENT

reads FOLDER/request.json and writes FOLDER/answers, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcens.config import job_from_json, job_to_json
from hpcens.dataset.source import Source
from hpcens.engine.hardware import Hardware, open_hardware, use_cores
from hpcens.errors import HpcensError, MemberError, as_verdict
from hpcens.processes import die_with
from hpcens.specs import Job, MemberSpec, RunSpec, Space
from hpcens.vocabulary import Array, Device, Rows

if TYPE_CHECKING:
    from hpcens.engine.engine import Engine

ROWS = 2
_SUM_OF_PROBABILITIES = 1e-3
_EPSILON = {"float32": 0.0, "bfloat16": 2.0**-7, "float16": 2.0**-10}


@dataclass(frozen=True, slots=True)
class Trial:
    """What a member gave: the shape of one row of its output, and what looks wrong but is no fault."""

    shape: tuple[int, ...]
    warnings: tuple[str, ...] = ()


def write_request(
    folder: Path, job: Job, members: Sequence[str], *, inputs: Sequence[str], space: Space, device: Device
) -> None:
    """inputs: names of the dataset's inputs, in their order; space: the one the rule combines in."""
    request = {"job": job_to_json(job), "members": members, "inputs": inputs, "space": space, "device": asdict(device)}
    (folder / "request.json").write_text(json.dumps(request))


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
    from hpcens.engine.engine import Engine
    from hpcens.members import load

    engine = Engine(hardware)
    forward = load(member, spec, inputs=inputs, space=space, cores=cores)
    engine.host(member.name, forward, batch=ROWS)
    staged = tuple(hardware.receive(hardware.stage(array)) for array in rows)
    values, _ = engine.run(member.name, staged)
    warnings = [*_check_space(member, engine.given(member.name, staged)), *_alone(engine, member, staged, values)]
    return Trial(tuple(values.shape[1:]), tuple(warnings))


def _check_space(member: MemberSpec, given: Array) -> Iterator[str]:
    """given: in the member's own classes and space."""
    tolerance = max(_SUM_OF_PROBABILITIES, _EPSILON[member.precision])
    if member.output == "probabilities":
        if given.ndim < 2:
            what = f"{given.shape}: probabilities of {len(given)} rows need an axis of classes"
            raise MemberError(f"member {member.name} returned {what}", "write output: values in the YAML")
        real = given[np.isfinite(given).all(axis=-1)]
        if real.size and not _are_probabilities(real, tolerance):
            sums = real.sum(axis=-1)
            worst = sums.flat[np.abs(sums - 1).argmax()]
            raise MemberError(
                f"member {member.name} says output: probabilities, but on the dataset's first rows it gives"
                f" {real.min():.4g} to {real.max():.4g}, with sums like {worst:.4g}",
                "write output: logits if they are logits; output: values if its classes do not exclude one another",
            )
    elif member.output == "logits" and given.ndim > 1 and given.shape[-1] > 1 and _are_probabilities(given, tolerance):
        yield (
            f"member {member.name} says output: logits, but for the dataset's first rows it gives nothing negative, and"
            " sums of 1: if these are probabilities, write output: probabilities, lest softmax be taken twice"
        )


def _are_probabilities(given: Array, tolerance: float) -> bool:
    return bool((given >= 0).all() and (np.abs(given.sum(axis=-1) - 1) <= tolerance).all())


def _alone(engine: Engine, member: MemberSpec, staged: Sequence[Any], together: Array) -> Iterator[str]:
    """Whether the member also takes a single row, which the last batch of a dataset may be."""
    try:
        values, _ = engine.run(member.name, [x[:1] for x in staged])
        wrong = f"it gives {list(values.shape)}" if values.shape[1:] != together.shape[1:] else ""
    except MemberError as error:
        wrong = error.what
    if wrong:
        yield f"member {member.name} fails where a batch has one row, and the last one may: {wrong}"


def main(folder: Path) -> None:
    """Try all members that are asked for; never returns, so that no thread a member left behind holds it up."""
    request = json.loads((folder / "request.json").read_text())
    job, device = job_from_json(request["job"]), Device(**request["device"])
    use_cores(device.cores)
    with (folder / "answers").open("a", buffering=1) as answers:

        def say(**answer: Any) -> None:
            answers.write(json.dumps(answer) + "\n")

        rows = Source(job.datasets, job.spec.dataset, job.limit).head(ROWS)
        hardware = open_hardware(device)  # imports torch: what follows is the members' own time
        for member in job.spec.members:
            if member.name in request["members"]:
                say(begun=member.name)
                try:
                    trial = try_member(
                        member,
                        job.spec,
                        inputs=request["inputs"],
                        space=request["space"],
                        cores=device.cores,
                        hardware=hardware,
                        rows=rows,
                    )
                    say(member=member.name, trial=asdict(trial))
                except (Exception, SystemExit) as error:
                    known = _known(member, error)
                    say(member=member.name, what=known.what, remedy=known.remedy, code=known.exit_code)
    os._exit(0)


def _known(member: MemberSpec, error: BaseException) -> HpcensError:
    known = as_verdict(error)
    if isinstance(error, HpcensError):
        return known
    return MemberError(f"member {member.name}: {known.what}", "it fails before it is run; try it alone")


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    main(Path(sys.argv[1]))
