"""Choose how many nodes to ask for, from plans on more and more of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hpcens.errors import UsageError
from hpcens.specs import SlurmSpec
from hpcens.vocabulary import Device, Plan


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of one kind: what they are called, how many there are, the devices of each, and their partition."""

    name: str
    count: int
    devices: tuple[Device, ...]
    partition: str = ""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Some nodes, and the plan on all their devices.

    taken       (kind of node, how many)
    efficiency  device-hours of the thriftiest allocation beside it over its own
    """

    taken: tuple[tuple[str, int], ...]
    plan: Plan
    efficiency: float = 1.0

    @property
    def nodes(self) -> int:
        """Number of nodes, of all kinds together."""
        return sum(count for _, count in self.taken)


Planned = Callable[[Sequence[Device]], Plan]
"""The plan on these devices. Raises UsageError where the members do not fit them."""


def allocations(kinds: Sequence[Nodes], sizes: Sequence[int], planned: Planned) -> list[Allocation]:
    """Allocate each of these numbers of nodes, the fastest kinds of node first; leave out those too small.

    Raises UsageError where there are fewer nodes, or the members fit none of the allocations.
    """
    most = sum(kind.count for kind in kinds)
    if max(sizes) > most:
        raise UsageError(f"{max(sizes)} nodes are asked for, there are {most}", f"ask for at most {most}")
    ordered = _fastest_first(kinds, planned)
    allocated, reason = [], None
    for size in sizes:
        try:
            allocated.append(_allocate(ordered, size, planned))
        except UsageError as error:
            reason = error
    if not allocated and reason is not None:
        raise UsageError(f"on {max(sizes)} nodes: {reason.what}", reason.remedy)
    least = min(allocation.plan.device_hours for allocation in allocated)
    return [replace(allocation, efficiency=least / allocation.plan.device_hours) for allocation in allocated]


def knee(curve: Sequence[Allocation]) -> Allocation:
    """Return the knee, where more nodes stop to pay: furthest below the line from the first's time to the last's."""
    first, last = curve[0], curve[-1]
    across = max(1, last.nodes - first.nodes)
    down = max(1e-12, first.plan.seconds - min(a.plan.seconds for a in curve))

    def below(allocation: Allocation) -> float:
        gone = (allocation.nodes - first.nodes) / across
        return (first.plan.seconds - allocation.plan.seconds) / down - gone

    return max(curve, key=below)


def smallest(kinds: Sequence[Nodes], deadline: float, planned: Planned) -> Allocation:
    """Return the allocation of fewest nodes that scores the dataset within `deadline` seconds.

    Raises UsageError, saying what the best would be, where none does.
    """
    ordered = _fastest_first(kinds, planned)
    most = sum(kind.count for kind in kinds)
    best = _allocate(ordered, most, planned)
    if best.plan.seconds > deadline:
        raise UsageError(
            f"no allocation meets a deadline of {spell(deadline)}: all {most} nodes need"
            f" {spell(best.plan.seconds)}, limited by {best.plan.limit}",
            "allow more time, or give more nodes under cluster:",
        )
    low = 0
    while best.nodes - low > 1:
        middle = (low + best.nodes) // 2
        try:
            tried = _allocate(ordered, middle, planned)
        except UsageError:
            low = middle
            continue
        if tried.plan.seconds <= deadline:
            best = tried
        else:
            low = middle
    return best


def smallest_of_a_kind(kinds: Sequence[Nodes], deadline: float, planned: Planned) -> tuple[Nodes, Allocation]:
    """Return the kind of node of which fewest score the dataset within `deadline` seconds, and their allocation.

    Raises UsageError where no kind alone does, for the one that comes nearest.
    """
    sufficient, reasons = [], []
    for kind in kinds:
        try:
            sufficient.append((kind, smallest([kind], deadline, planned)))
        except UsageError as error:
            reasons.append(error)
    if not sufficient:
        raise (
            reasons[0]
            if len(reasons) == 1
            else UsageError(
                "no kind of node alone meets the deadline: "
                + "; ".join(f"{kind.name}: {reason.what}" for kind, reason in zip(kinds, reasons, strict=True)),
                "allow more time",
            )
        )
    return min(sufficient, key=lambda pair: (pair[1].nodes, pair[1].plan.seconds))


def _fastest_first(kinds: Sequence[Nodes], planned: Planned) -> list[Nodes]:
    """Sort kinds by rows/s a node, on one where the members fit it, else on all; last where they do not fit."""

    def speed(kind: Nodes) -> float:
        for count in (1, kind.count):
            try:
                return planned(named(kind, count)).throughput / count
            except UsageError:
                continue
        return 0.0

    return sorted(kinds, key=speed, reverse=True) if len(kinds) > 1 else list(kinds)


def _allocate(ordered: Sequence[Nodes], size: int, planned: Planned) -> Allocation:
    taken: list[tuple[str, int]] = []
    devices: list[Device] = []
    for kind in ordered:
        count = min(kind.count, size - sum(count for _, count in taken))
        if count:
            taken.append((kind.name, count))
            devices += named(kind, count)
    return Allocation(tuple(taken), planned(devices))


def named(kind: Nodes, count: int) -> list[Device]:
    """Return the devices of so many of the nodes, each with a name of its own."""
    return [device.on(f"{kind.name}-{node}") for node in range(1, count + 1) for device in kind.devices]


def asking_for(settings: SlurmSpec, nodes: Nodes, count: int) -> SlurmSpec:
    """Return settings that ask Slurm for so many of the nodes, with all their GPUs where nothing else is set."""
    gpus = sum(device.family == "cuda" for device in nodes.devices)
    return replace(
        settings,
        nodes=count,
        gpus_per_node=settings.gpus_per_node or gpus or None,
        partition=settings.partition or nodes.partition or None,
    )


def spell(seconds: float) -> str:
    """Write seconds as a person says them: 2 h 05 min, 3 min 20 s, 4.2 s."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
