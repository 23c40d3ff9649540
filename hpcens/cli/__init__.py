"""The command line: verbs from files to files. Everything heavy is imported with the verb's own module."""

from hpcens.entry import leave_out_working_folder

leave_out_working_folder()  # before anything else is imported that may lie there

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from hpcens import __version__
from hpcens.cli.judging_options import AddVerb, add_judging
from hpcens.cli.judging_options import positive as _positive
from hpcens.cli.terminal import say
from hpcens.errors import FAILURE, HpcensError, as_verdict
from hpcens.shell import command_line, printable

_RUNS = "run directories (OUTPUT.run), outputs, folders of them, or patterns"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code (see `errors`)."""
    options = command_parser().parse_args(arguments)
    try:
        module, _, name = options.verb.partition(".")
        verb: Callable[[argparse.Namespace], int] = getattr(import_module(f"hpcens.cli.{module}"), name)
        with command_line():
            return verb(options)
    except BrokenPipeError:
        return FAILURE
    except (HpcensError, OSError) as error:
        verdict = as_verdict(error)
        with suppress(OSError):
            say(f"hpcens: {verdict}", to_stderr=True)
        return verdict.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        _flush()


def _flush() -> None:
    """Write what is yet to be printed. Where a closed pipe or a full disk refuses it, the exit code is the verb's."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line without obeying what stands there."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"argument VERB: invalid choice: '([^']*)' \(choose from (.*)\)", message, re.DOTALL)
        if unknown:
            from difflib import get_close_matches

            near = get_close_matches(unknown[1][:60], re.findall(r"\w+", unknown[2]), 1)
            meant = f"did you mean {near[0]}?" if near else "hpcens --help lists them"
            message = f"there is no verb {unknown[1]}; {meant}"
        super().error(printable(message))


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="hpcens",
        description="Score large HDF5 datasets with ensembles of PyTorch networks.",
        epilog="hpcens help prints the guide · hpcens VERB --help describes a verb · exit codes:"
        " 0 complete and verified · 1 failure · 2 usage or configuration · 65 bad data ·"
        " 75 incomplete: the same command continues it ·"
        " 78 what is on disk was made from other data, members or settings · 130, 143 ended by a signal",
    )
    parser.add_argument("--version", action="version", version=f"hpcens {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def add(name: str, verb: str, text: str) -> argparse.ArgumentParser:
        subparser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        subparser.set_defaults(verb=verb)
        return subparser

    _add_planning(add)
    _add_starting(add)
    _add_runs(add)
    _add_results(add)
    add_judging(add)
    _add_guide(add)
    return parser


def _add_starting(add: AddVerb) -> None:
    scored_now = "score a dataset on this host now (under mpiexec or srun: as one of the ranks); again: continue it"
    run = add("run", "rank.run", scored_now)
    submit = add(
        "submit", "start.submit", "score a dataset as a job of Slurm, or in the background; again: continue it"
    )
    for verb in (run, submit):
        _job_options(verb)
    submit.add_argument("--local", action="store_true", help="run on this host, even where Slurm is available")
    wait = "follow the job to its end (the default on this host; on Slurm the command returns at once)"
    submit.add_argument("--wait", action=argparse.BooleanOptionalAction, help=wait)
    settings = "set a key of the YAML's slurm: section, or any option of sbatch; may be repeated"
    submit.add_argument("--slurm", action="append", default=[], metavar="KEY[=VALUE]", help=settings)
    deadline = "ask Slurm for the fewest nodes that finish in this time"
    submit.add_argument("--deadline", type=_duration, metavar="2h30m", help=deadline)
    submit.add_argument("--parsable", action="store_true", help="print only the id of the Slurm job")
    submit.add_argument("--dry-run", action="store_true", help="print the sbatch script and the plan; submit nothing")
    resubmit = "queue N more jobs, each of which continues if the one before is killed"
    submit.add_argument("--resubmit", type=_positive, default=0, metavar="N", help=resubmit)
    array = "ask Slurm for N jobs of one node each, at most M at once: they share the dataset, or the files of --each"
    submit.add_argument("--array", type=_array, metavar="N[%M]", help=array)
    for verb in (run, submit):
        each = (
            "score every file into a result of its own; results lie below output.folder as the files lie below theirs"
        )
        verb.add_argument("--each", action="store_true", help=each)
        verb.add_argument("-o", "--output", help=argparse.SUPPRESS)  # refused by name
    joined = "share the dataset with hosts that run the same command; of submit --array name the run: --join OUTPUT.run"
    run.add_argument("--join", action="store_true", help=joined)
    code = "start nothing; exit as the run did that srun has just ended (for the last line of a batch script)"
    run.add_argument("--code", action="store_true", help=code)
    for verb in (run, submit):
        _verbose(verb)


def _add_planning(add: AddVerb) -> None:
    init = add("init", "configuration.init", "write a commented configuration to start from")
    file = "the file to write (default: hpcens.yaml)"
    init.add_argument("path", type=Path, nargs="?", default=Path("hpcens.yaml"), metavar="HPCENS.YAML", help=file)
    what = "print which member runs on which device and in which batches, the rows/s that gives, and the most possible"
    plan = add("plan", "plans.plan", what)
    _job_options(plan, scores=False)
    plan.add_argument("-o", "--output", type=Path, metavar="PLAN.JSON", help="write the plan to a file")
    plan.add_argument("--html", type=Path, metavar="PLAN.HTML", help="write the plan as a web page")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    variant = plan.add_mutually_exclusive_group()
    variant.add_argument("--compare", action="store_true", help="print what every planner predicts, side by side")
    nodes = "plan for this many nodes of the YAML's cluster: section"
    variant.add_argument("--nodes", type=_range, metavar="N[..M]", help=nodes)
    deadline = "plan for the fewest nodes that finish in this time"
    variant.add_argument("--deadline", type=_duration, metavar="2h30m", help=deadline)
    simulate = add(
        "simulate", "plans.simulate", "simulate a plan: rows/s, and how busy each device, reader and reducer is"
    )
    simulate.add_argument("plan", type=Path, metavar="PLAN.JSON", help="a plan that hpcens plan -o wrote")
    rows = "how many rows to simulate (default: as many as the plan was made for)"
    simulate.add_argument("--rows", type=_positive, metavar="N", help=rows)
    simulate.add_argument("--json", action="store_true", help="print the result as JSON")
    speeds = "measure how fast the members run on this host's devices, and keep the figures for plans"
    profile = add("profile", "plans.profile", speeds)
    _job_options(profile, scores=False, datasets="*")
    thorough = "measure every runtime, however long preparing it takes: pays off for large datasets"
    profile.add_argument("--thorough", action="store_true", help=thorough)
    book = profile.add_mutually_exclusive_group()
    book.add_argument("--list", action="store_true", help="print the figures that are kept of the YAML's members")
    book.add_argument("--clear", action="store_true", help="delete all figures that are kept")
    every = "with --list: of all members that were ever measured, not of the YAML's alone"
    profile.add_argument("--all", action="store_true", help=every)


def _add_guide(add: AddVerb) -> None:
    guide = add("help", "guide.show_page", "print a page of the user's guide")
    guide.add_argument("topic", nargs="?", metavar="TOPIC", help="default: list the topics")
    completion = add("completion", "completion.completion", "print the script that completes commands in a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to run the script")


def _add_results(add: AddVerb) -> None:
    verify = add(
        "verify",
        "results.verify",
        "check results: every row written once, every byte as written, the members unchanged",
    )
    again = "combine the stored members of a result by another rule, or to other outputs; no network runs"
    combine = add("combine", "results.combine", again)
    export = add("export", "results.export", "write a result as Parquet, CSV or npy")
    verify.add_argument("result", type=Path, nargs="+", metavar="PREDICTIONS.H5", help="results, or folders of them")
    stored = "a result with stored members (output.datasets: [members])"
    for verb, file in ((combine, stored), (export, "a result")):
        verb.add_argument("result", type=Path, metavar="PREDICTIONS.H5", help=file)
    verify.add_argument("--json", action="store_true", help="print the findings as JSON")
    source = combine.add_mutually_exclusive_group(required=True)
    source.add_argument("-c", "--config", type=Path, help="a YAML with another rule or other outputs")
    source.add_argument("--rule", help="another rule: its name, or trimmed:0.2")
    combine.add_argument("-o", "--output", type=Path, required=True, metavar="OTHER.H5", help="the file to write")
    export.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="ends in .parquet, .csv or .npy"
    )
    datasets = "what to write, separated by commas: label,top-5 (default: all datasets)"
    export.add_argument("--datasets", type=lambda text: text.split(","), default=[], help=datasets)


def _add_runs(add: AddVerb) -> None:
    status = add("status", "runs.status", "print how far runs are, or how they ended")
    watch = "print the status again every few seconds until the run ends; then exit as the run did"
    status.add_argument("--watch", action="store_true", help=watch)
    _verbose(status)
    runs = add("list", "runs.runs", "list the runs in a folder")
    folder = "the folder to look in (default: the current folder)"
    runs.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="FOLDER", help=folder)
    for verb in (status, runs):
        verb.add_argument("--json", action="store_true", help="print the status as JSON")
    wait = add("wait", "runs.wait", "wait until runs have ended; then exit as they did")
    logs = add("logs", "runs.logs", "print what the ranks of runs wrote")
    logs.add_argument("-n", "--lines", type=_positive, metavar="N", help="print only the last N lines of each file")
    cancel = add("cancel", "runs.cancel", "stop runs in order: rows under way are finished first; nothing is lost")
    cancel.add_argument("--now", action="store_true", help="kill them at once; rows that are on disk are kept")
    for verb in (status, wait, logs, cancel):
        verb.add_argument("run", type=Path, nargs="+", metavar="RUN", help=_RUNS)
    report = add("report", "results.report", "draw a run as one web page: speed, memory, values, provenance")
    report.add_argument("run", type=Path, metavar="RUN", help="a run directory (OUTPUT.run), or its output")
    page = "the page to write (default: beside the run's output, as OUTPUT.html)"
    report.add_argument("-o", "--output", type=Path, metavar="REPORT.HTML", help=page)


def _job_options(parser: argparse.ArgumentParser, *, scores: bool = True, datasets: str = "+") -> None:
    files = "one file, several in this order, or a pattern as 'part-*.h5'"
    parser.add_argument("dataset", nargs=datasets, metavar="DATASET.H5", help=files)
    config = "the configuration (default: ./hpcens.yaml, else $HPCENS_CONFIG)"
    parser.add_argument("-c", "--config", type=Path, help=config)
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help=f"{'score' if scores else 'count on'} only the first N rows"
    )
    if scores:
        kept = "use the batch and segment sizes of a plan that hpcens plan -o wrote"
        parser.add_argument("--plan", type=Path, metavar="PLAN.JSON", help=kept)
        timeline = "write what every rank did when; ui.perfetto.dev shows it"
        parser.add_argument("--trace", type=Path, metavar="TRACE.JSON", help=timeline)


def _verbose(parser: argparse.ArgumentParser) -> None:
    text = "once the run has ended, print also its plan, and what every member, device and rank did"
    parser.add_argument("-v", "--verbose", action="store_true", help=text)


def _array(text: str) -> tuple[int, int | None]:
    number, _, at_once = text.partition("%")
    return _positive(number), _positive(at_once) if at_once else None


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("..")
    numbers = _positive(first), _positive(last or first)
    if numbers[0] > numbers[1]:
        raise argparse.ArgumentTypeError("the smaller number comes first")
    return numbers


def _duration(text: str) -> float:
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    seconds = sum(float(n or 0) * unit for n, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    if not seconds:
        raise argparse.ArgumentTypeError("a time, as 2h, 2h30m or 90s")
    return seconds
