"""Keeping: which rows of all that are scored a result holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hpcens.specs.member import STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSpec:
    """Which rows a result keeps, by the value of one of its datasets; one of `top` and `above`.

    top    as many, of the largest values; equal ones by row number
    above  all whose value is larger
    by     `dataset` (default: prediction), and `class`, by its name or number, where a row has several values
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    top: int | None = None
    above: float | None = None
    by: dict[str, str] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The dataset by whose values rows are kept."""
        return self.by.get("dataset", "prediction")

    @property
    def described(self) -> str:
        """What is kept, in words."""
        of = f" of class {self.by['class']}" if "class" in self.by else ""
        value = f"{self.dataset}{of}"
        if self.top is not None:
            return f"the {self.top:,} rows of the largest {value}"
        return f"the rows with {value} above {self.above:g}"
