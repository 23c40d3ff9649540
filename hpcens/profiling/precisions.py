"""Precisions: what a device can compute in."""

from __future__ import annotations

from hpcens.engine import Hardware
from hpcens.errors import UsageError
from hpcens.specs import MemberSpec


def require_able(member: MemberSpec, hardware: Hardware) -> None:
    """Raise UsageError where the device would compute in another precision than the member's, without a word."""
    if member.computes_in == "tf32" and (why := hardware.lacks("tf32")):
        raise UsageError(
            f"member {member.name} cannot be computed in tf32 on {hardware.name}: {why}",
            "write precision: float32 for it, or devices: {cuda: …} of GPUs that do",
        )
