"""Verbs that start a run: submit, as a job; run, here and now."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from hpcens.api.starting import Placing, hand_in, rehearse, score
from hpcens.cli.job import job_of
from hpcens.cli.terminal import say, short, show
from hpcens.errors import COMPLETE, UsageError, next_steps
from hpcens.planning.nodes import Allocation
from hpcens.reports.ending import ending_lines
from hpcens.reports.plans import deadline_line, expectation_lines
from hpcens.reports.progress import Follower
from hpcens.runs import RunDirectory, Verdict
from hpcens.shell import quoted
from hpcens.specs import Job


def submit(options: Namespace) -> int:
    """Score a dataset as a job: of Slurm where it answers, else in the background of this host."""
    if options.each:
        from hpcens.cli.each import submit_each

        return submit_each(options)
    if options.array:
        from hpcens.cli.blocks import submit_blocks

        return submit_blocks(options)
    if options.output:
        raise UsageError("-o is no option of submit", "name the result in the YAML: output: {path: predictions.h5}")
    job = job_of(options)
    placing = Placing(options.local, options.slurm, options.deadline, options.resubmit)

    def allocated(allocation: Allocation) -> None:
        if not options.parsable:
            say(deadline_line(options.deadline, allocation))

    if options.dry_run:
        return _rehearse(job, placing, allocated)
    handed_in = hand_in(job, placing, allocated)
    if handed_in is None:
        return _complete(job.output)
    started, here = handed_in
    run = RunDirectory.of(job.output)
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
    return _conclude(job, verdict, options.verbose)


def _rehearse(job: Job, placing: Placing, allocated: Callable[[Allocation], None]) -> int:
    """Print what Slurm would be asked for, and the plan that the job would have."""
    rehearsed = rehearse(job, placing, allocated)
    if rehearsed is None:
        return _complete(job.output)
    script, expected = rehearsed
    say(script)
    show(expectation_lines(expected))
    return COMPLETE


def run_here(options: Namespace) -> int:
    """Score a dataset on this host, and wait for its end."""
    job = job_of(options)
    with closing(Follower()) as follower:
        verdict = score(job, follower)
    return _complete(job.output) if verdict is None else _conclude(job, verdict, options.verbose)


def _complete(output: Path) -> int:
    say(f"{short(output)} is complete already; next: hpcens verify {quoted(short(output))}")
    return COMPLETE


def _conclude(job: Job, verdict: Verdict, verbose: bool) -> int:
    """Print the report, and as the last line the verdict and the next command; return the exit code.

    verbose  print the plan, every instance and every rank too
    It stays the run's where nobody can be told: a terminal that is gone, a log on a full disk.
    """
    with suppress(OSError):
        _print_end(job, verdict, verbose)
    return verdict.code


def _print_end(job: Job, verdict: Verdict, verbose: bool) -> None:
    run = RunDirectory.of(job.output)
    show(ending_lines(run, Path(short(job.output)), verbose=verbose))
    if not verbose:
        say(f"more: hpcens status -v {quoted(short(run.path))}, or as a page: hpcens report {quoted(short(run.path))}")
    if verdict.code == COMPLETE:
        say(f"complete: {verdict.reason} → {short(job.output)}; next: hpcens verify {quoted(short(job.output))}")
    else:
        next_step = next_steps(verdict.remedy or f"hpcens status {quoted(short(run.path))}")
        say(f"not complete ({verdict.code}): {verdict.reason}{next_step}", to_stderr=True)
