"""Tell what fails because of a device from what it was asked to compute."""

from __future__ import annotations

from hpcens.engine.cuda_words import says_broken
from hpcens.engine.hardware import Hardware
from hpcens.errors import DeviceFailed
from hpcens.members import cause_of
from hpcens.processes import node


def require_device(hardware: Hardware, error: BaseException) -> None:
    """Raise DeviceFailed where the error says that the device is to blame, and not what it was asked to compute."""
    if said := hardware.failure(cause_of(error)):
        raise DeviceFailed(f"{hardware.name} failed: {said}", node() if says_broken(said) else "") from error
