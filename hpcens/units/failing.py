"""Find the nodes on which starts of many files failed again and again, for the next worlds to leave out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hpcens.runs import Claim, Epoch, RunDirectory
from hpcens.runs.failing_nodes import AskAll, failing
from hpcens.scheduler.jobs import ask_all
from hpcens.units.directory import UnitsDirectory
from hpcens.units.listing import Unit


def failing_nodes_of_units(directory: UnitsDirectory, ask: AskAll = ask_all) -> dict[str, int]:
    """Return the nodes that ended starts of any of the files, see `failing`: a start of any that went well forgives.

    Files of which every attempt went well are looked at only where a node is suspected.
    """
    if (units := directory.newest_list) is None:
        return {}
    attempts = directory.attempts()
    begun = [unit for unit in units.units if unit.key in attempts]
    troubled = [unit for unit in begun if any(attempt.kind != "done" for attempt in attempts[unit.key])]
    if not failing(_newest_first(troubled), lambda jobs: {}):
        return {}
    return failing(_newest_first(begun), ask)


def _newest_first(units: Iterable[Unit]) -> list[Epoch]:
    """Return all starts of some files, by the time at which each began."""
    began: list[tuple[float, Epoch]] = []
    for unit in units:
        for epoch in RunDirectory.of(Path(unit.output)).epochs():
            if (claim := Claim.load(epoch.claim)) is not None:
                began.append((claim.began, epoch))
    return [epoch for _, epoch in sorted(began, key=lambda start: start[0], reverse=True)]
