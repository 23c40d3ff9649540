"""Verbs that start a run: submit, as a job; run, here and now."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from functools import partial

from hpcens.checks.preflight import Preflight
from hpcens.cli.job import job_of
from hpcens.cli.terminal import conclude, short, show
from hpcens.config.site import slurm_settings
from hpcens.errors import COMPLETE, UsageError
from hpcens.launch import local, slurm, submitit_local
from hpcens.launch.start import check_once, start
from hpcens.planning.capacity import Capacity, within
from hpcens.reports.progress import Follower
from hpcens.runs import RunDirectory
from hpcens.scheduler import jobs
from hpcens.specs import Job


def submit(options: Namespace) -> int:
    """Score a dataset as a job: of Slurm where it answers, else of this host."""
    job = job_of(options)
    preflight = check_once(job)
    if preflight is None:
        return _complete(job)
    if options.dry_run or (not options.local and jobs.answers()):
        return _submit_to_slurm(options, job, preflight)
    if options.deadline:
        raise UsageError("--deadline chooses nodes of a Slurm cluster, and here is none", "hpcens plan --deadline")
    run = RunDirectory.of(job.output)
    run.refuse_if_alive()
    newest = run.newest
    submitted = start(job, preflight, submitit_local.submit)
    if options.wait is False:
        print(f"job {submitted.job_id} is started; next: hpcens status {short(run.path)}")
        return COMPLETE
    verdict = submitit_local.follow(job, submitted, Follower(), newest.number if newest else 0)
    return conclude(job, verdict)


def _submit_to_slurm(options: Namespace, job: Job, preflight: Preflight) -> int:
    settings = slurm_settings(job.spec.slurm, options.slurm)
    run = RunDirectory.of(job.output)
    if options.deadline or options.dry_run:
        capacity = Capacity(job, preflight)
        if options.deadline:
            settings = within(options.deadline, settings, capacity, told=not options.parsable)
        if options.dry_run:
            expected = capacity.expected(settings.nodes or 1)
            print(slurm.sbatch_text(job, settings))
            show(expected)
            return COMPLETE
    slurm.refuse_if_queued(run)
    run.refuse_if_alive()
    submission = start(job, preflight, lambda job, _: slurm.submit(job, settings, options.resubmit))
    if options.parsable:
        print(submission.jobs[0], flush=True)
    else:
        print(f"job {submission.jobs[0]} is submitted; next: hpcens status {short(run.path)}", flush=True)
    if not options.wait:
        return COMPLETE
    verdict = slurm.follow(job, submission, Follower())
    return conclude(job, verdict)


def run_here(options: Namespace) -> int:
    """Score a dataset on this host, and wait for its end."""
    job = job_of(options)
    preflight = check_once(job)
    if preflight is None:
        return _complete(job)
    with contextlib.closing(Follower()) as follower:
        verdict = start(job, preflight, partial(local.start, tick=follower.tick))
    return conclude(job, verdict)


def _complete(job: Job) -> int:
    print(f"{short(job.output)} is complete already; next: hpcens verify {short(job.output)}")
    return COMPLETE
