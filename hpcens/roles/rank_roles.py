"""Which rank has which role: from what the ranks found, not from the launcher's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hpcens.errors import UsageError
from hpcens.vocabulary import Device


@dataclass(frozen=True, slots=True)
class Hello:
    """What a rank says of itself: the node it is on, and the devices it sees there.

    ids  of each device what tells it from all others of its node, whatever a rank numbers it; by default its name
    """

    rank: int
    node: str
    devices: tuple[Device, ...]
    library: str
    ids: tuple[str, ...] = ()

    def seen(self) -> dict[str, Device]:
        """Return the devices by their ids."""
        return dict(zip(self.ids or (device.name for device in self.devices), self.devices, strict=True))


@dataclass(frozen=True, slots=True)
class RankRoles:
    """Roles by rank; ranks that have none park.

    readers   their ranks; the first decides for all
    reducers  their ranks; the first opens and finishes the result
    devices   rank → the device it computes on
    speakers  node → the rank that writes its heartbeat
    idle      names of devices that no rank but the reader's or the reducer's sees: they compute nothing
    gpus      rank → the UUID of its GPU
    """

    readers: tuple[int, ...]
    reducers: tuple[int, ...]
    devices: Mapping[int, Device]
    speakers: Mapping[str, int] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    gpus: Mapping[int, str] = field(default_factory=dict)

    @property
    def farthest(self) -> int:
        """The rank of a device on another node than the first reader's, where there is one."""
        home = {node for node, rank in self.speakers.items() if rank == self.readers[0]}
        return max(self.devices, key=lambda rank: (self.devices[rank].host not in home, rank))

    @property
    def apart(self) -> bool:
        """Whether the farthest device is on another node than the first reader."""
        (home,) = {node for node, rank in self.speakers.items() if rank == self.readers[0]} or {""}
        return self.devices[self.farthest].host != home

    def role(self, rank: int) -> str:
        """Name the rank's role in words."""
        if rank in self.readers:
            return "reader"
        if rank in self.reducers:
            return "reducer"
        return f"device {self.devices[rank].name}" if rank in self.devices else "parked"


def assign_roles(hellos: Sequence[Hello]) -> RankRoles:
    """Assign roles: rank 0 reads, the next rank of its node reduces, each device gets a rank of its node that sees it.

    Where every rank sees one GPU of its own, those of the reader and of the reducer idle.
    Raises UsageError where a node has fewer ranks than its devices (and reader and reducer) need.
    """
    reader = hellos[0].rank
    by_node: dict[str, list[Hello]] = {}
    for hello in hellos:
        by_node.setdefault(hello.node, []).append(hello)
    beside = [hello.rank for hello in by_node[hellos[0].node] if hello.rank != reader]
    elsewhere = [hello.rank for hello in hellos if hello.rank != reader and hello.rank not in beside]
    reducer = next(iter([*beside, *elsewhere]), None)
    needed = 2
    devices: dict[int, Device] = {}
    gpus: dict[int, str] = {}
    short: list[str] = []
    idle: list[str] = []
    for node, of in by_node.items():
        free = [hello for hello in of if hello.rank not in (reader, reducer)]
        found = _named(of)
        owners = _match(free, found)
        needed += len(found)
        own = len(found) > 1 and all(len(hello.seen()) == 1 for hello in of)  # every rank sees one, and not the same
        for place, name in found.items():
            if place in owners:
                owner = owners[place]
                devices[owner.rank] = device = replace(owner.seen()[place], name=name, host=node)
                if device.family == "cuda":
                    gpus[owner.rank] = place
            elif len(free) < len(of) and not any(place in hello.seen() for hello in free) and (free or own):
                idle.append(name)
            else:
                short.append(f"{node} has {len(of)} ranks and {len(found)} devices")
                break
    if reducer is None or short:
        raise UsageError(
            f"the plan needs {needed} ranks (reader, reducer, one a device); {len(hellos)} were started"
            + (f": {'; '.join(short)}" if short else ""),
            f"start {needed} ranks, or ask for fewer devices in the YAML",
        )
    if not devices:
        raise UsageError("no rank found a device", "check devices in the YAML, and nvidia-smi on the nodes")
    speakers = {node: of[0].rank for node, of in by_node.items()}
    return RankRoles((reader,), (reducer,), devices, speakers, tuple(idle), gpus)


def most_readers_and_reducers(rank_roles: RankRoles, hellos: Sequence[Hello]) -> tuple[int, int]:
    """Count how many readers, one a node at most, and how many reducers there are ranks for at once."""
    node = {hello.rank: hello.node for hello in hellos}
    parked = Counter(node[hello.rank] for hello in hellos if rank_roles.role(hello.rank) == "parked")
    further = set(parked) - {node[rank_roles.readers[0]]}
    at = node[rank_roles.reducers[0]]
    return 1 + len(further), 1 + parked[at] - (at in further)


def extend_roles(rank_roles: RankRoles, hellos: Sequence[Hello], *, readers: int, reducers: int) -> RankRoles:
    """Give parked ranks the roles of further readers and reducers, as far as there are such ranks.

    readers   wanted in all; each goes to a node without one, while there is such a node
    reducers  wanted in all; they sit on one node: the result is one file, and pages that two nodes write might meet
    """
    node = {hello.rank: hello.node for hello in hellos}
    parked = [hello.rank for hello in hellos if rank_roles.role(hello.rank) == "parked"]
    beside = [rank for rank in parked if node[rank] == node[rank_roles.reducers[0]]]
    writing = (*rank_roles.reducers, *beside[: reducers - len(rank_roles.reducers)])
    reading = list(rank_roles.readers)
    free = [rank for rank in parked if rank not in writing]
    while free and len(reading) < readers:
        crowd = Counter(node[rank] for rank in reading)
        chosen = min(free, key=lambda rank: crowd[node[rank]])
        free.remove(chosen)
        reading.append(chosen)
    return replace(rank_roles, readers=tuple(reading), reducers=writing)


def _named(hellos: Sequence[Hello]) -> dict[str, str]:
    """Name all devices of a node, by id. Ranks that see one GPU each call it by one name: these are numbered."""
    first: dict[str, Device] = {}
    for hello in hellos:
        for place, device in hello.seen().items():
            first.setdefault(place, device)
    if len({device.name for device in first.values()}) == len(first):
        return {place: device.name for place, device in first.items()}
    node = hellos[0].node
    return {place: f"{node}/{device.family}{i}" for i, (place, device) in enumerate(first.items())}


def _match(free: Sequence[Hello], found: Iterable[str]) -> dict[str, Hello]:
    """Match as many devices as can be with ranks that see them: Kuhn's augmenting paths."""
    owners: dict[str, Hello] = {}
    sight = {hello.rank: hello.seen().keys() for hello in free}

    def give(place: str, tried: set[int]) -> bool:
        unused = sorted(free, key=lambda hello: any(owner is hello for owner in owners.values()))
        for hello in unused:
            if hello.rank in tried or place not in sight[hello.rank]:
                continue
            tried.add(hello.rank)
            other = next((p for p, owner in owners.items() if owner.rank == hello.rank), None)
            if other is None or give(other, tried):
                owners[place] = hello
                return True
        return False

    for place in found:
        give(place, set())
    return owners


def check_world(size: int, expected: int, launcher: str) -> None:
    """Raise UsageError where the world is not the one that was started."""
    if size == 1 and expected > 1:
        raise UsageError(
            f"{launcher} started {expected} ranks, but each finds itself alone in a world of 1",
            "the launcher and this MPI do not speak to each other: start with the mpiexec of the MPI that mpi4py uses,"
            " or under Slurm with srun --mpi=pmi2 (or pmix; see srun --mpi=list)",
        )
    if size < expected:
        raise UsageError(f"the plan needs {expected} ranks; {launcher} started {size}", f"start {expected} ranks")
