"""Verbs that need no ranks: verify, combine, export, simulate, init; and how one that has run concludes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.cli.terminal import short, show
from hpcens.errors import COMPLETE, FAILURE

if TYPE_CHECKING:
    from argparse import Namespace


def verify(options: Namespace) -> int:
    from dataclasses import asdict

    from hpcens.reports.text import verification_lines
    from hpcens.result.verify import verify

    found = verify(options.result)
    if options.json:
        print(json.dumps(asdict(found) | {"sound": found.sound}, indent=1))
    else:
        show(verification_lines(found))
        print(
            "sound"
            if found.sound
            else f"not sound: {len(found.faults)} faults; next: score it again into another output"
        )
    return COMPLETE if found.sound else FAILURE


def combine(options: Namespace) -> int:
    from hpcens.checks.preflight import absolute
    from hpcens.combining import Recombination, require_same_members, under_rule
    from hpcens.config import load
    from hpcens.result.finished import Finished

    source = Finished(absolute(options.result))
    if options.config:
        spec = load(options.config)
        require_same_members(source, spec)
    else:
        spec = under_rule(source, options.rule, Path.cwd())
    output = absolute(options.output)
    recombination = Recombination(source, spec, output)
    if recombination.is_complete():
        print(f"{short(output)} is complete already; next: hpcens verify {short(output)}")
        return COMPLETE
    verdict = recombination.write()
    print(f"complete: {verdict.reason} → {short(output)}; next: hpcens verify {short(output)}")
    return verdict.code


def export(options: Namespace) -> int:
    from hpcens.result.export import export
    from hpcens.result.finished import Finished

    rows = export(Finished(options.result), options.output, options.datasets)
    print(f"{rows:,} rows → {short(options.output)}")
    return COMPLETE
