"""Judge how a start ended, and report what it did."""

from __future__ import annotations

import resource
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from hpcens.errors import COMPLETE, INCOMPLETE
from hpcens.planning.phases import Phase
from hpcens.roles import RankRoles
from hpcens.runs import InstanceReport, MaskedRows, RankReport, Report, SpotCheck, StageReport, Verdict
from hpcens.specs import StageSpec
from hpcens.transports import WAITS
from hpcens.vocabulary import Instance, Plan, Segmentation, Tally


def rank_report(role: str, spent: Mapping[str, float], syncing: float, device_peak: int = 0) -> RankReport:
    """Report what this process took so far.

    spent        what its own thread did (name of a task, or of a wait of `timeline`) → seconds
    syncing      seconds it waited for the disk
    device_peak  bytes in use at most of a GPU's own memory
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    return RankReport(role, spent, syncing, used.ru_utime + used.ru_stime, used.ru_maxrss << 10, device_peak)


def judge(
    segmentation: Segmentation,
    *,
    phase: Phase,
    missing: Collection[int],
    drained: str,
    added: Sequence[str],
    masked: Sequence[MaskedRows],
    unscored: int = 0,
) -> Verdict:
    """Judge how a start ended whose ranks all live.

    phase    the one it came to
    missing  segments that are not durable
    drained  why it was drained, if it was
    added    members whose outputs joined those of a stored result
    masked   what was masked, by member and cause
    unscored number of rows that were masked because no member scores them
    """
    if missing or not phase.last:
        left = sum(map(segmentation.size, missing))
        where = f" in phase {phase.number} of {phase.of}" if phase.of > 1 else ""
        return Verdict(
            INCOMPLETE,
            f"{drained}: {segmentation.part_rows - left} of {segmentation.part_rows} rows are durable{where}",
            "run the same command again to continue",
        )
    joined = f" by {', '.join(added)}, added to what was stored" if added else ""
    causes = [f"{rows.rows} by {rows.cause} of {rows.member}, first row {rows.first}" for rows in masked]
    causes += [f"{unscored} that no member scores"] * (unscored > 0)
    left_out = f" ({'; '.join(causes)} masked)" if causes else ""
    scored = f"{segmentation.part_rows:,} rows scored{joined}{left_out}"
    return Verdict(COMPLETE, f"{scored}, every segment read back and equal to its checksum")


def account(
    plan: Plan,
    rank_roles: RankRoles,
    tallies: Mapping[int, Tally],
    seconds: float,
    ranks: Sequence[RankReport],
    masked: Sequence[MaskedRows],
    checks: Sequence[SpotCheck] = (),
    stages: Sequence[StageReport] = (),
) -> Report:
    """Report what was measured beside what was predicted, for every instance and every rank.

    tallies  rank of a device → what it did
    seconds  from the first batch until the last row was durable
    masked   what was masked, by member and cause
    checks   what was scored in eager too, by member and runtime
    stages   what came to each stage of a cascade; empty where that is not known
    """
    rank_of = {device.name: rank for rank, device in rank_roles.devices.items()}
    total = sum(tallies.values(), Tally())
    rows = max((tally.rows for tally in total.members.values()), default=0)
    if plan.parts or stages:  # each scores rows of its own: as many as all have scored, of those that they have
        scored = sum(tally.rows for tally in total.members.values())
        rows = round(scored / sum(_parts_of(plan, stages).values()))
    return Report(
        rows=rows,
        seconds=seconds,
        rows_per_second=rows / seconds if seconds else 0.0,
        predicted_rows_per_second=plan.throughput,
        instances=tuple(_measured(i, tallies.get(rank_of[i.device], Tally())) for i in plan.instances),
        bottleneck=bottleneck(ranks, seconds),
        syncing_share=sum(rank.syncing for rank in ranks) / seconds if seconds else 0.0,
        idle=rank_roles.idle,
        ranks=tuple(ranks),
        masked=tuple(masked),
        spot_checks=tuple(checks),
        stages=tuple(stages),
    )


def _parts_of(plan: Plan, stages: Sequence[StageReport]) -> dict[str, float]:
    """Return the part of the rows that each member scores: as planned, or as it came of a cascade."""
    parts = {member: plan.parts.get(member, 1.0) for member in plan.members}
    for stage in stages[1:]:
        came = stage.rows / max(1, stages[0].rows)
        parts |= {member: parts[member] / stage.expected * came for member in stage.members}
    return parts


def staged(plan: Plan, stages: Sequence[StageSpec], scored: Sequence[int]) -> tuple[StageReport, ...]:
    """Report of each stage of a cascade what it has scored beside what was expected. scored: rows; empty: not known."""
    expected = [max(plan.parts.get(member, 1.0) for member in stage.members) for stage in stages]
    pairs = zip(stages, scored, expected, strict=True) if scored else ()
    return tuple(StageReport(stage.members, rows, part) for stage, rows, part in pairs)


def _measured(instance: Instance, tally: Tally) -> InstanceReport:
    """Return an instance beside what its device's rank did."""
    done = tally.members.get(instance.member)
    if done is None or not done.seconds:
        return InstanceReport(**asdict(instance))
    return InstanceReport(**asdict(instance), rows=done.rows, measured_speed=done.rows / done.seconds)


def bottleneck(ranks: Sequence[RankReport], seconds: float) -> str:
    """Name the role that was busy most, and for how much of the seconds; of devices that computed, on average."""
    shares: dict[str, list[float]] = {}
    computing = {rank.role for rank in ranks if rank.spent.get("Predict")}
    for rank in ranks:
        if rank.spent and (not computing or rank.role in computing or not rank.role.startswith("device ")):
            busy = sum(spent for name, spent in rank.spent.items() if name not in WAITS)
            shares.setdefault(rank.role.split()[0], []).append(busy / seconds if seconds else 0.0)
    if not shares:
        return ""
    means = {role: sum(of_role) / len(of_role) for role, of_role in shares.items()}
    role = max(means, key=lambda name: means[name])
    return f"{role}: busy {100 * means[role]:.0f} % of the time"
