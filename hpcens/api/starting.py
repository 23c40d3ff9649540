"""Score a dataset: here and now, or as a job that goes on by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from hpcens.api.configuration import Config, PathLike, job_of
from hpcens.api.handle import Handle, raise_unless_complete
from hpcens.api.opened import Result, open_result
from hpcens.api.watching import require_main_thread, watcher
from hpcens.checks.preflight import Preflight
from hpcens.config import asked_of_slurm
from hpcens.errors import Incomplete, UsageError
from hpcens.launch import local, slurm, submitit_local
from hpcens.launch.as_rank import inside_world
from hpcens.launch.follow import StartedJob, Watcher
from hpcens.launch.start import CheckedJob, Started, Way, check_once, start, trials_of
from hpcens.planning.capacity import Capacity, Expectation
from hpcens.planning.nodes import Allocation, asking_for
from hpcens.runs import AGAIN, RunDirectory, Verdict
from hpcens.runs.announcement import Announcement
from hpcens.runs.cancellation import asked_to_end, withdraw, withdraw_nameless
from hpcens.shell import option, verb
from hpcens.specs import Job, SlurmSpec


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a job is to go.

    local     to this host, even where Slurm answers
    slurm     settings KEY=VALUE over those of the configuration
    deadline  seconds in which the fewest nodes of a Slurm cluster are to finish
    resubmit  jobs that wait behind the first, each to take over where the one before was killed
    """

    local: bool = False
    slurm: Sequence[str] = ()
    deadline: float | None = None
    resubmit: int = 0


def run(
    datasets: PathLike | Sequence[PathLike],
    config: Config = None,
    *,
    output: PathLike | None = None,
    limit: int | None = None,
    plan: PathLike | None = None,
    trace: PathLike | None = None,
    quiet: bool = False,
) -> Result:
    """Score a dataset on this host's devices, wait for the end, and return the result, open.

    The same call again continues what was interrupted; where the result is complete it is opened at once. Ctrl-C, or
    interrupting the kernel of a notebook, lets the run finish what it has begun.

    datasets  one HDF5 file or several, in the order of their rows; patterns as 'part-*.h5'
    config    as `load_config` takes it
    output    the result; None: as the configuration says, else DATASET.predictions.h5 in the working folder
    limit     score so many first rows, into an output of their own; None: all
    plan      file of a plan whose batch and segment sizes are kept
    trace     file for what every rank did when, for Perfetto
    quiet     print no progress
    Raises HpcensError with what the run ended with; `Incomplete` where the same call continues it.
    """
    require_main_thread("hpcens.run")
    if inside_world():
        raise UsageError("this process is one of several that mpiexec or srun started", "there, use: hpcens run")
    job = job_of(datasets, config, output=output, limit=limit, plan=plan, trace=trace)
    with closing(watcher(quiet=quiet)) as shown:
        verdict = score(job, shown)
    if verdict is not None:
        raise_unless_complete(verdict)
    return open_result(job.output)


def submit(
    datasets: PathLike | Sequence[PathLike],
    config: Config = None,
    *,
    output: PathLike | None = None,
    limit: int | None = None,
    plan: PathLike | None = None,
    local: bool = False,
    slurm: Mapping[str, Any] | None = None,
    deadline: float | None = None,
    resubmit: int = 0,
) -> Handle:
    """Score a dataset as a job: of Slurm where one answers, else in the background of this host; return its handle.

    datasets, config, output, limit, plan  as those of `run`
    local     stay on this host, even where Slurm answers
    slurm     keys of the configuration's section `slurm`, over what stands there
    deadline  ask Slurm for the fewest nodes that finish in so many seconds
    resubmit  jobs that wait behind the first, each to take over where the one before was killed
    Raises HpcensError: what is wrong with the job, or that Slurm refuses it.
    """
    require_main_thread("hpcens.submit")
    job = job_of(datasets, config, output=output, limit=limit, plan=plan)
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (slurm or {}).items()}
    placing = Placing(local, [f"{key}={word}" for key, word in words.items()], deadline, resubmit)
    handed_in = hand_in(job, placing)
    return Handle(job.output, handed_in and handed_in[0])


def score(job: Job, shown: Watcher) -> Verdict | None:
    """Score a job on this host, and return how it ended; None where its result was complete already.

    shown  shows how it goes on
    """
    local.ranks_of(job)  # refused before anything takes its time
    run = RunDirectory.of(job.output)
    with _announced(run) as word:
        checked = check_once(job)
        if checked.is_complete():
            return None
        run.refuse_if_alive()
        way = partial(local.start, tick=shown.tick, announcement=word.name)
        return start(checked, partial(_begin, run, word, way))


def hand_in(
    job: Job, placing: Placing, allocated: Callable[[Allocation], None] = lambda allocation: None
) -> tuple[StartedJob, bool] | None:
    """Start a job that goes on by itself, and say whether on this host; None where its result was complete already.

    allocated  is called with the nodes that a deadline needs, before they are asked for
    """
    run = RunDirectory.of(job.output)
    on_this_host = placing.local or not slurm.answers()
    settings = None if on_this_host else _asked_for(job, placing)
    with _announced(run) as word:
        checked = check_once(job, trials_of(settings))
        if checked.is_complete():
            return None
        way = _background(placing, word) if settings is None else _queue(checked, settings, placing, allocated)
        run.refuse_if_alive()
        return start(checked, partial(_begin, run, word, way)), on_this_host


def rehearse(
    job: Job, placing: Placing, allocated: Callable[[Allocation], None] = lambda allocation: None
) -> tuple[str, Expectation] | None:
    """Return the script that Slurm would be handed, and the plan that the job would have; hand in nothing.

    None where its result is complete already. allocated: see `hand_in`.
    """
    settings = _asked_for(job, placing)
    checked = check_once(job, trials_of(settings))
    if checked.is_complete():
        return None
    settings = _settings(checked, settings, placing, allocated)
    expected = Capacity(job, checked.preflight).expected(settings.nodes or 1)
    return slurm.sbatch_text(job, settings), expected


def _background(placing: Placing, word: Announcement) -> Way[StartedJob]:
    if placing.deadline:
        raise UsageError(
            f"{option('deadline')} chooses nodes of a Slurm cluster, and here is none",
            verb("plan", deadline=placing.deadline),
        )
    return partial(submitit_local.submit, announcement=word.name)


def _queue(
    checked: CheckedJob, settings: SlurmSpec, placing: Placing, allocated: Callable[[Allocation], None]
) -> Way[StartedJob]:
    settings = _settings(checked, settings, placing, allocated)
    slurm.refuse_if_queued(RunDirectory.of(checked.job.output))
    return partial(slurm.submit, settings=settings, resubmit=placing.resubmit)


def _asked_for(job: Job, placing: Placing) -> SlurmSpec:
    """Return what the configuration, the site's profiles and the caller ask of Slurm."""
    return asked_of_slurm(job.spec, placing.slurm)


def _settings(
    checked: CheckedJob, settings: SlurmSpec, placing: Placing, allocated: Callable[[Allocation], None]
) -> SlurmSpec:
    """Return what is asked of Slurm: of nodes as many as a deadline needs, where one is given."""
    if placing.deadline:
        capacity = Capacity(checked.job, checked.preflight)
        nodes, allocation = capacity.fewest(placing.deadline, settings.partition)
        settings = asking_for(settings, nodes, allocation.nodes)
        allocated(allocation)
    return settings


@contextmanager
def _announced(run: RunDirectory) -> Iterator[Announcement]:
    """Announce a start for as long as it is checked. Where it has begun, whoever begins it takes the word back."""
    word = Announcement(run.path)
    word.make()
    try:
        yield word
    finally:
        word.end_own()


def _begin(run: RunDirectory, word: Announcement, way: Way[Started], job: Job, preflight: Preflight) -> Started:
    """Start a job that was checked, unless it was cancelled meanwhile; what was cancelled before is of the past."""
    run.refuse_blocks()
    withdraw_nameless(run.cancel)
    if reason := asked_to_end(run.cancel, {word.name}):
        raise Incomplete(f"{reason}, before it began", AGAIN)
    withdraw(run.cancel, {word.name})
    return way(job, preflight)
