"""Rows that are no dense numbers: strings as bytes, rows of variable length, sparse matrices; read and refused."""

import re
from contextlib import closing

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from hpcens.dataset import ragged as ragged_rows
from hpcens.dataset import sparse_rows
from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec, InputSpec, SelectSpec

ROWS, ACROSS = 37, 11


def opened(path, select=None, **inputs):
    specs = {name: InputSpec(**({"path": name} | how)) for name, how in inputs.items()}
    return closing(Source([path], DatasetSpec(inputs=specs, select=select)))


def read(path, select=None, **inputs):
    with opened(path, select, **inputs) as source:
        source.facts()
        return source.rows_between(0, source.rows)


def dense(dtype=np.float32, seed=0):
    draw = np.random.default_rng(seed)
    values = draw.integers(1, 100, (ROWS, ACROSS)) * (draw.random((ROWS, ACROSS)) < 0.3)
    values[5] = 0
    return values.astype(dtype)


def anndata(group, values, form="csr", **how):
    matrix = getattr(sparse, f"{form}_matrix")(values.astype("f4"))
    group.attrs.update({"encoding-type": f"{form}_matrix", "shape": values.shape})
    for part in ("data", "indices", "indptr"):
        numbers = getattr(matrix, part)
        group.create_dataset(part, data=numbers.astype(values.dtype) if part == "data" else numbers, **how)


def tenx(group, values):
    """Genes by cells, compressed by cells: what Cell Ranger writes."""
    matrix = sparse.csc_matrix(values.T.astype("f4"))
    group["data"] = matrix.data.astype(values.dtype)
    group["indices"], group["indptr"] = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
    group["shape"] = np.array(matrix.shape, np.int32)


def before_0_7(group, values):
    anndata(group, values)
    del group.attrs["encoding-type"], group.attrs["shape"]
    group.attrs.update(h5sparse_format="csr", h5sparse_shape=values.shape)


WAYS = {
    "rows": anndata,
    "columns": lambda group, values: anndata(group, values, "csc"),
    "chunks": lambda group, values: anndata(group, values, chunks=(7,), compression="gzip"),
    "10x": tenx,
    "before 0.7": before_0_7,
}


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "f2", "i4", "u1", "?"])
@pytest.mark.parametrize("way", WAYS)
def test_a_sparse_matrix_gives_the_rows_of_the_dense_one(tmp_path, way, dtype):
    values = dense(dtype)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        WAYS[way](file.create_group("layers/x"), values)
    (rows,) = read(tmp_path / "d.h5", x={"path": "layers/x"})
    assert rows.dtype == values.dtype.newbyteorder("=") and np.array_equal(rows, values)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=30),
    st.sampled_from(sorted(WAYS)),
    st.sampled_from([1, 5, 1 << 22]),
    st.integers(1, ROWS),
)
def test_any_rows_in_any_order_are_those_rows(tmp_path, chosen, way, most, cut):
    path, values = tmp_path / f"{way[:4]}.h5", dense()
    if not path.exists():
        with h5py.File(path, "w") as file:
            WAYS[way](file.create_group("x"), values)
    with h5py.File(path, "r+") as file:
        file.pop("rows", None)
        file["rows"] = chosen
    with pytest.MonkeyPatch.context() as patch, opened(path, SelectSpec(path="rows"), x={}) as source:
        patch.setattr(sparse_rows, "_MOST_NUMBERS", most)
        (rows,) = source.rows_between(0, source.rows)
        assert np.array_equal(rows, values[chosen])
    with pytest.MonkeyPatch.context() as patch, opened(path, x={}) as source:
        patch.setattr(sparse_rows, "_MOST_NUMBERS", most)
        assert np.array_equal(source.rows_between(0, cut)[0], values[:cut])


def test_what_stands_twice_in_a_place_is_added_up_and_a_matrix_of_zeros_is_one(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        group = file.create_group("x")
        group.attrs.update({"encoding-type": "csr_matrix", "shape": (3, 4)})
        group["data"], group["indices"], group["indptr"] = np.float32([1, 2, 4]), [2, 2, 0], [0, 2, 2, 3]
    assert read(tmp_path / "d.h5", x={})[0].tolist() == [[0, 0, 3, 0], [0, 0, 0, 0], [4, 0, 0, 0]]


BROKEN = {
    "is said to be 37 × 11, and holds": lambda x: replace(x, "indptr", x["indptr"][:-1]),
    "indices[3] is 11, and there are 0–10": lambda x: x["indices"].__setitem__(3, 11),
    "indices[0] is -1": lambda x: x["indices"].__setitem__(0, -1),
    "do not begin one after another": lambda x: x["indptr"].__setitem__(4, 10**6),
    "is a sparse matrix of data complex64": lambda x: replace(x, "data", x["data"][:].astype("c8")),
    "is a group, not a dataset": lambda x: x.attrs.update({"encoding-type": "coo"}),
}


def replace(group, name, values):
    del group[name]
    group[name] = values


@pytest.mark.parametrize("said", BROKEN)
def test_a_matrix_that_does_not_fit_together_is_refused(tmp_path, said):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        anndata(file.create_group("x"), dense())
        BROKEN[said](file["x"])
    with pytest.raises(DataError, match=re.escape(said)):
        read(tmp_path / "d.h5", x={})


def test_an_index_beyond_the_rows_of_a_matrix_stored_by_columns_is_refused(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        anndata(file.create_group("x"), dense(), "csc")
        file["x/indices"][3] = ROWS
    with pytest.raises(DataError, match=re.escape("indices[3] is 37, and there are 0–36")):
        read(tmp_path / "d.h5", x={})


NEEDLESS = {"axis": 1, "field": "a", "fill": 0.0, "decode": "true", "bytes": True, "length": 3, "lengths": True}


@pytest.mark.parametrize("key", NEEDLESS)
def test_a_key_that_says_nothing_of_a_sparse_matrix_is_refused_by_name(tmp_path, key):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        anndata(file.create_group("x"), dense())
    with pytest.raises(DataError) as caught:
        read(tmp_path / "d.h5", x={key: NEEDLESS[key]})
    assert caught.value.remedy == f"remove dataset.inputs.x.{key}"


STRINGS = [b"CCO", b"", b"C1=CC=CC=C1", b"O  "]


@pytest.mark.parametrize("how", [{}, {"chunks": (2,), "compression": "gzip"}])
@pytest.mark.parametrize("padding", [h5py.h5t.STR_NULLPAD, h5py.h5t.STR_NULLTERM, h5py.h5t.STR_SPACEPAD])
def test_strings_of_fixed_length_are_their_bytes(tmp_path, how, padding):
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(12)
    kind.set_strpad(padding)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", 4, "S12", **how)[:] = STRINGS
        table = np.zeros(4, [("id", "i4"), ("smiles", "S12")])
        table["smiles"] = STRINGS
        file["table"] = table
        space = h5py.h5s.create_simple((4,))
        made = h5py.h5d.create(file.id, b"padded", kind, space)
        made.write(space, space, np.array(STRINGS, "S12"))
    got = read(tmp_path / "d.h5", x={"bytes": True}, t={"path": "table", "field": "smiles", "bytes": True},
               p={"path": "padded", "bytes": True})  # fmt: skip
    expected = np.array([list(text.ljust(12, b"\0")) for text in STRINGS], np.uint8)
    assert all(rows.dtype == np.uint8 for rows in got)
    assert np.array_equal(got[0], expected) and np.array_equal(got[1], expected)
    if padding == h5py.h5t.STR_SPACEPAD:  # blanks at its end are no part of such a string
        expected[3] = list(b"O".ljust(12, b"\0"))
    assert np.array_equal(got[2], expected)


def ragged(file, name, rows, dtype="f4", **how):
    made = file.create_dataset(name, len(rows), h5py.vlen_dtype(np.dtype(dtype)), **how)
    for number, row in enumerate(rows):
        made[number] = np.array(row, dtype)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(0, 100), max_size=6), min_size=1, max_size=12),
    st.sampled_from(["f4", "i2", "u1", "f8"]),
    st.sampled_from([None, 0.0, 7.0]),
    st.booleans(),
)
def test_rows_of_variable_length_are_padded_and_their_lengths_an_input(tmp_path, rows, dtype, fill, packed):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        ragged(file, "x", rows, dtype, **({"chunks": (1,), "compression": "gzip"} if packed else {}))
        file["rows"] = np.arange(len(rows))[::-2]
    inputs = {"x": {"length": 6, "fill": fill}, "n": {"path": "x", "lengths": True}}
    padded = np.array([row + [fill or 0] * (6 - len(row)) for row in rows]).astype(dtype)
    for select, which in ((None, slice(None)), (SelectSpec(path="rows"), np.arange(len(rows))[::-2])):
        values, lengths = read(tmp_path / "d.h5", select, **inputs)
        assert np.array_equal(values, padded[which]) and values.dtype == np.dtype(dtype).newbyteorder("=")
        assert lengths.tolist() == np.array([len(row) for row in rows])[which].tolist()


def test_strings_of_any_length_are_padded_bytes(tmp_path):
    texts = ["grün", "", "CCO"]
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = texts
    values, lengths = read(tmp_path / "d.h5", x={"bytes": True, "length": 8}, n={"path": "x", "lengths": True})
    assert [bytes(row).rstrip(b"\0").decode() for row in values] == texts and lengths.tolist() == [5, 0, 3]


def test_a_row_that_is_too_long_is_found_before_the_start_or_named_when_it_is_read(tmp_path, monkeypatch):
    rows = [[1.0] * 3] * 40 + [[1.0] * 9] + [[1.0] * 4] * 23
    with h5py.File(tmp_path / "d.h5", "w") as file:
        ragged(file, "x", rows)
    with pytest.raises(DataError, match=r"row 40 has 9 values, and dataset.inputs.x.length is 5"):
        read(tmp_path / "d.h5", x={"length": 5})
    assert len(read(tmp_path / "d.h5", SelectSpec(stop=40), x={"length": 5})[0]) == 40, "it is not among those"
    monkeypatch.setattr(ragged_rows, "_BLOCK", 4)
    monkeypatch.setattr(ragged_rows, "_EXAMINED", 16)
    with opened(tmp_path / "d.h5", x={"length": 8}) as source:
        (remark,) = source.facts().remarks
        assert "rows of 3 to 4 values, in 16 of 64 rows that were looked at, padded to 8 with 0" in remark
        with pytest.raises(DataError, match="row 40 has 9 values"):
            source.rows_between(30, 50)
    with opened(tmp_path / "d.h5", x={"length": 9}) as source:
        assert source.rows_between(40, 41)[0].tolist() == [[1.0] * 9]


REFUSED = [
    ("x", {}, "holds rows of variable length (float32)", "length: 128"),
    ("x", {"length": 5, "bytes": True}, "and no strings", "remove dataset.inputs.x.bytes"),
    ("x", {"length": 5, "decode": "true"}, "not packed", "remove dataset.inputs.x.decode"),
    ("x", {"length": 5, "field": "a"}, "no compound", "remove dataset.inputs.x.field"),
    ("bytes", {"length": 5, "fill": -1.0}, "holds uint8, and dataset.inputs.bytes.fill is -1", "that it can hold"),
    ("texts", {}, "holds strings", "bytes: true, length: 128"),
    ("texts", {"length": 5}, "holds strings", "bytes: true, length: 128"),
    ("names", {}, "holds strings of 3 bytes", "dataset.inputs.names.bytes: true"),
    ("names", {"bytes": True, "fill": 0.0}, "have no fill values", "remove dataset.inputs.names.fill"),
    ("names", {"bytes": True, "length": 5}, "has rows of one length", "remove dataset.inputs.names.length"),
    ("plain", {"length": 5}, "has rows of one length", "remove dataset.inputs.plain.length"),
    ("plain", {"lengths": True}, "has rows of one length", "remove dataset.inputs.plain.lengths"),
    ("plain", {"bytes": True}, "holds float32, and no strings", "remove dataset.inputs.plain.bytes"),
    ("turned", {"length": 5}, "in the other byte order", "this machine's order"),
    ("many", {"length": 5}, "has the shape (2, 2)", "in one axis"),
]


@pytest.mark.parametrize(("name", "how", "said", "remedy"), REFUSED)
def test_what_cannot_be_an_input_or_would_do_nothing_is_refused_by_name(tmp_path, name, how, said, remedy):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        ragged(file, "x", [[1], [2, 3]])
        ragged(file, "bytes", [[1], [2, 3]], "u1")
        ragged(file, "turned", [[1], [2, 3]], ">i2")
        file.create_dataset("many", (2, 2), h5py.vlen_dtype(np.float32))
        file["texts"], file["names"], file["plain"] = ["a", "bc"], np.array([b"abc", b"d"]), np.zeros((2, 4), "f4")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "d.h5", **{name: how})
    assert said in caught.value.what and remedy in caught.value.remedy
