"""Verbs on a result that need no ranks: verify, combine, export, report."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict

from hpcens import api
from hpcens.api.results import combined
from hpcens.cli.terminal import say, short, show
from hpcens.config.job import absolute
from hpcens.errors import COMPLETE, FAILURE
from hpcens.reports.ending import output_of
from hpcens.reports.page import write_page
from hpcens.reports.run_page import draw_run
from hpcens.reports.text import verification_lines
from hpcens.runs.status import run_of
from hpcens.shell import quoted


def verify(options: Namespace) -> int:
    """Check a result against its journal, its checksums and its members."""
    verification = api.verify(options.result)
    if options.json:
        say(json.dumps(asdict(verification) | {"sound": verification.sound}, indent=1))
    else:
        show(verification_lines(verification))
        faults = f"not sound: {len(verification.faults)} faults; next: score it again into another output"
        say("sound" if verification.sound else faults)
    return COMPLETE if verification.sound else FAILURE


def combine(options: Namespace) -> int:
    """Combine a result's stored members again into another result."""
    output = absolute(options.output)
    verdict = combined(options.result, output, rule=options.rule, config=options.config)
    if verdict is None:
        say(f"{short(output)} is complete already; next: hpcens verify {quoted(short(output))}")
        return COMPLETE
    say(f"complete: {verdict.reason} → {short(output)}; next: hpcens verify {quoted(short(output))}")
    return verdict.code


def report(options: Namespace) -> int:
    """Draw a run, and its result where it is complete, as one page."""
    run = run_of(options.run)
    result = output_of(run)
    path = options.output or result.with_suffix(".html")
    write_page(draw_run(run, result), path)
    say(f"{short(path)} is written; next: open it in a browser, here or elsewhere: it needs no network")
    return COMPLETE


def export(options: Namespace) -> int:
    """Write a result's rows as Parquet, CSV or npy."""
    rows = api.export(options.result, options.output, options.datasets)
    say(f"{rows:,} rows → {short(options.output)}")
    return COMPLETE
