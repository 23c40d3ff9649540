"""Verbs that start a run: submit and run."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.cli.terminal import conclude, short, show
from hpcens.errors import COMPLETE, HpcensError, UsageError

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight
    from hpcens.specs import Job


def submit(options: Namespace) -> int:
    from hpcens.checks.preflight import check
    from hpcens.launch.submitit_local import follow, submit
    from hpcens.reports.progress import Follower
    from hpcens.runs import RunDirectory
    from hpcens.scheduler import jobs

    job = job_of(options)
    preflight = check(job)
    if _stands(job, preflight):
        return COMPLETE
    run = RunDirectory.of(job.output)
    newest = run.newest
    if options.dry_run or (not options.local and jobs.answers()):
        return _submit_to_slurm(options, job, preflight)
    if options.deadline:
        raise UsageError("--deadline chooses nodes of a Slurm cluster, and here is none", "hpcens plan --deadline")
    run.refuse_if_alive()
    _hold(job, preflight)
    submitted = submit(job, preflight)
    if options.wait is False:
        print(f"job {submitted.job_id} is started; next: hpcens status {short(run.path)}")
        return COMPLETE
    return conclude(job, follow(job, submitted, Follower(), newest.number if newest else 0))


def _submit_to_slurm(options: Namespace, job: Job, preflight: Preflight) -> int:
    from hpcens.config.site import slurm_settings
    from hpcens.launch.slurm import follow, refuse_if_queued, sbatch_text, submit
    from hpcens.planning.capacity import Capacity, within
    from hpcens.reports.progress import Follower
    from hpcens.runs import RunDirectory

    settings = slurm_settings(job.spec.slurm, options.slurm)
    run = RunDirectory.of(job.output)
    if options.deadline:
        settings = within(options.deadline, settings, Capacity(job), told=not options.parsable)
    if options.dry_run:
        print(sbatch_text(job, settings))
        show(Capacity(job).expected(settings.nodes or 1))
        return COMPLETE
    refuse_if_queued(run)
    run.refuse_if_alive()
    _hold(job, preflight)
    submission = submit(job, settings, options.resubmit)
    if options.parsable:
        print(submission.jobs[0], flush=True)
    else:
        print(f"job {submission.jobs[0]} is submitted; next: hpcens status {short(run.path)}", flush=True)
    return conclude(job, follow(job, submission, Follower())) if options.wait else COMPLETE


def run(options: Namespace) -> int:
    from hpcens.launch.as_rank import inside_world

    if options.code:
        return verdict_code(job_of(options).output)
    if inside_world():
        from hpcens.launch.as_rank import be_a_rank

        return be_a_rank(lambda: job_of(options))
    from hpcens.checks.preflight import check
    from hpcens.launch.local import start
    from hpcens.reports.progress import Follower

    job = job_of(options)
    preflight = check(job)
    if _stands(job, preflight):
        return COMPLETE
    _hold(job, preflight)
    follower = Follower()
    try:
        verdict = start(job, preflight, tick=follower.tick)
    finally:
        follower.close()
    return conclude(job, verdict)


def verdict_code(output: Path) -> int:
    """The exit code that the newest start of an output's run ended with. Raises HpcensError where it has not ended.

    Within a Slurm job only a start of that job counts.
    """
    from hpcens.runs import Claim, RunDirectory, SlurmJob

    run = RunDirectory.of(output)
    epoch, here = run.newest, SlurmJob.here()
    claim = Claim.load(epoch.claim) if epoch else None
    if epoch is None or (here and not (claim and here.same(claim.job))):
        raise HpcensError(f"nothing was started here for {short(output)}", "look at what srun has written")
    if epoch.verdict is None:
        raise HpcensError(f"epoch {epoch.number} of {short(run.path)} left no verdict", f"hpcens status {run.path}")
    return epoch.verdict.code


def job_of(options: Namespace) -> Job:
    from hpcens.checks.preflight import absolute, dataset_files
    from hpcens.config import default_output, find, load
    from hpcens.specs import Job

    spec = load(find(options.config))
    datasets = dataset_files(options.dataset)
    output = spec.output.path or default_output(datasets, options.limit)
    if spec.output.path and options.limit:
        output = output.with_name(f"{output.stem}.first-{options.limit}{output.suffix}")
    plan, trace = (path and absolute(path) for path in (getattr(options, key, None) for key in ("plan", "trace")))
    return Job(datasets=datasets, output=absolute(output), spec=spec, limit=options.limit, plan=plan, trace=trace)


def _stands(job: Job, preflight: Preflight) -> bool:
    from hpcens.checks.preflight import same_as_before

    if not same_as_before(job, preflight):
        return False
    print(f"{short(job.output)} is complete already; next: hpcens verify {short(job.output)}")
    return True


def _hold(job: Job, preflight: Preflight) -> None:
    """Refuse members that break their contract; what merely looks wrong is said."""
    from hpcens.checks.members import ContractBook, hold

    for warning in hold(job, preflight, ContractBook.default()):
        print(f"hpcens: warning: {warning}", file=sys.stderr)
