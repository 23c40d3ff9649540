"""What a start is to do, as its launcher has left it in the folder of the start.

Devices are read apart: ranks are given roles by them, before what the rest needs is imported.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hpcens.errors import HpcensError
from hpcens.files import MALFORMED, unsealed
from hpcens.runs import AGAIN, Epoch
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec, Job

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight


def read_devices(epoch: Epoch) -> DevicesSpec:
    """Read which devices the job wants."""
    with _damage_named(epoch):
        raw = json.loads(unsealed(epoch.job.read_text())["job"])["spec"]["devices"]
        return DevicesSpec(cpu=raw["cpu"] and CpuSpec(**raw["cpu"]), cuda=raw["cuda"] and CudaSpec(**raw["cuda"]))


def read_order(epoch: Epoch) -> tuple[Job, Preflight]:
    """Read the job, and what its preflight found."""
    from hpcens.checks.preflight import Preflight
    from hpcens.config import job_from_json

    with _damage_named(epoch):
        raw = unsealed(epoch.job.read_text())
        return job_from_json(raw["job"]), Preflight.from_json(raw["preflight"])


@contextlib.contextmanager
def _damage_named(epoch: Epoch) -> Iterator[None]:
    """Raise HpcensError that names the file where the block cannot make sense of it."""
    try:
        yield
    except MALFORMED as error:
        raise HpcensError(f"{epoch.job} is damaged: {type(error).__name__}: {error}", AGAIN) from None
