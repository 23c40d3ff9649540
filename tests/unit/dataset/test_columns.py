"""Columns pass through to the result as they are, for the rows scored; what a dataset is, is known again."""

import os
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from hpcens.dataset.columns import Columns
from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.result.disk import Disk
from hpcens.result.finished import Finished
from hpcens.result.form import Form
from hpcens.result.mismatch import differences
from hpcens.result.outputs import Output
from hpcens.result.packed import pack
from hpcens.result.working import WorkingFile, create
from hpcens.specs import CompressionSpec, DatasetSpec, InputSpec, SelectSpec
from hpcens.vocabulary import Segmentation

COUNT = 30


def columns_of(part):
    """Columns of many kinds, of one of the files."""
    numbers = np.arange(COUNT) + 100 * part
    return {
        "number": numbers,
        "big": numbers.astype(">i2"),
        "box": np.stack([numbers, -numbers], 1).astype("f4"),
        "flag": numbers % 3 == 0,
        "fixed": np.array([b"x%d" % n for n in numbers], f"S{5 + part}"),
        "text": np.array([f"naïve {n}" * (n % 4) for n in numbers], object),
        "meta/pair": np.array([(n, b"y%d" % n) for n in numbers], [("a", "<i4"), ("b", "S5")]),
        "complex": numbers + 1j,
    }


@pytest.fixture
def files(tmp_path):
    paths = []
    for part in range(2):
        paths.append(tmp_path / f"{part}.h5")
        with h5py.File(paths[-1], "w") as file:
            file["images"] = np.arange(COUNT * 2.0).reshape(COUNT, 2) + 1000 * part
            for name, of in columns_of(part).items():
                how = {"chunks": (7, *of.shape[1:]), "compression": "gzip"} if name in ("number", "text") else {}
                kind = h5py.string_dtype() if of.dtype == object else of.dtype
                file.create_dataset(name, data=of, dtype=kind, **how)
            file["mask"] = np.arange(COUNT) % 3 != part
            file["list"] = [5, 29, 5, 0] if part == 0 else [1]
    return paths


def form(rows, columns):
    outputs = (Output("prediction", (), "<f4"),)
    segmentation, fingerprint = Segmentation(rows, 4), {"fingerprint": "{}"}
    gzip = CompressionSpec(name="gzip")
    return Form(
        outputs=outputs,
        segmentation=segmentation,
        attributes=fingerprint,
        documents={},
        compression=gzip,
        columns=columns.copy,
    )


CHOSEN = {
    None: np.arange(2 * COUNT),
    SelectSpec(start=20, stop=35): np.arange(20, 35),
    SelectSpec(path="mask"): np.flatnonzero(np.concatenate([np.arange(COUNT) % 3 != part for part in range(2)])),
    SelectSpec(path="list"): np.array([5, 29, 5, 0, COUNT + 1]),
}


@pytest.mark.parametrize("select", CHOSEN)
@pytest.mark.parametrize("limit", [None, 4])
def test_every_kind_for_any_selection(files, tmp_path, select, limit, monkeypatch):
    monkeypatch.setattr("hpcens.dataset.columns._BLOCK_BYTES", 500)
    spec = DatasetSpec(input="images", select=select, columns=tuple(columns_of(0)))
    rows = CHOSEN[select][:limit]
    create(tmp_path / "out.h5", form(len(rows), Columns(tuple(files), spec, limit)))
    with h5py.File(tmp_path / "out.h5") as out:
        for name in columns_of(0):
            wanted = np.concatenate([columns_of(part)[name] for part in range(2)])[rows]
            got = out["columns"][name]
            assert got.shape == wanted.shape
            if name == "text":
                assert got.asstr()[:].tolist() == wanted.tolist()
            else:
                assert got[:].tolist() == wanted.tolist()
                assert got.dtype == (columns_of(1)[name].dtype if name == "fixed" else columns_of(0)[name].dtype)


def test_a_column_that_is_not_alike_in_all_files(files, tmp_path):
    with h5py.File(files[1], "r+") as file:
        del file["number"]
        file["number"] = np.arange(COUNT, dtype="f4")
    columns = Columns(tuple(files), DatasetSpec(input="images", columns=("number",)))
    with pytest.raises(DataError, match=r"column number is not alike in all files: float32\[\], int64\[\]"):
        create(tmp_path / "out.h5", form(2 * COUNT, columns))


def test_they_are_in_a_compressed_and_in_a_combined_result_too(files, tmp_path):
    made = form(2 * COUNT, Columns(tuple(files), DatasetSpec(input="images", columns=("text", "meta/pair"))))
    create(tmp_path / "working.h5", made)
    working = WorkingFile(Disk(), tmp_path / "working.h5", made.outputs, made.segmentation)
    for segment in range(len(made.segmentation)):
        values = {"prediction": np.zeros(made.segmentation.size(segment), "<f4")}
        working.mark([(segment, working.write(segment, values))])
    pack(Disk(), working, made, tmp_path / "out.h5")
    working.close()
    finished = Finished(tmp_path / "out.h5")
    create(tmp_path / "again.h5", replace(made, columns=finished.copy_columns))
    finished.close()
    with h5py.File(tmp_path / "working.h5") as before:
        for copy in ("out.h5", "again.h5"):
            with h5py.File(tmp_path / copy) as after:
                for name in ("columns/text", "columns/meta/pair"):
                    assert before[name][:].tolist() == after[name][:].tolist()
                    assert after[name].dtype == before[name].dtype


def identity(paths, **spec):
    source = Source(paths, DatasetSpec(**({"input": "images"} | spec)))
    found = source.facts().identity
    source.close()
    return found


def resave(path, change):
    """Change the file but neither its size nor its time."""
    before = path.stat()
    with h5py.File(path, "r+") as file:
        change(file)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap(files):
    shutil.move(files[0], files[0].with_suffix(".x"))
    shutil.move(files[1], files[0])
    shutil.move(files[0].with_suffix(".x"), files[1])


def test_what_changed_is_named(files):
    select = SelectSpec(path="mask")
    before = identity(files, select=select)
    assert identity(files, select=select) == before

    def changed(*paths, **spec):
        return {line.partition(":")[0] for line in differences(before, identity(paths, **{"select": select} | spec))}

    assert changed(files[0]) == {"rows", "files.2"}
    assert {"files.1.sampled rows", "files.2.sampled rows"} <= changed(*reversed(files))
    assert changed(*files, select=None) == {"rows", "files.1.selected", "files.2.selected"}
    assert changed(*files, columns=("number",)) == {"columns"}
    assert changed(*files, input=None, inputs={"images": InputSpec(path="box")}) >= {"inputs.images"}
    assert changed(*files, input=None, inputs={"x": InputSpec(path="images")}) == {"inputs.images", "inputs.x"}

    def flip(file):
        file["mask"][3:5] = ~file["mask"][3:5]

    resave(files[1], flip)
    assert changed(*files) == {"files.2.selected"}
    resave(files[1], flip)
    assert changed(*files) == set()
    os.utime(files[0])
    assert changed(*files) == {"files.1.modified"}


def test_a_dataset_elsewhere_is_the_same(files, tmp_path):
    before = identity(files)
    (tmp_path / "moved").mkdir()
    moved = [path.rename(tmp_path / "moved" / path.name) for path in files]
    assert identity(moved) == before


@pytest.mark.parametrize("names", [{"cat": 0, "dog": 1}, {"dog": 0, "cat": 1}])
def test_an_enumeration_keeps_its_names_which_all_files_share(tmp_path, names):
    paths = [tmp_path / "0.h5", tmp_path / "1.h5"]
    for path, values in zip(paths, ({"cat": 0, "dog": 1}, names), strict=True):
        with h5py.File(path, "w") as file:
            file["images"], kind = np.ones((4, 2)), h5py.enum_dtype(values, "i1")
            file["kind"] = np.array([0, 1, 1, 0]).astype(kind)
            file["table"] = np.zeros(4, [("x", "f4"), ("kind", kind)])
    for column in ("kind", "table"):
        columns = Columns(tuple(paths), DatasetSpec(input="images", columns=(column,)))
        with h5py.File("copy", "w", driver="core", backing_store=False) as copy:
            if names["cat"]:
                with pytest.raises(DataError, match=f"column {column} is not alike in all files"):
                    columns.copy(copy)
            else:
                columns.copy(copy)
                stored = copy[f"columns/{column}"].dtype
                assert h5py.check_enum_dtype(stored if column == "kind" else stored["kind"]) == names
