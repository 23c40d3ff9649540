"""The rule: what a user says of how the members' outputs are combined."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from hpcens.specs.member import STRICT, OutputDtype, Space

RuleName = Literal["mean", "weighted", "geometric", "vote", "median", "trimmed", "min", "max", "stack"]

COMBINABLE: dict[str, tuple[Space, ...]] = {
    "values": ("values",),
    "logits": ("logits",),
    "probabilities": ("logits", "probabilities"),
}
"""A space in which a rule combines, and the outputs of members that can be brought there."""

RULE_SPACES: dict[str, tuple[Space, ...]] = {"geometric": ("probabilities",), "vote": ("logits", "probabilities")}
"""Rules that do not make sense in every space, and those in which they do."""

NORMALIZED = ("mean", "weighted", "geometric", "vote", "stack")
"""Rules whose probabilities add up to 1 over the classes if the members' do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSpec:
    """How the members' outputs are combined, and in which space.

    name       a RuleName, or `package.module:function`, found beside the YAML (see `rules.function`)
    space      probabilities (default for members that classify), logits or values
    trim       rule trimmed: share of the members that is left out at either end
    factory    rule stack: import path that builds the torch module fed with the members' outputs
    arguments  rule stack: keyword arguments of the factory
    weights    rule stack: safetensors file with the module's state dict
    output     rule stack: what the module gives (None: logits, or values where values are combined)
    precision  rule stack: of the module (None: float64 where outputs are combined in it, else as a member's)
    normalize  divide the probabilities of a rule that do not add up to 1 over the classes by their sum
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    name: str = "mean"
    space: Space | None = None
    trim: float | None = None
    factory: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    output: Space | None = None
    precision: OutputDtype | None = None
    normalize: bool = False

    def cut(self, members: int) -> int:
        """Return how many rule trimmed leaves out at either end: ⌊trim · members⌋, free of binary fractions' errors."""
        return int(round((self.trim or 0.0) * members, 9))
