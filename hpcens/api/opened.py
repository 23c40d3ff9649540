"""A result, open: its arrays, names, members, uncertainties and provenance, read when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hpcens.api.configuration import PathLike
from hpcens.api.labelled import dataset_of, frame_of
from hpcens.api.planned import Plan
from hpcens.config import spec_from_json
from hpcens.config.job import absolute
from hpcens.errors import UsageError
from hpcens.result import Finished, StoredArray
from hpcens.result.export import array_of, chosen_outputs, export
from hpcens.specs import RunSpec
from hpcens.vocabulary import Plan as BasePlan

if TYPE_CHECKING:
    import pandas
    import xarray

_UNCERTAINTIES = ("variance", "entropy", "expected_entropy", "mutual_information", "disagreement")
_VERSIONS = ("hpcens", "python", "torch", "numpy", "h5py", "mpi")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a result was made of.

    versions     of hpcens, Python, torch, numpy, h5py and MPI
    datasets     paths of the input files
    members      name of a member → path of its weights and its digests
    rule         its name, and what it combines: logits, probabilities or values
    fingerprint  the tree of digests of all that fixes the bytes
    summary      rows, when it was finished (seconds since 1970), rows that were masked, spot checks
    """

    versions: Mapping[str, str]
    datasets: tuple[str, ...]
    members: Mapping[str, Mapping[str, Any]]
    rule: Mapping[str, str]
    fingerprint: Mapping[str, Any]
    summary: Mapping[str, Any]


class Result(Mapping[str, StoredArray]):
    """A finished result: a mapping from names of datasets to arrays that are read when they are indexed.

    Nothing is compared with checksums on the way; `hpcens.verify` and `export` do that. Close it, or use it in a `with`
    block.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._finished = Finished(path)

    def __getitem__(self, name: str) -> StoredArray:
        names = {**dict.fromkeys(self), "valid": None}
        full = next((each for each in (name, f"members/{name}", f"columns/{name}") if each in names), name)
        try:
            return self._finished.array(full)
        except UsageError as error:
            raise KeyError(f"{name}: {error.what}") from None

    def __iter__(self) -> Iterator[str]:
        return iter([*(output.name for output in self._finished.outputs), *self._finished.columns])

    def __len__(self) -> int:
        return len([*iter(self)])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the datasets that have a value a row."""
        return tuple(self)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._finished.segmentation.rows

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the axis of classes; empty where none are named."""
        return self._finished.classes

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members, in the order in which they were combined."""
        return tuple(map(str, self._finished.attributes["member_names"]))

    @property
    def members(self) -> dict[str, StoredArray]:
        """Outputs of each member, by its name; empty where `output.datasets` does not have `members`."""
        return {name.partition("/")[2]: self[name] for name in self if name.startswith("members/")}

    @property
    def uncertainties(self) -> dict[str, StoredArray]:
        """Variance, entropies, mutual information and disagreement, as far as they are stored."""
        return {name: self[name] for name in _UNCERTAINTIES if name in self}

    @property
    def columns(self) -> dict[str, StoredArray]:
        """What was copied from the dataset, by name."""
        return {name.partition("/")[2]: self[name] for name in self._finished.columns}

    @property
    def config(self) -> RunSpec:
        """The configuration that the result was made with, every default written out."""
        return spec_from_json(self._finished.document("config"))

    @property
    def plan(self) -> Plan:
        """The plan of the start that completed it."""
        return Plan.of(BasePlan.from_json(self._finished.document("plan")))

    @property
    def provenance(self) -> Provenance:
        """What the result was made of."""
        attributes = self._finished.attributes
        return Provenance(
            versions={name: str(attributes[name]) for name in _VERSIONS if name in attributes},
            datasets=tuple(map(str, attributes["datasets"])),
            members=json.loads(attributes["members"]),
            rule={"name": str(attributes["rule"]), "space": str(attributes["space"])},
            fingerprint=self._finished.fingerprint,
            summary=self._finished.summary,
        )

    def to_xarray(self) -> xarray.Dataset:
        """Return all of it as a Dataset of xarray whose values are read when they are asked for.

        Members' outputs are one variable `members` with an axis `member`; copied columns are coordinates of the rows.
        Keep the result open as long as values may be read. Raises UsageError where xarray is missing.
        """
        rule = self.provenance.rule
        outputs = {output.name: self[output.name] for output in self._finished.outputs if "/" not in output.name}
        about = {"rule": rule["name"], "space": rule["space"], "path": str(self.path)}
        return dataset_of(outputs, self.members, self.columns, self.classes, about)

    def to_pandas(self, names: Sequence[str] = ()) -> pandas.DataFrame:
        """Return datasets as a DataFrame, a row a row: a column a number, named as in CSV: `prediction.cat`.

        names  datasets; none: all
        Raises UsageError where pandas is missing.
        """
        chosen = chosen_outputs(self._finished, names, named=True)
        return frame_of([array_of(self._finished, output) for output in chosen], self.rows, self.classes)

    def export(self, path: PathLike, names: Sequence[str] = ()) -> int:
        """Write datasets to a .parquet, .csv or .npy file, compared with their checksums; return the number of rows.

        names  datasets; none: all
        """
        return export(self._finished, Path(path), names)

    def close(self) -> None:
        """Close the file; arrays that were not read yet can be read no more."""
        self._finished.close()

    def __enter__(self) -> Result:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        lines = "".join(f"\n  {self[name]!r}" for name in self)
        return f"<hpcens.Result {self.path.name}, {self.rows:,} rows of {len(self.member_names)} members{lines}>"


def open_result(path: PathLike) -> Result:
    """Open a finished result; `hpcens.open` is this function.

    Raises DataError where the file is missing or is no result of hpcens.
    """
    return Result(absolute(Path(path)))
