"""What limits the devices of a start: how busy each was, what it waited for, and what would feed it better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isinf
from statistics import fmean, median

from hpcens.reports.text import amount, devices_phrase, grouped, span
from hpcens.runs import RankReport
from hpcens.transports.timeline import HAND_OVER, INPUT, WAITS
from hpcens.vocabulary import IoRates, Plan

# Devices that computed for so much of the time are what limits; below the other, nothing was busy enough to.
_FED = 0.9
_BUSY = 0.6
# A device that computed for less of the median of those like it is named.
_SLOW = 0.8
# Readers more that are thought of at most, and what they have to gain.
_MORE = 8
_WORTH = 1.05
_COMPUTED = "Predict"


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """What the rank of one device did with its time.

    busy, starved, blocked  parts of the time: it computed, waited for rows, waited to hand over
    peak                    bytes of the device's memory in use at most; 0: not known
    """

    name: str
    busy: float
    starved: float
    blocked: float
    peak: int


def device_loads(ranks: Sequence[RankReport]) -> list[DeviceLoad]:
    """Return the loads of the devices that computed something."""
    loads = []
    for rank in ranks:
        role, _, name = rank.role.partition(" ")
        if role == "device" and rank.spent.get(_COMPUTED, 0.0) > 0:
            busy, starved, blocked = (_part(rank, task) for task in (_COMPUTED, INPUT, HAND_OVER))
            on_cpu = name.rpartition("/")[2].startswith("cpu")
            peak = rank.device_peak or (rank.peak_bytes if on_cpu else 0)
            loads.append(DeviceLoad(name, busy, starved, blocked, peak))
    return loads


def device_lines(plan: Plan, ranks: Sequence[RankReport]) -> Iterator[str]:
    """Show how busy devices were, what they waited for, and the memory they needed; equal ones in one line."""
    hosting = {name: number for number, of in enumerate(plan.hostings) for name in of.devices}
    planned, memory = plan.memory, {device.name: device.memory for device in plan.devices}
    loads = [load for load in device_loads(ranks) if load.name in memory]
    for alike in grouped(loads, lambda load: hosting.get(load.name)):
        parts = (
            f"computed {_percent([load.busy for load in alike])} %",
            f"waited for rows {_percent([load.starved for load in alike])} %",
            f"to hand over {_percent([load.blocked for load in alike])} %",
        )
        peaks = [load.peak for load in alike if load.peak]
        used = f"{span(peaks, amount)} used at most, " if peaks else ""
        taken = span([planned[load.name] for load in alike], amount)
        room = span([memory[load.name] for load in alike], amount)
        idlest = min(alike, key=lambda load: load.busy)
        behind = idlest.busy < _SLOW * median(load.busy for load in alike)
        named = f"; least busy: {idlest.name}" if len(alike) > 1 and behind else ""
        who = devices_phrase([load.name for load in alike])
        yield f"{who}: {', '.join(parts)}; memory {used}{taken} planned of {room}{named}"


def limit_sentence(plan: Plan, ranks: Sequence[RankReport]) -> str:
    """Say in a sentence what limits the speed; empty where that is not known."""
    loads = device_loads(ranks)
    if not loads:
        return ""
    fed, busiest = fmean(load.busy for load in loads), max(loads, key=lambda load: load.busy)
    reading, sending, writing = _busy(ranks, "reader"), _waiting(ranks, "reader"), _busy(ranks, "reducer")
    passing = {"reading": reading, "sending": sending, "writing": writing}
    role = max(passing, key=passing.__getitem__)
    share = f"{100 * passing[role]:.0f} % of the time"
    others = f"{100 * fed:.0f} % of the time"
    if fed >= _FED or (fed >= _BUSY and fed >= passing[role]):
        return f"bottleneck: the devices, which computed {others}; more or faster devices would help"
    if busiest.busy >= _FED and busiest.busy > passing[role]:
        return (
            f"bottleneck: {busiest.name}, which computed {100 * busiest.busy:.0f} % of the time, all devices {others}"
            " on average; more devices like it would help"
        )
    if passing[role] < _BUSY:
        return f"bottleneck: none; the devices computed {others}, and nothing else was busy for longer than {share}"
    to = f"fed the devices to {100 * fed:.0f} %"
    if role == "writing":
        return f"bottleneck: combining and writing the result, which took {share} and {to}; {_WRITING}"
    if role == "sending":
        return f"bottleneck: sending rows to the devices, for which the reader waited {share}: it {to}; {_SENDING}"
    most = min(1.0, fed / max(1e-9, writing))
    remedy = more_readers(plan.rates, plan.readers, fed, most) or "a faster file system would help"
    return f"bottleneck: reading the dataset, which took {share} and {to}; {remedy}"


_WRITING = "fewer or smaller outputs would help"
_SENDING = "a faster network, or readers on more of the devices' nodes, would help"


def more_readers(rates: IoRates, readers: int, fed: float, most: float) -> str:
    """Say to what further readers would feed the devices, by the rates measured; empty where that is not known.

    fed   part of the time for which devices compute now
    most  part up to which nothing else limits
    """
    now = rates.read_by(readers)
    if isinf(now) or now <= 0:
        return ""
    reached = {more: min(most, fed * rates.read_by(readers + more) / now) for more in range(1, _MORE + 1)}
    best = max(reached.values())
    if best < _WORTH * fed:
        return "further readers would not help: together they read no more" if rates.reading_together else ""
    more = next(more for more, part in reached.items() if part >= min(_FED, best))
    noun = "one reader more" if more == 1 else f"{more} readers more"
    return f"{noun}, each on a node of its own, would give {100 * reached[more]:.0f} %"


def _part(rank: RankReport, task: str) -> float:
    """Return the part of a rank's time that went into a task or a wait."""
    return rank.spent.get(task, 0.0) / (sum(rank.spent.values()) or 1.0)


def _busy(ranks: Sequence[RankReport], role: str) -> float:
    """Return for what part of their time ranks of a role did something, the busiest of them."""
    own = [rank for rank in ranks if rank.role == role and rank.spent]
    return max((sum(_part(rank, task) for task in rank.spent if task not in WAITS) for rank in own), default=0.0)


def _waiting(ranks: Sequence[RankReport], role: str) -> float:
    """Return for what part of their time ranks of a role waited to hand over, the one that did most."""
    return max((_part(rank, HAND_OVER) for rank in ranks if rank.role == role), default=0.0)


def _percent(parts: Sequence[float]) -> str:
    return span([100 * part for part in parts], lambda part: f"{part:.0f}")
