"""The plan: what runs where, in which batches, how fast, and how far from the best."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from hpcens.errors import UsageError
from hpcens.files import checked, unsealed, write_atomically
from hpcens.vocabulary.cascade import ExpectedStage
from hpcens.vocabulary.devices import Device, device_from_dict
from hpcens.vocabulary.io_rates import IoRates
from hpcens.vocabulary.numerics import Numerics, numerics_from_dict

FORMAT = 2
"""Of the plans that are written. In format 1, which did not say so, the I/O rates were fields of the plan itself."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One member on one device.

    batch      rows per forward pass
    runtime    the way the member is executed
    speed      rows/s the device would reach if it ran nothing else (from the profile)
    share      rows/s the plan gives this instance; the shares of a member add up to the throughput of its phase, or to
               its part of that where it scores a part of the rows
    phase      in which it runs
    group      name of the group that runs as one, see `vocabulary.groups`; empty where the member runs by itself
    """

    device: str
    member: str
    batch: int
    runtime: str
    speed: float
    share: float
    phase: int = 0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Hosting:
    """Devices that nothing tells apart, and what each of them hosts.

    devices  their names
    memory   predicted bytes in use on each
    speeds   member → rows/s such a device would reach if it ran nothing else, in member order
    shares   member → rows/s the plan gives each of the devices
    phase    in which they do: a device hosts one set of members in each
    """

    devices: tuple[str, ...]
    memory: int
    speeds: Mapping[str, float]
    shares: Mapping[str, float]
    phase: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does: the matrix with its shares, and what is promised of it.

    hostings    which devices host what; devices that host nothing are in none
    rows        rows to score
    row_bytes, output_bytes  bytes of one row of input; of one row of a member's output
    rates       of the ranks that read, send and write, as measured for the plan
    differences by how much each member's runtime differed from eager on rows of the dataset, see `profiles.Profile`
    loading     predicted seconds until the slowest device has loaded its members
    throughput  predicted rows/s of the whole ensemble
    bound       rows/s no placement of these members on these devices can exceed
    limit       one phrase naming what limits the bound
    window      segments that may be handed out and not yet durable (bounds the reducer)
    read_ahead  segments a reader may hold in memory
    phases      members scored together over all rows, group after group, where no placement holds them all; else ()
    readers     ranks that read, each its own segments
    reducers    ranks that combine and write
    remark      what else is to be known of how the plan was made, or empty
    parts       member → the part of the rows that it scores; those that score all are absent
    expected    stages of a cascade; () where there is none
    copied      devices a row is sent to, on average, those that read it where it lies left out; None: to all
    """

    planner: str
    devices: tuple[Device, ...]
    hostings: tuple[Hosting, ...]
    numerics: Numerics
    rows: int
    row_bytes: int
    output_bytes: int
    differences: Mapping[str, float]
    loading: float
    throughput: float
    bound: float
    limit: str
    window: int
    read_ahead: int
    phases: tuple[tuple[str, ...], ...] = ()
    readers: int = 1
    reducers: int = 1
    remark: str = ""
    rates: IoRates = field(default_factory=IoRates)
    parts: Mapping[str, float] = field(default_factory=dict)
    expected: tuple[ExpectedStage, ...] = ()
    copied: float | None = None

    @property
    def work(self) -> float:
        """The device time that members take on their own rows, as a part of that on all rows, 0 … 1."""
        return self.work_of(self.parts) if self.parts else 1.0

    def work_of(self, parts: Mapping[str, float]) -> float:
        """Return the same where members score these parts of the rows; those that score all may be absent."""
        seconds = dict.fromkeys(self.members, 0.0)
        for hosting in self.hostings:
            for member, speed in hosting.speeds.items():
                seconds[member] = 1 / max(speed, 1 / seconds[member] if seconds[member] else 0.0)
        wanted = sum(taken * parts.get(member, 1.0) for member, taken in seconds.items())
        return wanted / (sum(seconds.values()) or 1.0)

    @property
    def gap(self) -> float:
        """Share of the bound that the plan does not reach, 0 … 1."""
        return max(0.0, 1.0 - self.throughput / self.bound)

    @property
    def seconds(self) -> float:
        """Predicted time to load the members and score all rows."""
        return self.loading + self.rows / self.throughput

    @property
    def device_hours(self) -> float:
        """Predicted for all devices, those that host nothing too: who asked for them pays for them."""
        return len(self.devices) * self.seconds / 3600

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members, in the order of the ensemble."""
        return tuple(self.numerics.members)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All instances, hosting by hosting; thousands of devices have very many."""
        return tuple(i for hosting in self.hostings for device in hosting.devices for i in self._on(device, hosting))

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The members of each phase; all of them where there is one."""
        return self.phases or (self.members,)

    @property
    def memory(self) -> dict[str, int]:
        """Predicted bytes in use, by device name: in the phase that needs most."""
        used = dict.fromkeys((device.name for device in self.devices), 0)
        for hosting in self.hostings:
            for device in hosting.devices:
                used[device] = max(used[device], hosting.memory)
        return used

    def bounds(self, readers: int) -> tuple[int, int]:
        """Window and read-ahead of each of so many readers: together what one would have, but two at least."""
        return max(2, -(-self.window // readers)), max(2, -(-self.read_ahead // readers))

    def on(self, device: str) -> Iterator[Instance]:
        """Return the instances of one device, phase by phase, in member order."""
        return (i for hosting in self.hostings if device in hosting.devices for i in self._on(device, hosting))

    def _on(self, device: str, hosting: Hosting) -> Iterator[Instance]:
        for member, speed in hosting.speeds.items():
            how = self.numerics.members[member]
            yield Instance(
                device, member, how.batch, how.runtime, speed, hosting.shares[member], hosting.phase, how.group
            )

    def to_json(self) -> str:
        """Write the plan as JSON, with the version of its format and the gap."""
        tree = {"format": FORMAT} | asdict(self) | {"gap": self.gap}
        for name in ("parts", "expected"):
            if not tree[name]:
                del tree[name]
        for how in tree["numerics"]["members"].values():
            if not how["group"]:
                del how["group"]
        return json.dumps(tree, indent=1)

    @staticmethod
    def from_json(text: str) -> Plan:
        """Return the plan that `to_json` wrote, in this format or an earlier one.

        Raises ValueError, KeyError or TypeError where the text is no plan.
        """
        try:
            return _plan(_in_this_format(unsealed(text)))
        except (AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"it is no plan ({error})") from None

    def save(self, path: Path) -> None:
        """Write the plan to a file. Raises OSError where that cannot be written."""
        write_atomically(path, self.to_json())

    @staticmethod
    def kept(path: Path) -> Plan | None:
        """Return the plan that an earlier start has left; None where there is none, or the file is damaged."""
        try:
            return Plan.load(path)
        except UsageError:
            return None

    @staticmethod
    def load(path: Path) -> Plan:
        """Read a plan from its file. Raises UsageError where that is missing or is no plan."""
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UsageError(
                f"plan {path} is a folder, a pipe or a device", "name a plan: hpcens plan DATASET -o plan.json"
            )
        try:
            return Plan.from_json(path.read_text())
        except OSError as error:
            raise UsageError(f"plan {path}: {error.strerror}", "write one: hpcens plan DATASET -o plan.json") from None
        except UnicodeDecodeError:
            what = "HDF5" if path.read_bytes().startswith(b"\x89HDF") else "no text"
            raise UsageError(
                f"{path} is {what}, and no plan", "name a plan, or write one: hpcens plan DATASET.H5 -o plan.json"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"plan {path} cannot be read: {error}", "write a new one: hpcens plan DATASET -o PLAN.JSON"
            ) from None


def _plan(raw: dict[str, Any]) -> Plan:
    raw.pop("gap", None)
    numerics = raw.pop("numerics")
    plan = checked(
        Plan(
            devices=tuple(device_from_dict(d) for d in raw.pop("devices")),
            hostings=tuple(checked(Hosting(**h | {"devices": tuple(h["devices"])})) for h in raw.pop("hostings")),
            numerics=numerics_from_dict(numerics),
            phases=tuple(map(tuple, raw.pop("phases", ()))),
            rates=checked(IoRates(**raw.pop("rates"))),
            expected=tuple(
                checked(ExpectedStage(**stage | {"members": tuple(stage["members"])}))
                for stage in raw.pop("expected", ())
            ),
            **raw,
        )
    )
    names = {device.name for device in plan.devices}
    for hosting in plan.hostings:
        if (
            not hosting.devices
            or not names.issuperset(hosting.devices)
            or hosting.speeds.keys() != hosting.shares.keys()
        ):
            raise ValueError("it hosts members on devices that it does not have, or without a speed")
        if not all(0 < speed < inf for speed in hosting.speeds.values()):
            raise ValueError("a member's rows/s are no number above 0")
        if not all(0 <= share < inf for share in hosting.shares.values()):  # what others score alone has none
            raise ValueError("a member's share of the rows/s is no number")
        if not plan.numerics.members.keys() >= hosting.speeds.keys():
            raise ValueError("it hosts members of which it does not say how they compute")
    for number, group in enumerate(plan.groups):
        hosted = {member for hosting in plan.hostings if hosting.phase == number for member in hosting.speeds}
        if not group or not hosted.issuperset(group):
            raise ValueError("it has a phase without members, or members that no device hosts")
    if not all(0 < part <= 1 for part in plan.parts.values()):
        raise ValueError("a member's part of the rows is none")
    if not all(isinstance(apart, float | int) for apart in plan.differences.values()):
        raise ValueError("a member's difference from eager is no number")
    rates = plan.rates
    seconds = rates.message_seconds, rates.sync_seconds, plan.copied
    speeds = rates.reading, rates.reading_threads, rates.reading_together, rates.link, rates.disk
    if not all(s is None or 0 <= s < inf for s in seconds) or not all(s is None or s > 0 for s in speeds):
        raise ValueError("a measured rate is none")
    counts = (plan.rows + 1, plan.window, plan.read_ahead, plan.readers, plan.reducers, plan.numerics.segment_rows)
    if min(counts) < 1 or not 0 < plan.throughput < inf or not plan.bound > 0:
        raise ValueError("a number in it is not above 0")
    return plan


def _in_this_format(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a stored plan with the fields of this format."""
    version = raw.pop("format", 1)
    if version > FORMAT:
        raise ValueError(f"it has format {version}, and this hpcens reads formats up to {FORMAT}")
    if version == 1:
        raw["rates"] = {
            "reading": raw.pop("reading"),
            "reading_together": raw.pop("together", None),
            "readers_together": raw.get("readers", 1),
            "link": raw.pop("link", None),
            "message_seconds": raw.pop("message", None),
            "disk": raw.pop("disk", None),
            "sync_seconds": raw.pop("sync", None),
        }
    return raw
