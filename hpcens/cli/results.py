"""Verbs on a result that need no ranks: verify, combine, export, report."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcens import api
from hpcens.api.results import combined
from hpcens.cli.terminal import say, short, show
from hpcens.config.job import absolute
from hpcens.errors import COMPLETE, FAILURE, INCOMPLETE, HpcensError, UsageError
from hpcens.files import require_folder
from hpcens.reports.ending import output_of
from hpcens.reports.page import write_page
from hpcens.reports.run_page import draw_run
from hpcens.reports.text import verification_lines
from hpcens.result.verify import Verification, verify_each
from hpcens.runs.status import run_of
from hpcens.shell import counted, listed, quoted
from hpcens.units import units_at
from hpcens.units.listing import RESULT_ENDING
from hpcens.units.selection import matches, results_of
from hpcens.units.status import worst


def verify(options: Namespace) -> int:
    """Check results against their journals, their checksums and their members; several as a line each."""
    results, missing = _results(options.result)
    if len(results) == 1 and not missing:
        return _verify_alone(results[0], options)
    codes, raw = set(), []
    for result, outcome in verify_each(results):
        verification = Verification(faults=[outcome.what]) if isinstance(outcome, HpcensError) else outcome
        if isinstance(outcome, HpcensError) or not outcome.sound:
            codes.add(outcome.exit_code if isinstance(outcome, HpcensError) else FAILURE)
        if options.json:
            raw.append({"result": str(result)} | _as_json(verification))
            continue
        say(f"{'sound' if verification.sound else 'not sound'}: {short(result)}", to_stderr=False)
        if not verification.sound:
            say(f"  {counted(len(verification.faults), 'fault')}, the first: {verification.faults[0]}")
    if options.json:
        say(json.dumps(raw, indent=1))
    if missing:
        codes.add(INCOMPLETE)
        say(f"{counted(len(missing), 'file has', 'files have')} no result yet: {listed(missing, 3)}", to_stderr=True)
    return worst(codes)


def _verify_alone(result: Path, options: Namespace) -> int:
    """Check one result, and show what was found; raise what `api.verify` raises."""
    verification = api.verify(result)
    if options.json:
        say(json.dumps(_as_json(verification), indent=1))
    else:
        show(verification_lines(verification))
        faults = f"not sound: {counted(len(verification.faults), 'fault')}; next: score it again into another output"
        say("sound: every row was written once, and every byte is as it was written" if verification.sound else faults)
    return COMPLETE if verification.sound else FAILURE


def _as_json(verification: Verification) -> dict[str, Any]:
    return asdict(verification) | {"sound": verification.sound}


def _results(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the results that paths, folders and patterns mean; and files of many that have none yet.

    Raises UsageError where there are none at all.
    """
    results: list[Path] = []
    missing: list[str] = []
    for path in matches(paths):
        if (units := units_at(path)) is not None:
            there, without = results_of(units)
            results += there
            missing += without
        elif path.is_dir():
            results += sorted(path.rglob(f"*{RESULT_ENDING}"))
        else:
            results.append(path)
    if not results:
        raise UsageError(f"there is no result in {', '.join(map(str, paths))}", "hpcens status says what is")
    return results, missing


def refuse_many(path: Path) -> None:
    """Raise UsageError where a path means many results and one is wanted."""
    if (units := units_at(path)) is not None:
        listed = units.newest_list
        if listed is not None and listed.whole:
            raise UsageError(f"the blocks of {path} are yet to be put together", f"hpcens status {quoted(units.path)}")
        raise UsageError(f"{path} is the folder of many results ({short(units.path)})", "name one of its results")


def combine(options: Namespace) -> int:
    """Combine a result's stored members again into another result."""
    refuse_many(options.result)
    output = absolute(options.output)
    verdict = combined(options.result, output, rule=options.rule, config=options.config)
    if verdict is None:
        say(f"{short(output)} is complete already; next: hpcens verify {quoted(short(output))}")
        return COMPLETE
    say(f"complete: {verdict.reason} → {short(output)}; next: hpcens verify {quoted(short(output))}")
    return verdict.code


def report(options: Namespace) -> int:
    """Draw a run, and its result where it is complete, as one page."""
    if options.output is not None:
        require_folder(options.output)
    run = run_of(options.run)
    run.refuse_blocks()
    result = output_of(run)
    path = options.output or result.with_suffix(".html")
    write_page(draw_run(run, result), path)
    say(f"{short(path)} is written; next: open it in a browser, here or elsewhere: it needs no network")
    return COMPLETE


def export(options: Namespace) -> int:
    """Write a result's rows as Parquet, CSV or npy."""
    refuse_many(options.result)
    rows = api.export(options.result, options.output, options.datasets)
    say(f"{counted(rows, 'row')} → {short(options.output)}")
    return COMPLETE
