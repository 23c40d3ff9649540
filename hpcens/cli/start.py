"""Verbs that start a run: submit, as a job; run, here and now."""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing
from functools import partial
from pathlib import Path

from hpcens.cli.job import job_of
from hpcens.cli.terminal import conclude, short, show
from hpcens.config.site import slurm_settings
from hpcens.errors import COMPLETE, UsageError
from hpcens.launch import local, slurm, submitit_local
from hpcens.launch.start import CheckedJob, check_once, start
from hpcens.planning.capacity import Capacity, within
from hpcens.reports.progress import Follower
from hpcens.runs import RunDirectory


def submit(options: Namespace) -> int:
    """Score a dataset as a job: of Slurm where it answers, else of this host."""
    checked = check_once(job_of(options))
    if checked.is_complete():
        return _complete(checked.job.output)
    if options.dry_run or (not options.local and slurm.answers()):
        return _submit_to_slurm(options, checked)
    if options.deadline:
        raise UsageError("--deadline chooses nodes of a Slurm cluster, and here is none", "hpcens plan --deadline")
    run = RunDirectory.of(checked.job.output)
    run.refuse_if_alive()
    newest = run.newest
    submitted = start(checked, submitit_local.submit)
    if options.wait is False:
        print(f"job {submitted.job_id} is started; next: hpcens status {short(run.path)}")
        return COMPLETE
    with closing(Follower()) as follower:
        verdict = submitit_local.follow(run, submitted, follower, newest.number if newest else 0)
    return conclude(checked.job, verdict)


def _submit_to_slurm(options: Namespace, checked: CheckedJob) -> int:
    job = checked.job
    settings = slurm_settings(job.spec.slurm, options.slurm)
    run = RunDirectory.of(job.output)
    if options.deadline or options.dry_run:
        capacity = Capacity(job, checked.preflight)
        if options.deadline:
            settings = within(options.deadline, settings, capacity, told=not options.parsable)
        if options.dry_run:
            expected = capacity.expected(settings.nodes or 1)
            print(slurm.sbatch_text(job, settings))
            show(expected)
            return COMPLETE
    slurm.refuse_if_queued(run)
    run.refuse_if_alive()
    submission = start(checked, lambda job, _: slurm.submit(job, settings, options.resubmit))
    if options.parsable:
        print(submission.jobs[0], flush=True)
    else:
        print(f"job {submission.jobs[0]} is submitted; next: hpcens status {short(run.path)}", flush=True)
    if not options.wait:
        return COMPLETE
    with closing(Follower()) as follower:
        verdict = slurm.follow(run, submission, follower)
    return conclude(job, verdict)


def run_here(options: Namespace) -> int:
    """Score a dataset on this host, and wait for its end."""
    checked = check_once(job_of(options))
    if checked.is_complete():
        return _complete(checked.job.output)
    with closing(Follower()) as follower:
        verdict = start(checked, partial(local.start, tick=follower.tick))
    return conclude(checked.job, verdict)


def _complete(output: Path) -> int:
    print(f"{short(output)} is complete already; next: hpcens verify {short(output)}")
    return COMPLETE
