"""Verbs on a result that need no ranks: verify, combine, export."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from hpcens.cli.terminal import say, short, show
from hpcens.combining import Recombination, require_same_members, under_rule
from hpcens.config import load
from hpcens.config.job import absolute
from hpcens.errors import COMPLETE, FAILURE
from hpcens.reports.text import verification_lines
from hpcens.result import Finished
from hpcens.result import export as exporting
from hpcens.result import verify as verifying
from hpcens.shell import quoted


def verify(options: Namespace) -> int:
    """Check a result against its journal, its checksums and its members."""
    verification = verifying.verify(options.result)
    if options.json:
        say(json.dumps(asdict(verification) | {"sound": verification.sound}, indent=1))
    else:
        show(verification_lines(verification))
        faults = f"not sound: {len(verification.faults)} faults; next: score it again into another output"
        say("sound" if verification.sound else faults)
    return COMPLETE if verification.sound else FAILURE


def combine(options: Namespace) -> int:
    """Combine a result's stored members again into another result."""
    source = Finished(absolute(options.result))
    if options.config:
        spec = load(options.config)
        require_same_members(source, spec)
    else:
        spec = under_rule(source, options.rule, Path.cwd())
    output = absolute(options.output)
    recombination = Recombination(source, spec, output)
    if recombination.is_complete():
        say(f"{short(output)} is complete already; next: hpcens verify {quoted(short(output))}")
        return COMPLETE
    verdict = recombination.write()
    say(f"complete: {verdict.reason} → {short(output)}; next: hpcens verify {quoted(short(output))}")
    return verdict.code


def export(options: Namespace) -> int:
    """Write a result's rows as Parquet, CSV or npy."""
    rows = exporting.export(Finished(options.result), options.output, options.datasets)
    say(f"{rows:,} rows → {short(options.output)}")
    return COMPLETE
