"""The command line: verbs from files to files. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens import __version__
from hpcens.cli.results import combine, conclude, export, init, short, show, simulate, verify
from hpcens.cli.runs import cancel, logs, runs, status, verdict_code
from hpcens.errors import COMPLETE, FAILURE, HpcensError, UsageError, as_verdict

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight
    from hpcens.specs import Job


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (see `errors`)."""
    options = _parser().parse_args(arguments)
    try:
        verb: Callable[[argparse.Namespace], int] = options.verb
        return verb(options)
    except HpcensError as error:
        print(f"hpcens: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:
        told = as_verdict(error)
        print(f"hpcens: {told}", file=sys.stderr)
        return told.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpcens",
        description="Score large HDF5 datasets with ensembles of PyTorch networks.",
        epilog="exit codes: 0 complete and verified · 1 failure · 2 usage or configuration · 65 bad data ·"
        " 75 incomplete but resumable · 78 made of something else · 130/143 signalled",
    )
    parser.add_argument("--version", action="version", version=f"hpcens {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, verb: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        made.set_defaults(verb=verb)
        return made

    submit = add("submit", _submit, "score a dataset as a job; run again to continue")
    _job_options(submit)
    submit.add_argument("--local", action="store_true", help="on this host, whether or not there is a cluster")
    wait = argparse.BooleanOptionalAction
    submit.add_argument("--wait", action=wait, help="follow it to its end; here that is what happens, on Slurm not")
    submit.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help="over slurm: in the YAML")
    submit.add_argument("--deadline", type=_duration, metavar="2h30m", help="on as few nodes as make it in this time")
    submit.add_argument("--parsable", action="store_true", help="print the job's id alone")
    submit.add_argument("--dry-run", action="store_true", help="print the plan and what sbatch would be given")
    submit.add_argument("--resubmit", type=_positive, default=0, metavar="N", help="if killed, go on, N times")
    run = add("run", _run, "score a dataset here and now; inside an MPI world, be one of its ranks")
    _job_options(run)
    run.add_argument("--code", action="store_true", help="run nothing: exit with the code of what srun has run here")
    profile = add("profile", _profile, "measure the members on this host's devices, and keep the figures")
    _job_options(profile, plan=False, datasets="*")
    every = "in every runtime, whatever preparing it takes: for larger datasets to come"
    profile.add_argument("--thorough", action="store_true", help=every)
    book = profile.add_mutually_exclusive_group()
    book.add_argument("--list", action="store_true", help="print what was measured so far, of all members")
    book.add_argument("--clear", action="store_true", help="forget all of it")
    plan = add("plan", _plan, "print the allocation matrix, the predicted rows/s and the bound")
    _job_options(plan, plan=False)
    plan.add_argument("-o", "--output", type=Path, metavar="PLAN.JSON", help="write the plan to a file")
    plan.add_argument("--html", type=Path, metavar="PLAN.HTML", help="draw the plan on a page of its own")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    several = plan.add_mutually_exclusive_group()
    several.add_argument("--compare", action="store_true", help="print what every planner reaches, side by side")
    several.add_argument("--nodes", type=_range, metavar="N[..M]", help="on so many nodes of the cluster: section")
    several.add_argument("--deadline", type=_duration, metavar="2h30m", help="on as few nodes as make it in this time")
    virtual = add("simulate", simulate, "run a plan in virtual time: rows/s, and who is busy")
    virtual.add_argument("plan", type=Path, metavar="PLAN.JSON")
    virtual.add_argument("--rows", type=_positive, metavar="N", help="instead of the plan's")
    virtual.add_argument("--json", action="store_true")
    held = add("verify", verify, "hold a result against its journal, its checksums and its members")
    held.add_argument("result", type=Path, metavar="PREDICTIONS.H5")
    held.add_argument("--json", action="store_true")
    again = add("combine", combine, "combine a result's stored members again: another rule, other outputs")
    again.add_argument("result", type=Path, metavar="PREDICTIONS.H5")
    how = again.add_mutually_exclusive_group(required=True)
    how.add_argument("-c", "--config", type=Path, help="a run.yaml with other rule or outputs")
    how.add_argument("--rule", help="only another rule: one without parameters")
    again.add_argument("-o", "--output", type=Path, required=True, metavar="OTHER.H5")
    out = add("export", export, "write a result as Parquet, CSV or npy")
    out.add_argument("result", type=Path, metavar="PREDICTIONS.H5")
    out.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".parquet, .csv or .npy")
    out.add_argument("--datasets", type=lambda text: text.split(","), default=[], help="default: all; as a,b")
    stands = add("status", status, "say how a run stands, and why it ended")
    told = add("logs", logs, "print what a run's ranks have written")
    told.add_argument("-n", "--lines", type=_positive, help="only the last lines of each file")
    ended = add("cancel", cancel, "end a run: finish what is under way, then stop")
    ended.add_argument("--now", action="store_true", help="do not finish anything")
    for named in (stands, told, ended):
        named.add_argument("run", type=Path, metavar="RUN", help="a run directory (OUTPUT.run), or its output")
    stands.add_argument("--watch", action="store_true", help="again and again, until it ends")
    found = add("list", runs, "list the runs of a folder")
    found.add_argument("folder", type=Path, nargs="?", default=Path())
    for named in (stands, found):
        named.add_argument("--json", action="store_true")
    first = add("init", init, "write a commented configuration to start from")
    first.add_argument("path", type=Path, nargs="?", default=Path("hpcens.yaml"), metavar="RUN.YAML")
    return parser


def _job_options(parser: argparse.ArgumentParser, *, plan: bool = True, datasets: str = "+") -> None:
    parser.add_argument(
        "dataset", nargs=datasets, metavar="DATASET.H5", help="file, files in this order, or 'part-*.h5'"
    )
    parser.add_argument("-c", "--config", type=Path, help="default: ./hpcens.yaml, else $HPCENS_CONFIG")
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N rows")
    if plan:
        parser.add_argument("--plan", type=Path, help="a stored plan whose batch and segment sizes are kept")
        timeline = "write what every rank did when, for Perfetto (ui.perfetto.dev)"
        parser.add_argument("--trace", type=Path, metavar="TRACE.JSON", help=timeline)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("..")
    numbers = _positive(first), _positive(last or first)
    if numbers[0] > numbers[1]:
        raise argparse.ArgumentTypeError("the smaller number comes first")
    return numbers


def _duration(text: str) -> float:
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    seconds = sum(float(n or 0) * unit for n, unit in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0
    if not seconds:
        raise argparse.ArgumentTypeError("a time, as 2h, 2h30m or 90s")
    return seconds


def _job(options: argparse.Namespace) -> Job:
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


def _submit(options: argparse.Namespace) -> int:
    from hpcens.checks.preflight import check
    from hpcens.launch.submitit_local import follow, submit
    from hpcens.reports.progress import Follower
    from hpcens.runs.directory import RunDirectory
    from hpcens.scheduler import jobs

    job = _job(options)
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


def _submit_to_slurm(options: argparse.Namespace, job: Job, preflight: Preflight) -> int:
    from hpcens.config.site import slurm_settings
    from hpcens.launch.slurm import follow, refuse_if_queued, sbatch_text, submit
    from hpcens.planning.capacity import Capacity, within
    from hpcens.reports.progress import Follower
    from hpcens.runs.directory import RunDirectory

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


def _run(options: argparse.Namespace) -> int:
    from hpcens.launch.as_rank import inside_world

    if options.code:
        return verdict_code(_job(options).output)
    if inside_world():
        from hpcens.launch.as_rank import be_a_rank

        return be_a_rank(lambda: _job(options))
    from hpcens.checks.preflight import check
    from hpcens.launch.local import start
    from hpcens.reports.progress import Follower

    job = _job(options)
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


def _profile(options: argparse.Namespace) -> int:
    from hpcens.planning.capacity import Capacity, profiled
    from hpcens.profiling.book import ProfileBook

    if options.list:
        show(profiled())
        return COMPLETE
    if options.clear:
        print(f"{ProfileBook.default().clear()} profiles are forgotten")
        return COMPLETE
    if not options.dataset:
        raise UsageError("no dataset is given", "hpcens profile DATASET.H5; or --list what was measured before")
    if Capacity(replace(_job(options), thorough=options.thorough)).measure() == 0:
        print("all members were measured on this host's devices before")
    print("profiled; next: hpcens plan " + shlex.join(options.dataset))
    return COMPLETE


def _plan(options: argparse.Namespace) -> int:
    from hpcens.planning.capacity import Capacity, PlanRequest

    desk = Capacity(_job(options))
    desk.measure()
    wish = PlanRequest(options.nodes, options.deadline, options.compare, options.output, options.html, options.json)
    show(desk.answer(wish, shaded=sys.stdout.isatty()))
    return COMPLETE
