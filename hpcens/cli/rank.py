"""Verb that may be a rank: run.

Where a launcher has started this process, nothing heavy is imported before it forks; see `launch.as_rank`.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from hpcens.cli.job import job_of
from hpcens.cli.terminal import short
from hpcens.errors import HpcensError, UsageError
from hpcens.launch.as_rank import be_a_rank, inside_world
from hpcens.runs import Claim, RunDirectory, SlurmJob
from hpcens.shell import quoted


def run(options: Namespace) -> int:
    """Be a rank of the MPI world around this process; without one, start ranks on this host."""
    if options.each:
        from hpcens.cli.each import run_each

        return run_each(options)
    if options.join:
        from hpcens.cli.blocks import join

        return join(options)
    if options.output:
        raise UsageError("-o is no option of run", "name the result in the YAML: output: {path: predictions.h5}")
    if options.code:
        return verdict_code(job_of(options).output)
    if inside_world():
        return be_a_rank(lambda: job_of(options))
    from hpcens.cli.start import run_here

    return run_here(options)


def verdict_code(output: Path) -> int:
    """Return the exit code that the newest start of an output's run ended with.

    Within a Slurm job only a start of that job counts. Raises HpcensError where there is none, or it has not ended.
    """
    run = RunDirectory.of(output)
    epoch, slurm = run.newest, SlurmJob.here()
    claim = Claim.load(epoch.claim) if epoch else None
    if epoch is None or (slurm and not (claim and slurm.same(claim.job))):
        raise HpcensError(f"nothing was started here for {short(output)}", "look at what srun has written")
    if epoch.verdict is None:
        raise HpcensError(
            f"epoch {epoch.number} of {short(run.path)} left no verdict", f"hpcens status {quoted(run.path)}"
        )
    return epoch.verdict.code
