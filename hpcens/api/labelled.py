"""Results as datasets of xarray and frames of pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hpcens.errors import UsageError
from hpcens.result import StoredArray
from hpcens.result.export import column_names

if TYPE_CHECKING:
    import pandas
    import xarray


def dataset_of(
    outputs: Mapping[str, StoredArray],
    members: Mapping[str, StoredArray],
    columns: Mapping[str, StoredArray],
    classes: Sequence[str],
    about: Mapping[str, str],
) -> xarray.Dataset:
    """Return arrays of a result as a Dataset of xarray.

    outputs  by name, but those of the members, which become one variable
    columns  become coordinates of the rows
    about    attributes of the Dataset
    """
    try:
        import xarray
        from xarray.backends import BackendArray
        from xarray.core import indexing
    except ImportError:
        raise UsageError("xarray is not installed", "pip install 'hpcens[analysis]'") from None

    class Lazy(BackendArray):
        """An array that xarray reads by parts: one stored array, or several stacked along a first axis."""

        def __init__(self, arrays: Sequence[StoredArray], *, stacked: bool) -> None:
            self._arrays, self._stacked = arrays, stacked
            self.dtype = arrays[0].dtype
            self.shape = (len(arrays),) * stacked + arrays[0].shape

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

        def _read(self, key: tuple[Any, ...]) -> Any:
            if not self._stacked:
                return np.asarray(self._arrays[0][key])
            chosen, rest = self._arrays[key[0]], key[1:]
            if isinstance(chosen, StoredArray):
                return np.asarray(chosen[rest])
            return np.stack([np.asarray(array[rest]) for array in chosen])

    def variable(arrays: Sequence[StoredArray], *, stacked: bool = False) -> Any:
        data = indexing.LazilyIndexedArray(Lazy(arrays, stacked=stacked))
        attributes = {k: v for k, v in arrays[0].attributes.items() if k not in ("scale", "scaled")}
        return xarray.Variable((*["member"] * stacked, *arrays[0].dims), data, attributes)

    variables = {name: variable([array]) for name, array in outputs.items()}
    coordinates: dict[str, Any] = {}
    if members:
        variables["members"] = variable([*members.values()], stacked=True)
        variables["members"].attrs["description"] = "output of each member"
        coordinates["member"] = list(members)
    if classes and any("class" in found.dims for found in variables.values()):
        coordinates["class"] = list(classes)
    for name, array in columns.items():
        free = name not in variables and name not in ("row", "class", "member", "top")
        coordinates[name if free else f"columns_{name}"] = variable([array])
    return xarray.Dataset(variables, coordinates, about)


def frame_of(arrays: Sequence[StoredArray], rows: int, classes: Sequence[str]) -> pandas.DataFrame:
    """Return arrays of a result as a DataFrame, a column a number.

    rows  of each of the arrays
    """
    try:
        import pandas
    except ImportError:
        raise UsageError("pandas is not installed", "pip install 'hpcens[analysis]'") from None
    columns: dict[str, Any] = {}
    for array in arrays:
        values = np.asarray(array).reshape(rows, -1)
        heads = column_names(array.name, array.shape[1:], array.dims[1:], classes)
        columns |= dict(zip(heads, values.T, strict=True))
    return cast("pandas.DataFrame", pandas.DataFrame(columns, index=pandas.RangeIndex(rows, name="row")))
