"""Find the nodes on which starts failed again and again, for the next job to leave out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from hpcens.errors import COMPLETE, INCOMPLETE
from hpcens.runs.claim import Claim
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import Epoch
from hpcens.runs.events import WorldFormed, read_events
from hpcens.scheduler.jobs import Answer, ask_all

TOO_OFTEN = 2
"""Starts that have failed on a node before it is left out."""
# Of a job that ended like this its node is not to blame, whichever of its ranks was killed first.
_NOT_THE_NODES = ("CANCELLED", "PREEMPTED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY")

AskAll = Callable[[Collection[str]], Mapping[str, Answer] | None]


def failing_nodes(run: RunDirectory, ask: AskAll = ask_all) -> dict[str, int]:
    """Return the nodes that ended starts of a run in Slurm's jobs, see `failing`."""
    return failing(run.epochs(), ask)


def failing(starts: Iterable[Epoch], ask: AskAll = ask_all) -> dict[str, int]:
    """Return the nodes that ended starts in Slurm's jobs, at least `TOO_OFTEN`, and how many each.

    A start on a node that went well later forgives it what was before; what Slurm ended itself is not the node's.

    starts  of one run or of many, the newest first
    """
    failed: dict[str, list[str]] = {}
    forgiven: set[str] = set()
    for epoch in starts:
        verdict, claim = epoch.verdict, Claim.load(epoch.claim)
        if verdict is None or claim is None or claim.job is None:
            continue
        if verdict.code in (COMPLETE, INCOMPLETE) and not verdict.node:
            world = next((event for _, event in read_events(epoch.events) if isinstance(event, WorldFormed)), None)
            forgiven |= set(world.nodes) if world else set()
        elif verdict.node and verdict.node not in forgiven:
            failed.setdefault(verdict.node, []).append(claim.job.id)
    suspects = {node: ended for node, ended in failed.items() if len(ended) >= TOO_OFTEN}
    answers = (ask({job for ended in suspects.values() for job in ended}) or {}) if suspects else {}
    counts = {
        node: sum(job not in answers or answers[job].state not in _NOT_THE_NODES for job in ended)
        for node, ended in suspects.items()
    }
    return {node: count for node, count in counts.items() if count >= TOO_OFTEN}
