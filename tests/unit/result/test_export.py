"""What an export makes of names: enumerations, classes, and compounds one within another."""

import csv
from contextlib import closing

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from support.results import directory, score

from hpcens.errors import UsageError
from hpcens.result.disk import Disk
from hpcens.result.export import export
from hpcens.result.finished import Finished
from hpcens.result.seal import seal

ROWS = 22
KIND = h5py.enum_dtype({"cat": 1, "dog": -2, "ant": 7}, "i1")
INNER = np.dtype([("when", h5py.opaque_dtype("M8[s]")), ("kind", KIND), ("at", "<f8", 2)])
TABLE = np.dtype([("id", ">i4"), ("good", "?"), ("inner", INNER), ("tag", "S3"), ("kinds", KIND, 2)])
TIMES = np.arange(ROWS).astype("M8[s]")


@pytest.fixture
def result(tmp_path):
    """A result with columns of all kinds; the label of its third row is one of a masked row."""
    score(directory(tmp_path), tmp_path, Disk())
    path = tmp_path / "out.h5"
    rows = np.zeros(ROWS, TABLE)
    rows["id"], rows["good"], rows["tag"] = np.arange(ROWS), np.arange(ROWS) % 2 == 0, [b"t%d" % i for i in range(ROWS)]
    rows["inner"]["when"], rows["inner"]["kind"], rows["kinds"] = TIMES, np.resize([1, -2, 7, 3], ROWS), [7, 1]
    rows["inner"]["at"] = np.arange(2 * ROWS).reshape(ROWS, 2)
    with h5py.File(path, "r+") as file:
        file["columns/table"] = rows
        file["columns/kind"] = np.resize([1, -2, 7, 3], ROWS).astype(KIND)
        file["columns/good"] = rows["good"]
        file["columns/when"] = TIMES.astype(h5py.opaque_dtype("M8[s]"))
        seal(file)
    with closing(Finished(path)) as result:
        yield result


NAMES = np.resize(["cat", "dog", "ant", "3"], ROWS).tolist()


def test_parquet_of_names_and_compounds(result, tmp_path):
    export(result, tmp_path / "all.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    got = {name: table[name].to_pylist() for name in table.column_names}
    assert got["columns/kind"] == got["columns/table.inner.kind"] == NAMES
    assert got["columns/table.kinds"] == [["ant", "cat"]] * ROWS
    assert got["columns/table.id"] == list(range(ROWS)) and got["columns/good"][:2] == [True, False]
    assert got["columns/table.inner.at"] == [[2 * i, 2 * i + 1] for i in range(ROWS)]
    assert got["columns/when"] == got["columns/table.inner.when"] == TIMES.tolist()
    assert got["columns/table.tag"][:2] == ["t0", "t1"]
    with h5py.File(result.path, locking=False) as file:
        assert got["label_name"] == [{0: "down", 1: "up"}.get(i, "") for i in file["label"][:]]


def test_csv_of_names_and_compounds(result, tmp_path):
    export(result, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    got = {name: [row[i] for row in rows] for i, name in enumerate(head)}
    assert got["columns/kind"] == got["columns/table.inner.kind"] == NAMES
    assert got["columns/table.kinds.0"][0] == "ant" and got["columns/table.inner.at.1"][1] == "3.0"
    assert got["columns/table.inner.when"][1] == got["columns/when"][1] == "1970-01-01T00:00:01"
    assert got["label_name"] == [{"0": "down", "1": "up"}.get(label, "") for label in got["label"]]
    export(result, tmp_path / "chosen.csv", ["label_name", "columns/kind"])
    assert (tmp_path / "chosen.csv").read_text().splitlines()[0] == "label_name,columns/kind"


def test_npy_holds_numbers_and_no_names(result, tmp_path):
    export(result, tmp_path / "label.npy", ["label"])
    assert np.load(tmp_path / "label.npy").dtype == np.int32
    for name in ("label_name", "columns/kind"):
        with pytest.raises(UsageError, match=f"{name} is text"):
            export(result, tmp_path / "text.npy", [name])


def test_a_masked_row_has_no_class_name(result, tmp_path, monkeypatch):
    read = Finished.read

    def masked(self, segment, names):
        values = read(self, segment, names)
        return values | {"label": np.full_like(values["label"], -1)} if segment == 1 else values

    monkeypatch.setattr(Finished, "read", masked)
    export(result, tmp_path / "names.parquet", ["label", "label_name"])
    assert pyarrow.parquet.read_table(tmp_path / "names.parquet")["label_name"].to_pylist()[4:8] == [""] * 4
