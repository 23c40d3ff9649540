"""Put the blocks of a dataset together, in a process of its own: libhdf5 may crash on a file that is damaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from hpcens.checks.preflight import Preflight
from hpcens.errors import COMPLETE, FAILURE, INCOMPLETE, HpcensError, as_verdict
from hpcens.processes.isolation import NoAnswer, isolated
from hpcens.result import Form, Part, begin_assembly, decision_of, require_room, room_for_assembly
from hpcens.runs import AGAIN, Epoch, Events, MaskedRows, ProgressMade, Report, RunDirectory, SpotCheck, Verdict, in_all
from hpcens.specs import Job
from hpcens.units import Unit


@dataclass(frozen=True, slots=True)
class Taken:
    """A block that was looked at. damaged: its key, where it is not whole; else empty."""

    damaged: str = ""


def assemble(
    job: Job, preflight: Preflight, epoch: Epoch, blocks: Sequence[Unit], asked: Callable[[], str]
) -> tuple[Verdict, list[str]]:
    """Put the blocks together into the job's result; return how that ended, and the keys of blocks that are damaged.

    epoch  the start of the result's run that does it
    asked  returns why the world is asked to end; empty where it is not
    """
    damaged: list[str] = []
    question = partial(_assembling, job, preflight, epoch.folder, tuple(blocks))
    with isolated(question) as process:
        try:
            while isinstance(answer := process.answer(), Taken):
                damaged += [answer.damaged] if answer.damaged else []
                if reason := asked():
                    return Verdict(INCOMPLETE, f"{reason}, while the blocks were put together", AGAIN), []
        except NoAnswer as silence:
            ending = f"the process that put the blocks together {silence.ending}{silence.quotation}"
            return Verdict(FAILURE, ending, AGAIN), []
    verdict: Verdict = answer
    return verdict, damaged


def _assembling(job: Job, preflight: Preflight, folder: Path, blocks: Sequence[Unit]) -> Iterator[Taken | Verdict]:
    try:
        yield from assembled(job, preflight, Epoch(folder), blocks)
    except (HpcensError, OSError, RuntimeError) as error:
        known = as_verdict(error)
        yield Verdict(known.exit_code, known.what, known.remedy)


def assembled(job: Job, preflight: Preflight, epoch: Epoch, blocks: Sequence[Unit]) -> Iterator[Taken | Verdict]:
    """Put the blocks together in this process: yield what each is found to be, then how it ended."""
    run = RunDirectory.of(job.output)
    decision = decision_of(run)
    if decision is None:
        raise HpcensError("what was scored is void meanwhile", AGAIN)
    form = decision.form(job, facts=preflight.facts, digests=preflight.digests, space=preflight.space)
    require_room(job, room_for_assembly(run, form.segmentation.rows, form.outputs, form.compression))
    epoch.keep_plan(decision.plan)
    assembly = begin_assembly(run, epoch, form)
    whole = rows = 0
    with closing(assembly), closing(Events(epoch.events)) as events:
        for unit in blocks:
            sound = assembly.take(_part(unit, form))
            whole, rows = whole + sound, rows + unit.rows
            events.add(ProgressMade(rows, form.segmentation.rows))
            yield Taken("" if sound else unit.key)
        if whole == len(blocks):
            names = job.spec.member_names
            masked = [MaskedRows(names[member], *others) for member, *others in assembly.masked()]
            summary = {"rows": form.segmentation.rows, "masked": list(map(asdict, masked)), "finished": time.time()}
            assembly.finish(job.output, summary | _spot_checks(blocks))
    if whole < len(blocks):
        text = f"{len(blocks) - whole} of {len(blocks)} blocks are damaged, and are scored again"
        yield Verdict(INCOMPLETE, text, AGAIN)
        return
    left_out = sum(each.rows for each in masked)
    text = f"{form.segmentation.rows:,} rows scored in {whole} blocks{f' ({left_out:,} masked)' if left_out else ''}"
    yield Verdict(COMPLETE, f"{text}, every segment read back and equal to its checksum")


def _part(unit: Unit, form: Form) -> Part:
    assert unit.segments is not None, "a block has segments"
    first, stop = unit.segments
    return Part(Path(unit.output), replace(form.segmentation, first=first, stop=stop))


def _spot_checks(blocks: Sequence[Unit]) -> dict[str, Any]:
    """Add up what was scored in eager too, in all starts of all blocks."""
    runs = (RunDirectory.of(Path(unit.output)) for unit in blocks)
    reports = (Report.load(epoch.report) for run in runs for epoch in run.epochs())
    every: Iterator[SpotCheck] = chain.from_iterable(report.spot_checks for report in reports if report is not None)
    checks = in_all(every)
    return {"spot_checks": list(map(asdict, checks))} if checks else {}
