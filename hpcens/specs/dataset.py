"""What a user asks for of the dataset: inputs, rows, columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from hpcens.specs.member import STRICT

Decode = Literal["auto", "true", "false"]
DatasetTrust = Literal["file_access"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """Where an input lies in the file, and how it is read.

    path    of an HDF5 dataset
    field   of it, where its type is compound
    axis    that of the rows (None: the first); the others keep their order
    decode  whether packed numbers are unpacked: scale_factor, add_offset, fill values; auto: in files of netCDF
    fill    what fill values become (None: NaN); of rows of variable length, what they are padded with (None: 0)
    bytes   whether strings are taken as their bytes
    length  to which rows of variable length are padded
    lengths whether it is the lengths of such rows that are taken
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    path: str
    field: str | None = None
    axis: int | None = None
    decode: Decode = "auto"
    fill: float | None = None
    bytes: bool = False
    length: int | None = None
    lengths: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectSpec:
    """Which rows are scored: those from `start` up to `stop`, or those a dataset names.

    path  HDF5 path, in each file, of a mask (booleans) or of row numbers of that file (their order is kept)
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    start: int | None = None
    stop: int | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """What of the HDF5 files is scored.

    input    path of the one input; None where the file has only one dataset, or `inputs` are named
    inputs   several inputs by name, in the order in which members are called with them
    select   the rows; None: all
    columns  HDF5 paths of datasets that are copied to the result
    route    name → HDF5 path of a dataset with a value a row, by which members' `rows` choose theirs
    trust    file_access: rows may be stored in files anywhere, not only in the folder of the HDF5 file that names them
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    input: str | None = None
    inputs: dict[str, InputSpec] = field(default_factory=dict)
    select: SelectSpec | None = None
    columns: tuple[str, ...] = ()
    route: dict[str, str] = field(default_factory=dict)
    trust: tuple[DatasetTrust, ...] = ()

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """The inputs by name; empty where the file's only dataset is meant."""
        if self.input is None:
            return self.inputs
        return {self.input.rstrip("/").rpartition("/")[2]: InputSpec(path=self.input)}
