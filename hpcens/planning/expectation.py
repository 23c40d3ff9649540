"""Expectation: which part of the rows comes to each stage of a cascade, by a sample of the dataset.

The sample is scored on the CPU, in a process of its own, stage by stage as a run does it; what came of it is kept in
the cache. A wrong expectation makes a plan worse, and no number of the result: which rows a stage scores is decided
in the run.

$HPCENS_CACHE/cascades/DIGEST.json  {"sampled": rows, "left": [rows that are left to each stage after the first]}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from hpcens import __version__
from hpcens.cache import cache_folder, keep_in_cache
from hpcens.checks.preflight import Preflight
from hpcens.combining import Combiner, masked_rows
from hpcens.dataset import Routes, Source, divided_rows
from hpcens.engine import open_hardware, use_cores
from hpcens.errors import HpcensError
from hpcens.files import read_as
from hpcens.members import load, result_axis
from hpcens.processes.isolation import NoAnswer, isolated
from hpcens.result import torch_version
from hpcens.specs import Job, RunSpec
from hpcens.vocabulary import Array, Bad, Device, ExpectedStage, Predict

# Of the sample: places all over the dataset, and rows of each.
_PLACES = 64
_ROWS = 8
# Seconds until the first rows are scored, members loaded; and until it is enough.
_START_SECONDS = 60.0
_SECONDS = 20.0
_GOLDEN = 0.6180339887498949
_95_OF_100 = 1.96  # standard deviations

Counts = tuple[int, list[int]]


def unknown_stages(spec: RunSpec) -> tuple[ExpectedStage, ...]:
    """Return what is expected where nothing is known: that all rows come to each stage."""
    return tuple(ExpectedStage(stage.members, 1.0, 0.0 if n else 1.0, 1.0, 0) for n, stage in enumerate(spec.cascade))


def kept_stages(job: Job, preflight: Preflight) -> tuple[ExpectedStage, ...]:
    """Return what is expected of a job's cascade by a sample that was scored before; `unknown_stages` without."""
    kept = read_as(_path(job, preflight), _counts)
    return unknown_stages(job.spec) if kept is None else stages_of(job.spec, *kept)


def sampled_stages(job: Job, preflight: Preflight) -> tuple[ExpectedStage, ...]:
    """Score a sample, keep what came of it and return it; `unknown_stages` where that fails, or takes too long."""
    sampled, left = 0, [0] * (len(job.spec.cascade) - 1)
    until = time.monotonic() + _START_SECONDS
    with isolated(partial(_score, job, preflight)) as process:
        while time.monotonic() < until:
            try:
                found: Counts | None = process.answer(until - time.monotonic())
            except NoAnswer:
                break
            if found is None:
                break
            if not sampled:
                until = time.monotonic() + _SECONDS
            sampled, left = found
    if not sampled:
        return unknown_stages(job.spec)
    keep_in_cache(_path(job, preflight), json.dumps({"sampled": sampled, "left": left}))
    return stages_of(job.spec, sampled, left)


def stages_of(spec: RunSpec, sampled: int, left: Sequence[int]) -> tuple[ExpectedStage, ...]:
    """Return what is expected by a sample.

    sampled  its rows
    left     of them that come to each stage after the first
    """
    first = ExpectedStage(spec.cascade[0].members, 1.0, 1.0, 1.0, sampled)
    pairs = zip(spec.cascade[1:], left, strict=True)
    # No part is 0: members that score nothing could not be planned. Neighbours may be alike: those of a place are
    # taken for one row, as to how sure that is.
    return first, *(
        ExpectedStage(stage.members, max(rows, 0.5) / sampled, *interval(rows / _ROWS, sampled / _ROWS), sampled)
        for stage, rows in pairs
    )


def interval(some: float, of: float) -> tuple[float, float]:
    """Return between which a part lies of which a sample has `some` in `of`, 19 times out of 20 (Wilson 1927)."""
    part, squared = some / of, _95_OF_100**2
    middle = (part + squared / (2 * of)) / (1 + squared / of)
    half = _95_OF_100 * sqrt(part * (1 - part) / of + squared / (4 * of * of)) / (1 + squared / of)
    return max(0.0, min(part, middle - half)), min(1.0, max(part, middle + half))


def _counts(raw: Mapping[str, Any]) -> Counts:
    sampled, left = int(raw["sampled"]), [int(rows) for rows in raw["left"]]
    if not all(0 <= rows <= sampled for rows in left) or sampled < 1:
        raise ValueError("it counts no rows")
    return sampled, left


def _path(job: Job, preflight: Preflight) -> Path:
    """Return where what came of a sample is kept: by all that it depends on."""
    spec = job.spec
    early = [member.name for member in spec.members if spec.stage_of(member.name) < len(spec.cascade) - 1]
    parts = [
        {name: dict(preflight.digests[name]) for name in early},
        [repr(stage) for stage in spec.cascade],
        *(repr(spec.rule), dict(preflight.rule), [member.weight for member in spec.members], preflight.space),
        *(preflight.facts.identity, job.limit, spec.task, spec.classes, spec.class_axis, spec.bad_rows),
        *(torch_version(), __version__),
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return cache_folder() / "cascades" / f"{digest}.json"


def _score(job: Job, preflight: Preflight) -> Iterator[Counts | None]:
    """Yield again and again how many rows are scored, and how many of them come to each later stage; None at the end.

    Ends at once where a member cannot be run here, as one that needs a GPU.
    """
    cores = max(1, len(os.sched_getaffinity(0)))
    use_cores(cores)
    with contextlib.suppress(HpcensError):
        yield from _Sample(job, preflight, cores).score()
    yield None


class _Sample:
    """A sample of a dataset, and the members of all stages but the last, on the CPU in eager."""

    def __init__(self, job: Job, preflight: Preflight, cores: int) -> None:
        from hpcens.engine import Engine

        spec = job.spec
        self._spec, self._preflight = spec, preflight
        self._source = Source(job.datasets, spec.dataset, job.limit)
        rows = {member.name: member.rows for member in spec.members}
        self._routes = Routes(self._source, spec.dataset.route, rows) if spec.routed else None
        self._engine = Engine(open_hardware(Device("sample", "cpu", "cpu", 1, cores=cores)))
        for member in spec.members:
            if spec.stage_of(member.name) < len(spec.cascade) - 1:
                forward = load(member, spec, inputs=preflight.facts.names, space=preflight.space, cores=cores)
                self._engine.host(member.name, forward, batch=_ROWS)
        self._combiner: Combiner | None = None

    def score(self) -> Iterator[Counts]:
        """Score the sample place by place, each few of them from all over the dataset."""
        size = min(_ROWS, self._source.rows)
        places = min(_PLACES, self._source.rows // size)
        order = sorted(range(places), key=lambda place: (place + 1) * _GOLDEN % 1.0)
        sampled, left = 0, [0] * (len(self._spec.cascade) - 1)
        for place in order:
            first = (2 * place + 1) * (self._source.rows - size) // (2 * places)
            left = [before + rows for before, rows in zip(left, self._left(first, first + size), strict=True)]
            sampled += size
            yield sampled, left

    def _left(self, start: int, stop: int) -> list[int]:
        """Return how many of some rows come to each stage after the first."""
        spec, names = self._spec, self._spec.member_names
        there = np.ones((stop - start, len(names)), bool)
        if self._routes is not None:
            there &= self._routes.present(start, stop)
        stages = np.array([spec.stage_of(name) for name in names])
        sure = np.zeros(stop - start, bool)
        given: dict[str, Array] = {}
        passes: dict[str, Array] = {}
        left = []
        for number, stage in enumerate(spec.cascade[:-1]):
            present = there & (stages == number) & ~sure[:, None]
            sure[self._run(start, stop, present, stage.members, given, passes)] = True
            if given:  # where routes leave no row to any member there is nothing to decide by
                asked = there & (stages <= number) & ~sure[:, None]
                sure |= self._combining(given).sure(stage, given, asked, passes)
            left.append(int((~sure).sum()))
        return left

    def _run(
        self,
        start: int,
        stop: int,
        present: Array,
        members: Sequence[str],
        given: dict[str, Array],
        passes: dict[str, Array],
    ) -> list[int]:
        """Run members on their rows, into what was given; return the places of rows that are to be masked.

        given   takes member → (rows, *output shape); passes: takes member → the entropies that it carries
        """
        bad: dict[str, list[Bad]] = {}
        divided = divided_rows(self._source, start, stop, present, self._spec.member_names, members)
        for member, rows in divided.rows.items():
            for answer in self._engine.predict(Predict(start, (member,), rows)):
                places = np.flatnonzero(present[:, self._spec.member_names.index(member)])
                values = np.full((stop - start, *answer.values.shape[1:]), np.nan, answer.values.dtype)
                values[places] = answer.values
                if (carried := self._engine.carried(member)) is not None:
                    values, passes[member] = carried.parted(values)
                given[member] = values
                bad[member] = [Bad(each.cause, tuple(places[list(each.rows)].tolist())) for each in answer.bad]
        return masked_rows("mask", start, bad)

    def _combining(self, given: Mapping[str, Array]) -> Combiner:
        if self._combiner is None:
            spec, space = self._spec, self._preflight.space
            axis = result_axis(spec, next(iter(given.values())).shape[1:], space)
            self._combiner = Combiner(spec, space, (), self._preflight.rule, axis)
        return self._combiner
