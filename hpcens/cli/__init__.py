"""The command line: verbs from files to files. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from hpcens import __version__
from hpcens.errors import FAILURE, HpcensError, as_verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (see `errors`)."""
    options = _parser().parse_args(arguments)
    try:
        family, _, name = options.verb.partition(".")
        verb: Callable[[argparse.Namespace], int] = getattr(import_module(f"hpcens.cli.{family}"), name)
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

    def add(name: str, verb: str, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        made.set_defaults(verb=verb)
        return made

    submit = add("submit", "start.submit", "score a dataset as a job; run again to continue")
    _job_options(submit)
    submit.add_argument("--local", action="store_true", help="on this host, whether or not there is a cluster")
    wait = argparse.BooleanOptionalAction
    submit.add_argument("--wait", action=wait, help="follow it to its end; here that is what happens, on Slurm not")
    submit.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help="over slurm: in the YAML")
    submit.add_argument("--deadline", type=_duration, metavar="2h30m", help="on as few nodes as make it in this time")
    submit.add_argument("--parsable", action="store_true", help="print the job's id alone")
    submit.add_argument("--dry-run", action="store_true", help="print the plan and what sbatch would be given")
    submit.add_argument("--resubmit", type=_positive, default=0, metavar="N", help="if killed, go on, N times")
    run = add("run", "rank.run", "score a dataset here and now; inside an MPI world, be one of its ranks")
    _job_options(run)
    run.add_argument("--code", action="store_true", help="run nothing: exit with the code of what srun has run here")
    profile = add("profile", "plans.profile", "measure the members on this host's devices, and keep the figures")
    _job_options(profile, plan=False, datasets="*")
    every = "in every runtime, whatever preparing it takes: for larger datasets to come"
    profile.add_argument("--thorough", action="store_true", help=every)
    book = profile.add_mutually_exclusive_group()
    book.add_argument("--list", action="store_true", help="print what was measured so far, of all members")
    book.add_argument("--clear", action="store_true", help="forget all of it")
    plan = add("plan", "plans.plan", "print the allocation matrix, the predicted rows/s and the bound")
    _job_options(plan, plan=False)
    plan.add_argument("-o", "--output", type=Path, metavar="PLAN.JSON", help="write the plan to a file")
    plan.add_argument("--html", type=Path, metavar="PLAN.HTML", help="draw the plan on a page of its own")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    several = plan.add_mutually_exclusive_group()
    several.add_argument("--compare", action="store_true", help="print what every planner reaches, side by side")
    several.add_argument("--nodes", type=_range, metavar="N[..M]", help="on so many nodes of the cluster: section")
    several.add_argument("--deadline", type=_duration, metavar="2h30m", help="on as few nodes as make it in this time")
    virtual = add("simulate", "plans.simulate", "run a plan in virtual time: rows/s, and who is busy")
    virtual.add_argument("plan", type=Path, metavar="PLAN.JSON")
    virtual.add_argument("--rows", type=_positive, metavar="N", help="instead of the plan's")
    virtual.add_argument("--json", action="store_true")
    held = add("verify", "results.verify", "hold a result against its journal, its checksums and its members")
    held.add_argument("result", type=Path, metavar="PREDICTIONS.H5")
    held.add_argument("--json", action="store_true")
    again = add("combine", "results.combine", "combine a result's stored members again: another rule, other outputs")
    again.add_argument("result", type=Path, metavar="PREDICTIONS.H5")
    how = again.add_mutually_exclusive_group(required=True)
    how.add_argument("-c", "--config", type=Path, help="a run.yaml with other rule or outputs")
    how.add_argument("--rule", help="only another rule: one without parameters")
    again.add_argument("-o", "--output", type=Path, required=True, metavar="OTHER.H5")
    out = add("export", "results.export", "write a result as Parquet, CSV or npy")
    out.add_argument("result", type=Path, metavar="PREDICTIONS.H5")
    out.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".parquet, .csv or .npy")
    out.add_argument("--datasets", type=lambda text: text.split(","), default=[], help="default: all; as a,b")
    stands = add("status", "runs.status", "say how a run stands, and why it ended")
    told = add("logs", "runs.logs", "print what a run's ranks have written")
    told.add_argument("-n", "--lines", type=_positive, help="only the last lines of each file")
    ended = add("cancel", "runs.cancel", "end a run: finish what is under way, then stop")
    ended.add_argument("--now", action="store_true", help="do not finish anything")
    for named in (stands, told, ended):
        named.add_argument("run", type=Path, metavar="RUN", help="a run directory (OUTPUT.run), or its output")
    stands.add_argument("--watch", action="store_true", help="again and again, until it ends")
    found = add("list", "runs.runs", "list the runs of a folder")
    found.add_argument("folder", type=Path, nargs="?", default=Path())
    for named in (stands, found):
        named.add_argument("--json", action="store_true")
    first = add("init", "plans.init", "write a commented configuration to start from")
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
