"""Numerics: what fixes the bytes of a result, besides weights, code and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcens.files import checked

DRIVER = "driver"
"""Of the libraries the GPUs' driver. It is told and not required: nodes get a new one while runs go on, which cannot
bring the old one back, and each instance compares bits with what it gave when it was measured."""


@dataclass(frozen=True, slots=True)
class MemberNumerics:
    """What fixes the bytes of one member's output, besides its weights and its code.

    group  name of the group it runs in, see `vocabulary.groups`; empty where it runs by itself
    """

    batch: int
    runtime: str
    precision: str = "float32"
    group: str = ""


@dataclass(frozen=True, slots=True)
class Numerics:
    """What fixes the bytes of a result: decided once, when a run is created, and kept by every resume.

    kinds  kinds of device that may compute (a kind of CPU device includes its thread count)
    torch  version of torch
    libraries  versions of what else decides the bits that GPUs compute; empty where none does
    """

    segment_rows: int
    members: Mapping[str, MemberNumerics]
    kinds: tuple[str, ...]
    torch: str
    libraries: Mapping[str, str] = field(default_factory=dict)


def numerics_from_dict(raw: dict[str, Any]) -> Numerics:
    """Read what fixes a result's last bits from a plan's JSON. Raises ValueError where a value is of another type."""
    numerics = Numerics(
        segment_rows=raw["segment_rows"],
        members={name: checked(MemberNumerics(**m)) for name, m in raw["members"].items()},
        kinds=tuple(map(str, raw["kinds"])),
        torch=raw["torch"],
        libraries={str(name): str(version) for name, version in raw.get("libraries", {}).items()},
    )
    return checked(numerics)
