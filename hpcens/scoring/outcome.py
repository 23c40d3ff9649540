"""The closing: what is said at a start's end, its verdict and its report."""

from __future__ import annotations

import resource
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpcens.errors import COMPLETE, INCOMPLETE
from hpcens.planning.phases import Phase
from hpcens.roles.rank_roles import RankRoles
from hpcens.runs import Verdict
from hpcens.transports.timeline import WAITS
from hpcens.vocabulary import Plan, Segmentation, Tally


@dataclass(frozen=True, slots=True)
class Usage:
    """What one rank took: seconds of CPU, bytes of memory at most, seconds it waited for the disk.

    spent  what its own thread did (a task's name, or a wait of `timeline`) → seconds
    """

    role: str
    spent: Mapping[str, float]
    syncing: float
    cpu_seconds: float
    peak_bytes: int

    @property
    def busy(self) -> float:
        """Seconds in which its own thread did something."""
        return sum(seconds for name, seconds in self.spent.items() if name not in WAITS)

    @staticmethod
    def now(role: str, spent: Mapping[str, float], syncing: float) -> Usage:
        """Of this process, so far."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Usage(role, spent, syncing, used.ru_utime + used.ru_stime, used.ru_maxrss << 10)


def judge(
    segmentation: Segmentation,
    *,
    phase: Phase,
    missing: Collection[int],
    drained: str,
    added: Sequence[str],
    masked: Sequence[Mapping[str, Any]],
) -> Verdict:
    """How a start ended whose ranks all live.

    phase    the one it came to
    missing  segments that are not durable
    drained  why it was drained, if it was
    added    members whose outputs joined those of a stored result
    masked   member, cause, rows and first row of what was masked
    """
    if missing or not phase.last:
        left = sum(map(segmentation.size, missing))
        where = f" in phase {phase.number} of {phase.of}" if phase.of > 1 else ""
        return Verdict(
            INCOMPLETE,
            f"{drained}: {segmentation.rows - left} of {segmentation.rows} rows are durable{where}",
            "run the same command again to continue",
        )
    joined = f" by {', '.join(added)}, added to what was stored" if added else ""
    causes = (f"{of['rows']} by {of['cause']} of {of['member']}, first row {of['first']}" for of in masked)
    left_out = f" ({'; '.join(causes)} masked)" if masked else ""
    what = f"{segmentation.rows} rows scored{joined}{left_out}"
    return Verdict(COMPLETE, f"{what}, every segment read back and equal to its checksum")


def account(
    plan: Plan, rank_roles: RankRoles, tallies: Mapping[int, Tally], seconds: float, usages: Sequence[Usage]
) -> dict[str, Any]:
    """Predicted beside measured, for every instance and every rank.

    tallies  what each device's rank did
    seconds  from the first batch to the last row's being durable
    """
    ranks = {device.name: rank for rank, device in rank_roles.devices.items()}
    instances = []
    for instance in plan.instances:
        tally = tallies.get(ranks[instance.device], Tally()).members.get(instance.member)
        measured = {"rows": tally.rows, "measured_speed": tally.rows / tally.seconds} if tally and tally.seconds else {}
        instances.append(asdict(instance) | measured)
    scored = max((of.rows for of in sum(tallies.values(), Tally()).members.values()), default=0)
    return {
        "rows": scored,
        "seconds": seconds,
        "rows_per_second": scored / seconds if seconds else 0.0,
        "predicted_rows_per_second": plan.throughput,
        "instances": instances,
        "bottleneck": bottleneck(usages, seconds),
        "syncing_share": sum(of.syncing for of in usages) / seconds if seconds else 0.0,
        "idle": list(rank_roles.idle),
        "ranks": [asdict(usage) for usage in usages],
    }


def bottleneck(usages: Sequence[Usage], seconds: float) -> str:
    """The role that was busy most, and for how much of the time; of devices, on average."""
    busy: dict[str, list[float]] = {}
    for of in usages:
        if of.spent:
            busy.setdefault(of.role.split()[0], []).append(of.busy / seconds if seconds else 0.0)
    if not busy:
        return ""
    role, shares = max(busy.items(), key=lambda item: sum(item[1]) / len(item[1]))
    return f"{role}: busy {100 * sum(shares) / len(shares):.0f} % of the time"
