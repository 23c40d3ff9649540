"""Packed numbers come out as xarray gives them; what is not applied, or would do nothing, is named."""

import contextlib
import re
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcens.checks.preflight import require_numbers
from hpcens.dataset import Facts
from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.result.fingerprint import FORMAT_2, in_format
from hpcens.result.mismatch import differences
from hpcens.specs import DatasetSpec, InputSpec, MemberSpec, SelectSpec

ROWS = 40


@contextlib.contextmanager
def opened(*paths, **how):
    inputs = {"x": InputSpec(**({"path": "x"} | how))}
    source = Source([Path(path) for path in paths], DatasetSpec(inputs=inputs))
    try:
        yield source
    finally:
        source.close()


def read(*paths, **how):
    with opened(*paths, **how) as source:
        [rows] = source.rows_between(0, source.rows)
        assert (rows.dtype.str, rows.shape[1:]) == (source.inputs[0].dtype, source.inputs[0].shape)
        return rows


def facts(*paths, **how):
    with opened(*paths, **how) as source:
        return source.facts()


def netcdf(path, values, dtype="i2", fill=None, where=None, **attributes):
    """Write numbers as they are to be stored; `where` says which are written at all."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"sample": len(values), "band": values.shape[1]}
        made = file.create_variable("x", ("sample", "band"), dtype, compression="gzip", fillvalue=fill)
        for name, value in attributes.items():
            made.attrs[name] = value
        if where is None:
            made[:] = values
        else:
            made[where] = values[where]
    return path


def plain(path, values, **attributes):
    with h5py.File(path, "w") as file:
        file["x"] = values
        for name, value in attributes.items():
            file["x"].attrs[name] = value
    return path


def stored(dtype="i2", seed=0):
    return np.random.default_rng(seed).integers(-100 if dtype[0] != "u" else 0, 100, (ROWS, 3)).astype(dtype)


PACKED = {
    "scaled": dict(dtype="i2", scale_factor=0.002, add_offset=280.0),
    "scaled, filled": dict(dtype="i2", fill=-32767, scale_factor=0.002, add_offset=280.0, where=slice(0, 30)),
    "scale alone": dict(dtype="i4", scale_factor=1e-3),
    "offset alone": dict(dtype="u1", add_offset=-5.0),
    "filled floats": dict(dtype="f4", fill=-9999.0, where=slice(0, 30)),
    "filled doubles": dict(dtype="f8", fill=1e20, where=slice(10, 30)),
    "filled bytes": dict(dtype="i1", fill=-1),
    "filled integers": dict(dtype="i4", fill=7),
    "filled longs": dict(dtype="i8", fill=7),
    "missing": dict(dtype="i2", missing_value=np.int16(5)),
    "both": dict(dtype="i2", fill=3, missing_value=np.int16(5), scale_factor=0.5),
    "many missing": dict(dtype="i2", missing_value=np.array([3, 5, 9], "i2")),
    "unsigned": dict(dtype="i1", fill=-1, _Unsigned="true", scale_factor=0.1),
    "unsigned alone": dict(dtype="i2", _Unsigned="true"),
    "signed": dict(dtype="u1", fill=200, _Unsigned="false"),
    "scale and offset of one": dict(dtype="i2", scale_factor=1.0, add_offset=0.0),
    "nan": dict(dtype="f4", fill=np.nan),
    "scaled floats": dict(dtype="f4", scale_factor=2.5, add_offset=1.0, fill=-1.0),
}


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
@pytest.mark.parametrize("how", PACKED)
def test_it_is_what_xarray_gives(tmp_path, how):
    path = netcdf(tmp_path / "d.nc", stored(PACKED[how]["dtype"]), **PACKED[how])
    with xarray.open_dataset(path, engine="h5netcdf") as file:
        wanted = file["x"].values
    got = read(path)
    assert np.allclose(got.astype("f8"), wanted.astype("f8"), rtol=1e-6, atol=0, equal_nan=True)
    if wanted.dtype == "f8" or wanted.dtype.kind in "iu":
        assert np.array_equal(got, wanted, equal_nan=wanted.dtype.kind == "f")


numbers = st.floats(-1e3, 1e3, allow_nan=False).filter(lambda x: abs(x) > 1e-3)


@pytest.mark.filterwarnings("ignore::xarray.SerializationWarning")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4"]),
    st.none() | numbers,
    st.none() | numbers,
    st.none() | st.integers(0, 100),
    st.none() | st.lists(st.integers(0, 100), min_size=1, max_size=3),
)
def test_any_packing_is_what_xarray_gives_in_float64(tmp_path_factory, dtype, scale, offset, fill, missing):
    attributes = {"scale_factor": scale, "add_offset": offset}
    attributes |= {"missing_value": None if missing is None else np.array(missing, dtype)}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    path = tmp_path_factory.mktemp("packed") / "d.nc"
    netcdf(path, stored(dtype), dtype, fill, **attributes)
    with xarray.open_dataset(path, engine="h5netcdf", mask_and_scale=True) as file:
        wanted = file["x"].values
    got = read(path)
    assert np.allclose(got.astype("f8"), wanted.astype("f8"), rtol=1e-6, equal_nan=True)
    assert got.dtype == "f8" or (scale is None and offset is None)


class TestWhereItIsApplied:
    def test_in_a_file_without_the_marks_only_where_it_is_asked_for(self, tmp_path):
        values = stored()
        path = plain(tmp_path / "d.h5", values, scale_factor=0.5, _FillValue=np.int16(4))
        assert (read(path) == values).all()
        [remark] = facts(path).remarks
        assert "scale_factor 0.5, _FillValue 4, not applied: write dataset.inputs.x.decode: true, or false" in remark
        assert facts(path, decode="false").remarks == () and (read(path, decode="false") == values).all()
        wanted = np.where(values == 4, np.nan, values * 0.5)
        assert np.array_equal(read(path, decode="true"), wanted, equal_nan=True)

    def test_dimension_scales_are_marks(self, tmp_path):
        path = plain(tmp_path / "d.h5", stored(), scale_factor=0.5)
        with h5py.File(path, "a") as file:
            file["rows"] = np.arange(ROWS)
            file["rows"].make_scale("rows")
            file["x"].dims[0].attach_scale(file["rows"])
        assert (read(path) == stored() * 0.5).all()

    def test_behind_a_link_the_marks_of_the_other_file_count(self, tmp_path):
        netcdf(tmp_path / "other.nc", stored(), scale_factor=0.5)
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file["x"] = h5py.ExternalLink("other.nc", "x")
        assert (read(tmp_path / "d.h5") == stored() * 0.5).all()

    def test_a_virtual_dataset_over_packed_sources_says_so(self, tmp_path):
        netcdf(tmp_path / "other.nc", stored(), scale_factor=0.5)
        layout = h5py.VirtualLayout((ROWS, 3), "i2")
        layout[:] = h5py.VirtualSource("other.nc", "x", (ROWS, 3))
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file.create_virtual_dataset("x", layout)
        [remark] = facts(tmp_path / "d.h5").remarks
        assert "other.nc" in remark and "scale_factor" in remark and "not applied" in remark

    def test_decode_false_takes_numbers_as_they_are(self, tmp_path):
        path = netcdf(tmp_path / "d.nc", stored(), scale_factor=0.5, fill=3)
        got = read(path, decode="false")
        assert got.dtype == "i2" and (got == stored()).all()

    def test_every_file_by_its_own_attributes(self, tmp_path):
        paths = [netcdf(tmp_path / f"{i}.nc", stored(seed=i), scale_factor=0.1 * (i + 1)) for i in range(3)]
        wanted = np.concatenate([stored(seed=i).astype("f8") * (0.1 * (i + 1)) for i in range(3)])
        assert np.array_equal(read(*paths), wanted)
        assert "2 of 3 files are packed otherwise than the first" in facts(*paths).remarks[-1]

    def test_what_lies_outside_what_is_valid_is_named_and_scored(self, tmp_path):
        path = netcdf(tmp_path / "d.nc", stored(), valid_min=np.int16(0), valid_range=np.array([0, 50], "i2"))
        assert (read(path) == stored()).all()
        [remark] = facts(path).remarks
        assert "valid_min 0, valid_range [0, 50], not applied" in remark

    @pytest.mark.parametrize("codec", [None, "gzip"])
    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_with_rows_on_any_axis(self, tmp_path, codec, axis):
        values = np.random.default_rng(0).integers(-9, 9, (6, 7, 8)).astype(">i2")
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file.create_dataset("x", data=values, chunks=(2, 3, 5) if codec else None, compression=codec)
            file["x"].attrs["_FillValue"] = np.int16(4)
            file["x"].attrs["add_offset"] = 0.5
        wanted = np.moveaxis(np.where(values == 4, np.nan, values + 0.5), axis, 0)
        assert np.array_equal(read(tmp_path / "d.h5", axis=axis, decode="true"), wanted, equal_nan=True)


class TestFill:
    def test_it_replaces_what_stands_for_none_after_scaling(self, tmp_path):
        path = netcdf(tmp_path / "d.nc", stored(), fill=4, missing_value=np.int16(5), scale_factor=0.5, add_offset=9.0)
        wanted = np.where(np.isin(stored(), (4, 5)), -1.5, stored() * 0.5 + 9)
        assert (read(path, fill=-1.5) == wanted).all()

    def test_it_replaces_a_fill_value_that_is_nan(self, tmp_path):
        values = np.array([[1, np.nan], [2, 3]], "f4")
        path = netcdf(tmp_path / "d.nc", values, "f4", fill=np.nan)
        assert np.array_equal(read(path), values, equal_nan=True)
        assert (read(path, fill=0.0) == [[1, 0], [2, 3]]).all()

    def test_a_fill_value_of_another_type_is_found_too(self, tmp_path):
        """Story: missing_value is written as a double, and 1e20 is another number in float32."""
        path = plain(tmp_path / "d.h5", np.array([[1e20, 1], [2, -0.1]], "f4"), missing_value=np.array([1e20, -0.1]))
        assert np.array_equal(read(path, decode="true"), [[np.nan, 1], [2, np.nan]], equal_nan=True)

    @pytest.mark.parametrize("value", [1e300, 70000, 3.5, np.nan])
    def test_a_fill_value_that_the_type_cannot_hold_matches_nothing(self, tmp_path, value):
        for dtype in ("i2", "f4" if value == 1e300 else "i2"):
            path = plain(tmp_path / f"{dtype}.h5", stored(dtype), _FillValue=value)
            assert (read(path, decode="true") == stored(dtype)).all()


@pytest.mark.parametrize(
    ("attributes", "how", "what", "remedy"),
    [
        ({}, {"decode": "true"}, "has none of scale_factor", "remove dataset.inputs.x.decode"),
        ({}, {"fill": 0.0}, "has no _FillValue or missing_value", "remove dataset.inputs.x.fill"),
        ({"scale_factor": 2.0}, {"fill": 0.0, "decode": "true"}, "has no _FillValue", "remove dataset.inputs.x.fill"),
        ({"_FillValue": 2}, {"fill": 0.0}, "bears no mark of netCDF", "write dataset.inputs.x.decode: true too"),
        ({"scale_factor": "two"}, {"decode": "true"}, "scale_factor is no number", "dataset.inputs.x.decode: false"),
        ({"add_offset": [1.0, 2.0]}, {"decode": "true"}, "not one number", "dataset.inputs.x.decode: false"),
        ({"scale_factor": np.nan}, {"decode": "true"}, "not one number", "dataset.inputs.x.decode: false"),
        ({"missing_value": "-999"}, {"decode": "true"}, "missing_value is no number", "decode: false"),
    ],
)
def test_what_cannot_be_applied_or_would_do_nothing_is_refused(tmp_path, attributes, how, what, remedy):
    path = plain(tmp_path / "d.h5", stored(), **attributes)
    with pytest.raises(DataError, match=re.escape(what)) as caught:
        read(path, **how)
    assert remedy in caught.value.remedy


class TestIdentity:
    def test_the_expanded_meaning_is_in_it_and_the_old_one_is_not(self, tmp_path):
        path = netcdf(tmp_path / "d.nc", stored(), fill=4, scale_factor=0.5)
        earlier, unpacked = (in_format({"data": facts(path, decode=how).identity}) for how in ("false", "auto"))
        assert "format" not in earlier and unpacked["format"] == 2
        assert unpacked["data"]["files"]["1"]["decode x"] == "as <i2, 4 is nan, × 0.5"
        [line] = differences(earlier, unpacked)
        assert "data.files.1.decode x: absent then" in line and "decode: false" in line
        assert any(key.stands_at(("data", "files", "12", "decode x")) for key in FORMAT_2)
        assert list(differences(unpacked, in_format({"data": facts(path, fill=0.0).identity})))

    @pytest.mark.parametrize("how", [{"dtype": "f4", "fill": np.nan}, {"scale_factor": 1.0, "add_offset": 0.0}, {}])
    def test_what_changes_no_number_is_not_in_it(self, tmp_path, how):
        path = netcdf(tmp_path / "d.nc", stored(how.get("dtype", "i2")), **how)
        assert facts(path).identity == facts(path, decode="false").identity
        assert "format" not in in_format({"data": facts(path).identity})


class TestMostlyFilled:
    def filled(self, share):
        return Facts(4, (), {"rows": 4}, {"x": share})

    @pytest.mark.parametrize(("policy", "fate"), [("mask", "would be masked"), ("fail", "would end the run")])
    def test_it_is_refused_naming_what_may_be_done(self, tmp_path, policy, fate, monkeypatch):
        values = stored("f4")
        values[:, 1] = -9999
        path = netcdf(tmp_path / "d.nc", values, "f4", fill=-9999.0)
        found = facts(path)
        assert found.filled == {"x": 1.0}
        with pytest.raises(DataError, match=fate) as caught:
            require_numbers(MemberSpec(name="a"), policy, found)
        assert all(key in caught.value.remedy for key in ("fill: 0", "bad_rows: pass", "decode: false"))
        require_numbers(MemberSpec(name="a", bad_rows="pass"), policy, found)
        require_numbers(MemberSpec(name="a"), policy, facts(path, fill=0.0))

    def test_a_few_such_rows_are_for_bad_rows(self, tmp_path):
        path = netcdf(tmp_path / "d.nc", stored("f4"), "f4", fill=-9999.0, where=slice(0, 30))
        assert 0 < facts(path).filled["x"] < 0.5
        require_numbers(MemberSpec(name="a"), "mask", facts(path))


class TestAxis:
    @pytest.fixture
    def path(self, tmp_path):
        """MATLAB's 300 × 8, a mask and names of its rows."""
        with h5py.File(tmp_path / "d.mat", "w", userblock_size=512) as file:
            values = np.random.default_rng(0).random((8, 300)).astype("f4")
            file.create_dataset("x", data=values, chunks=(8, 50), compression="gzip")
            file["x"].attrs["MATLAB_class"] = np.bytes_("single")
            file["keep"] = (np.arange(300) % 3 > 0).astype("u1").reshape(1, 300)
            file["keep"].attrs["MATLAB_class"] = np.bytes_("logical")
            file["number"] = np.arange(300.0).reshape(1, 300)
            file["number"].attrs["MATLAB_class"] = np.bytes_("double")
            file["y"] = np.zeros((300, 2), "f4")
        return tmp_path / "d.mat"

    def test_rows_on_another_axis(self, path):
        rows = read(path, axis=1)
        with h5py.File(path) as file:
            assert (rows == file["x"][:].T).all()
        assert facts(path, axis=1).identity["inputs"] == {"x": "x axis 1 <f4[8]"}
        assert facts(path, axis=-2).identity == facts(path, axis=0).identity == facts(path).identity

    def test_a_word_where_matlab_wrote_it_and_nothing_is_said(self, path):
        [remark] = facts(path).remarks
        assert "300 × 8" in remark and "dataset.inputs.x.axis: 1" in remark
        assert facts(path, axis=0).remarks == facts(path, axis=1).remarks == ()

    def test_a_mask_and_a_column_of_matlab(self, path):
        spec = DatasetSpec(
            inputs={"x": InputSpec(path="x", axis=1)}, select=SelectSpec(path="keep"), columns=("number",)
        )
        source = Source([path], spec)
        rows = source.head(300)[0]
        source.facts()
        source.close()
        with h5py.File(path) as file:
            assert (rows == file["x"][:].T[file["keep"][0] == 1]).all()

    @pytest.mark.parametrize(
        ("spec", "what"),
        [
            ({"columns": ("number",)}, "has 300 values for 8 rows"),
            ({"select": SelectSpec(path="keep")}, "has 300 marks for 8 rows"),
            ({"inputs": {"x": InputSpec(path="x"), "y": InputSpec(path="y")}}, "inputs differ in rows: /x 8, /y 300"),
        ],
    )
    def test_the_axis_that_agrees_is_named(self, path, spec, what):
        spec = DatasetSpec(**({"inputs": {"x": InputSpec(path="x")}} | spec))
        with pytest.raises(DataError, match=what) as caught:
            Source([path], spec).facts()
        assert "dataset.inputs.x.axis: 1 takes its 300 rows" in caught.value.remedy

    @pytest.mark.parametrize("axis", [2, -3])
    def test_an_axis_that_is_not_there(self, path, axis):
        with pytest.raises(DataError, match=r"has 2 axes \(shape \(8, 300\)\)") as caught:
            read(path, axis=axis)
        assert "dataset.inputs.x.axis" in caught.value.remedy

    def test_a_mask_of_bits(self, tmp_path):
        """As PyTables writes booleans."""
        keep = np.arange(6) % 2
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file["x"] = np.arange(12.0).reshape(6, 2)
            space, kind = h5py.h5s.create_simple((6,)), h5py.h5t.STD_B8LE
            made = h5py.h5d.create(file.id, b"keep", kind, space)
            made.write(space, space, keep.astype("u1"), mtype=kind)
        with contextlib.closing(
            Source([tmp_path / "d.h5"], DatasetSpec(input="x", select=SelectSpec(path="keep")))
        ) as source:
            assert source.head(6)[0].tolist() == [[2, 3], [6, 7], [10, 11]]
