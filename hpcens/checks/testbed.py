"""The testbed: the device of this host on which members are tried, and what it cannot show of them.

A job that goes elsewhere may be for devices that this host has not. A trial is about what a member is given and gives,
so one CPU device does; what a member does there for want of a GPU is no fault of its own, and left to the job's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from hpcens.checks.member_process import NoTrial
from hpcens.checks.trials import Trial
from hpcens.engine import discover
from hpcens.errors import HpcensError, UsageError
from hpcens.specs import CpuSpec, DevicesSpec
from hpcens.vocabulary import Device

Trials = Literal["here", "elsewhere", "later"]
"""Where a job is to run, and its members are tried: on this host's devices; on such devices or else on a CPU of this
host, since the job goes elsewhere; or not before the job starts."""

_OF_GPUS = re.compile(
    r"cuda|cudnn|nccl|nvidia|triton|\bgpu|not implemented for '|not enough memory|MemoryError", re.IGNORECASE
)


class Testbed:
    """Where the members of a job are tried.

    wanted  devices that the job is for
    left    member → why its trial is left to the job's start; grows with every trial
    later   members that were never tried and are not tried here either
    """

    __test__ = False  # for pytest, which takes it for a test

    def __init__(self, wanted: DevicesSpec, trials: Trials = "here") -> None:
        self.left: dict[str, HpcensError] = {}
        self.later: tuple[str, ...] = ()
        self._for_gpus = wanted.cuda is not None or wanted.cpu is None
        self._wanted = wanted
        self._trials = trials

    @property
    def device(self) -> Device | None:
        """The device to try members on; None where they are not tried here.

        Raises UsageError where the job is for this host, which has no such devices.
        """
        if isinstance(self._found, UsageError):
            raise self._found
        return self._found

    @cached_property
    def _found(self) -> Device | UsageError | None:
        if self.puts_off:
            return None
        try:
            return next(iter(discover(self._wanted)), None)
        except UsageError as error:
            return error if self._trials == "here" else discover(DevicesSpec(cpu=CpuSpec(count=1)))[0]

    @property
    def puts_off(self) -> bool:
        """Whether nothing is tried before the job starts."""
        return self._trials == "later"

    def serves(self, trial: Trial) -> bool:
        """Tell whether a trial is as good as one on the testbed's device: not one on a CPU where that is a GPU."""
        return trial.family == "cuda" or not (isinstance(self._found, Device) and self._found.family == "cuda")

    def leaves(self, member: str, fault: HpcensError) -> bool:
        """Note a trial that failed for want of a GPU, perhaps; tell whether it did, and the job is for GPUs."""
        if self._trials == "here" or not self._for_gpus or self.device is None or self.device.family == "cuda":
            return False
        if not isinstance(fault, NoTrial) and not _OF_GPUS.search(fault.what):
            return False
        self.left[member] = fault
        return True

    def warnings(self) -> Iterator[str]:
        """Say which trials are left to the job's start, and why."""
        if self.later:
            yield f"not tried before the job starts, by slurm.check_members: {', '.join(self.later)}"
        for member, fault in self.left.items():
            what = fault.what.removeprefix(f"member {member}").lstrip(": ")
            yield (
                f"member {member} cannot be tried on this host's CPU, and the job is for GPUs: it is tried when the job"
                f" starts; here it {what}"
            )
