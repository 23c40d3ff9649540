"""A calibration: what was fitted to an ensemble against labels, to be applied to what its rule gives."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from hpcens.specs.member import STRICT

CalibratedKind = Literal["classes", "labels", "values"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was fitted, and to what. A user names its file alone: `path`.

    path         of the file it was read from
    kind         classes that exclude one another, labels that do not, or values
    temperature  by which logits are divided; None: values have none
    coverage     share of new points that sets or intervals are to cover; None: there are none
    thresholds   with coverage; of classes 1 less the least probability of a class in a set; of values half the width
                 of intervals: one for each number of a row, or one for all
    made_of      members, rule and classes it was fitted to, as a result's fingerprint has them
    data         digest of the dataset, as a result's fingerprint has it
    rows         digest of the rows that were used, and of their labels
    n            how many rows
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    path: Path
    kind: CalibratedKind
    temperature: float | None = None
    coverage: float | None = None
    thresholds: tuple[float, ...] = ()
    made_of: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    rows: str = ""
    n: int = 0

    @property
    def content(self) -> dict[str, Any]:
        """All of it but the path, as plain data."""
        content = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "path"}
        return content | {"thresholds": list(self.thresholds)}

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    @property
    def covering(self) -> str:
        """The output by which it keeps its coverage: set or interval; empty where it has none."""
        if self.coverage is None:
            return ""
        return "interval" if self.kind == "values" else "set"
