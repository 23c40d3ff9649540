"""The cascade: which members score a row at once, and which only where the row is not yet sure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from hpcens.specs.member import STRICT

ACCEPTED: Mapping[str, Literal["below", "above"]] = {
    "entropy": "below",
    "expected_entropy": "below",
    "mutual_information": "below",
    "disagreement": "below",
    "variance": "below",
    "max_probability": "above",
    "margin": "above",
}
"""What a row may be accepted by, and on which side of its limit."""

OF_SPREAD = frozenset({"mutual_information", "disagreement", "variance"})
"""Of these, what one member alone does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpec:
    """Where a row is accepted: strictly below, or strictly above."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    below: float | None = None
    above: float | None = None

    @property
    def value(self) -> float:
        """The limit itself."""
        return float(self.above if self.below is None else self.below)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """Members that score the rows which no earlier stage has accepted.

    members  their names
    accept   what all must hold for a row to be combined from the members so far; empty: it is the last stage
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    members: tuple[str, ...]
    accept: dict[str, LimitSpec] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """The stage in words."""
        accepted = [f"{name} {ACCEPTED[name]} {limit.value!r}" for name, limit in sorted(self.accept.items())]
        return f"[{', '.join(self.members)}]" + f" accepts {' and '.join(accepted)}" * bool(accepted)


def described_cascade(stages: tuple[StageSpec, ...]) -> str | None:
    """Say of a cascade all that decides which member scores a row; None where there is none."""
    return "; ".join(stage.described for stage in stages) or None


def sets_in_stages(stages: Sequence[StageSpec], sets: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the sets of members from which rows may be combined, each once.

    sets  that rows have where no stage accepts any, each in member order
    """
    found: dict[tuple[str, ...], None] = {}
    so_far: set[str] = set()
    for stage in stages:
        so_far |= {*stage.members}
        found |= dict.fromkeys(tuple(name for name in names if name in so_far) for names in sets)
    return tuple(names for names in found if names)
