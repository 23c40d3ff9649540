"""Types that numpy does not have: what is of one is named, and what lies beside it is read."""

import os
from contextlib import closing

import h5py
import numpy as np
import pytest
from h5py import h5a, h5d, h5s, h5t

from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.result.description import describe_result
from hpcens.specs import DatasetSpec, InputSpec, RunSpec, SelectSpec

ROWS = 12


def quad():
    """A float of 128 bits as IEEE has it, which is not numpy's of that size."""
    kind = h5t.IEEE_F64LE.copy()
    kind.set_size(16)
    kind.set_precision(128)
    kind.set_fields(127, 112, 15, 0, 112)
    kind.set_ebias(16383)
    return kind


def short():
    kind = h5t.STD_I32LE.copy()
    kind.set_precision(24)
    kind.set_size(3)
    return kind


def opaque():
    kind = h5t.create(h5t.OPAQUE, 5)
    kind.set_tag(b"photo")
    return kind


ODD = {
    "time": (h5t.UNIX_D32LE, "times of 32 bits, a type that numpy does not have"),
    "long time": (h5t.UNIX_D64BE, "times of 64 bits, a type that numpy does not have"),
    "quad": (quad(), "floats of 128 bits, a type that numpy does not have"),
    "short": (short(), "integers of 24 bits, a type that numpy does not have"),
    "times": (h5t.array_create(h5t.UNIX_D32LE, (2,)), "arrays of times of 32 bits, a type that numpy does not have"),
    "ragged times": (h5t.vlen_create(h5t.UNIX_D32LE), "arrays of times of 32 bits, a type that numpy does not have"),
    "opaque": (opaque(), "bytes tagged photo, a type that numpy does not have"),
    "reference": (h5t.STD_REF_OBJ, "no numbers (variable-length or reference data)"),
    "region": (h5t.STD_REF_DSETREG, "no numbers (variable-length or reference data)"),
    "ragged": (h5t.vlen_create(h5t.IEEE_F32LE), "rows of variable length (float32)"),
}


def make(file, name, kind, rows=ROWS, **how):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if how:
        properties.set_chunk((5,))
        properties.set_deflate(1)
    return h5d.create(
        file.id, name if isinstance(name, bytes) else name.encode(), kind, h5s.create_simple((rows,)), properties
    )


def table(file, name, odd, **how):
    """A compound whose middle field is of an odd type, with numbers in the others."""
    size = odd.get_size()
    kind = h5t.create(h5t.COMPOUND, 4 + size + 8)
    kind.insert(b"first", 0, h5t.IEEE_F32LE)
    kind.insert(b"odd", 4, odd)
    kind.insert(b"last", 4 + size, h5t.STD_I64LE)
    dataset = make(file, name, kind, **how)
    values = np.zeros(ROWS, [("first", "f4"), ("last", "i8")])
    values["first"], values["last"] = np.arange(ROWS) / 2, -np.arange(ROWS)
    dataset.write(h5s.ALL, h5s.ALL, values)


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = np.arange(ROWS, dtype="f4")
        for name, (kind, _) in ODD.items():
            make(file, name, kind)
        make(file, "bits", h5t.STD_B8LE)
        file["when"] = np.arange(ROWS).astype("M8[s]").astype(h5py.opaque_dtype("M8[s]"))
    return tmp_path / "d.h5"


def facts(path, **spec):
    with closing(Source([path], DatasetSpec(**spec))) as source:
        return source.facts()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_dataset_hides_none_of_its_neighbours_and_is_named(path, name):
    assert facts(path, input="x", columns=("bits", "when")).rows == ROWS
    assert facts(path, input="bits").inputs[0].dtype == "|u1"
    for spec in ({"input": name}, {"input": "x", "columns": (name,)}, {"input": "x", "select": SelectSpec(path=name)}):
        with pytest.raises(DataError, match=f": /{name} ") as caught:
            facts(path, **spec)
        said = str(caught.value)
        assert "damaged" not in said and "Error" not in said
        assert "numpy" not in ODD[name][1] or ODD[name][1] in said
    with pytest.raises(DataError) as caught:
        facts(path, input=name)
    assert ODD[name][1] in str(caught.value)
    with pytest.raises(DataError, match=f"holds {len(ODD) + 3} datasets"):
        facts(path)


@pytest.mark.parametrize("how", [{}, {"compressed": True}])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_field_hides_none_of_its_neighbours_and_is_named(tmp_path, name, how):
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        table(file, "table", ODD[name][0], **how)
    inputs = {"a": InputSpec(path="table", field="first"), "b": InputSpec(path="table", field="last")}
    for select in (None, SelectSpec(start=3, stop=11)):
        with closing(Source([path], DatasetSpec(inputs=inputs, select=select))) as source:
            source.facts()
            rows = np.arange(ROWS)[3:11] if select else np.arange(ROWS)
            for start, stop in ((0, len(rows)), (4, 7)):
                first, last = source.rows_between(start, stop)
                assert (first == rows[start:stop] / 2).all() and (last == -rows[start:stop]).all()
    with pytest.raises(
        DataError,
        match=f"/table, field odd, holds {'no numbers' if name == 'ragged' else ODD[name][1].partition(' (')[0]}",
    ):
        facts(path, inputs={"a": InputSpec(path="table", field="odd")})
    with pytest.raises(DataError, match=r"/table is a compound of fields: first, .*odd"):
        facts(path, input="table")


def test_attributes_and_names_that_are_odd_hide_nothing(tmp_path):
    path = tmp_path / os.fsdecode(b"bad \xff\xfe.h5")
    with h5py.File(path, "w") as file:
        file["x"], file["ids"] = np.arange(ROWS, dtype="f4"), np.arange(ROWS)
        make(file, b"bad\xff", h5t.IEEE_F32LE)
        make(h5py.Group(h5py.h5g.create(file.id, b"group\xff")), b"y", h5t.IEEE_F32LE)
        for owner in (file.id, file["x"].id, file["ids"].id):
            h5a.create(owner, b"at\xff", h5t.IEEE_F32LE, h5s.create(h5s.SCALAR))
        for name in (b"_FillValue", b"CLASS", b"MATLAB_class"):
            h5a.create(file["x"].id, name, h5t.UNIX_D32LE, h5s.create(h5s.SCALAR))
    seen = facts(path, input="x", columns=("ids",))
    assert "/x has _FillValue times of 32 bits, not applied" in seen.remarks[0]
    with pytest.raises(DataError, match="its attribute _FillValue is no number but 'times of 32 bits'"):
        facts(path, inputs={"x": InputSpec(path="x", decode="true")})
    with pytest.raises(DataError, match="holds 4 datasets"):
        facts(path)
    assert facts(path, input=os.fsdecode(b"group\xff/y")).rows == ROWS
    tree = {"numerics": {"torch": ""}, "members": {}, "rule": {"space": "", "weights": {}}}
    described = describe_result(RunSpec(members=()), tree, members={}, datasets=[path], library="")
    assert described["datasets"] == [f"{tmp_path}/bad \\xff\\xfe.h5"]
    with h5py.File(path, "w") as file:
        make(file, b"bad\xff", h5t.IEEE_F32LE)
    assert facts(path).rows == ROWS
