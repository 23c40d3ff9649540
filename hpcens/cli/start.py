"""Verbs that start a run: submit, as a job; run, here and now."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from hpcens.checks.preflight import Preflight
from hpcens.cli.job import job_of
from hpcens.cli.terminal import say, short, show
from hpcens.config import site_profiles, slurm_settings
from hpcens.errors import COMPLETE, Incomplete, UsageError
from hpcens.launch import local, slurm, submitit_local
from hpcens.launch.follow import StartedJob
from hpcens.launch.start import CheckedJob, Started, Way, check_once, start, trials_of
from hpcens.planning.capacity import Capacity
from hpcens.planning.nodes import asking_for
from hpcens.reports.plans import deadline_line, expectation_lines, plan_lines
from hpcens.reports.progress import Follower
from hpcens.reports.text import cost_line, report_lines, start_lines
from hpcens.runs import AGAIN, Claim, Report, RunDirectory, Verdict, read_events
from hpcens.runs.announcement import Announcement
from hpcens.runs.cancellation import asked_to_end, withdraw, withdraw_nameless
from hpcens.runs.cost import cost_of
from hpcens.shell import quoted
from hpcens.specs import Job, SlurmSpec
from hpcens.vocabulary import Plan


def submit(options: Namespace) -> int:
    """Score a dataset as a job: of Slurm where it answers, else in the background of this host."""
    job = job_of(options)
    run = RunDirectory.of(job.output)
    here = not options.dry_run and (options.local or not slurm.answers())
    settings = None if here else slurm_settings(job.spec.slurm, options.slurm, site_profiles(job.spec.search_path))
    with _announced(run) as word:
        checked = check_once(job, trials_of(settings))
        if checked.is_complete():
            return _complete(job.output)
        way = _choose(options, checked, settings)
        if way is None:
            return COMPLETE
        if here:
            way = partial(submitit_local.submit, announcement=word.name)
        run.refuse_if_alive()
        started = start(checked, partial(_begin, run, word, way))
    wait = here if options.wait is None else options.wait
    if options.parsable and not here:
        say(started.id)
    elif not (here and wait):
        begun = "started" if here else "submitted"
        say(f"job {started.id} is {begun}; next: hpcens status {quoted(short(run.path))}")
    if not wait:
        return COMPLETE
    try:
        with closing(Follower()) as follower:
            verdict = started.follow(follower)
    except KeyboardInterrupt:
        say(f"job {started.id} goes on; to end it: hpcens cancel {quoted(short(run.path))}", to_stderr=True)
        raise
    return _conclude(job, verdict)


def _choose(options: Namespace, checked: CheckedJob, settings: SlurmSpec | None) -> Way[StartedJob] | None:
    """Choose the way to start a job; None where it was only to be shown what Slurm would be asked for.

    settings  what to ask Slurm for; None where the job stays on this host
    """
    job = checked.job
    if settings is None:
        if options.deadline:
            raise UsageError("--deadline chooses nodes of a Slurm cluster, and here is none", "hpcens plan --deadline")
        return submitit_local.submit
    if options.deadline or options.dry_run:
        capacity = Capacity(job, checked.preflight)
        if options.deadline:
            nodes, allocation = capacity.fewest(options.deadline, settings.partition)
            settings = asking_for(settings, nodes, allocation.nodes)
            if not options.parsable:
                say(deadline_line(options.deadline, allocation))
        if options.dry_run:
            expected = capacity.expected(settings.nodes or 1)
            say(slurm.sbatch_text(job, settings))
            show(expectation_lines(expected))
            return None
    slurm.refuse_if_queued(RunDirectory.of(job.output))
    return partial(slurm.submit, settings=settings, resubmit=options.resubmit)


def run_here(options: Namespace) -> int:
    """Score a dataset on this host, and wait for its end."""
    job = job_of(options)
    local.ranks_of(job)  # refused before anything takes its time
    run = RunDirectory.of(job.output)
    with _announced(run) as word:
        checked = check_once(job)
        if checked.is_complete():
            return _complete(job.output)
        run.refuse_if_alive()
        with closing(Follower()) as follower:
            way = partial(local.start, tick=follower.tick, announcement=word.name)
            verdict = start(checked, partial(_begin, run, word, way))
    return _conclude(job, verdict)


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
    withdraw_nameless(run.cancel)
    if reason := asked_to_end(run.cancel, {word.name}):
        raise Incomplete(f"{reason}, before it began", AGAIN)
    withdraw(run.cancel, {word.name})
    return way(job, preflight)


def _complete(output: Path) -> int:
    say(f"{short(output)} is complete already; next: hpcens verify {quoted(short(output))}")
    return COMPLETE


def _conclude(job: Job, verdict: Verdict) -> int:
    """Print the report, and as the last line the verdict and the next command; return the exit code.

    It stays the run's where nobody can be told: a terminal that is gone, a log on a full disk.
    """
    with suppress(OSError):
        _print_end(job, verdict)
    return verdict.code


def _print_end(job: Job, verdict: Verdict) -> None:
    run = RunDirectory.of(job.output)
    epoch = run.newest
    if epoch is not None and (report := Report.load(epoch.report)) and (claim := Claim.load(epoch.claim)):
        if (plan := Plan.kept(epoch.plan)) is not None:
            show(plan_lines(plan))
        show(start_lines(claim.began, (event for _, event in read_events(epoch.events)), report))
        show(report_lines(report))
        say(cost_line(cost_of([epoch]), cost_of(run.epochs())))
    if verdict.code == COMPLETE:
        say(f"complete: {verdict.reason} → {short(job.output)}; next: hpcens verify {quoted(short(job.output))}")
    else:
        next_step = verdict.remedy or f"hpcens status {quoted(short(run.path))}"
        say(f"not complete ({verdict.code}): {verdict.reason}; next: {next_step}", to_stderr=True)
