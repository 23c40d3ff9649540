"""A result in Python: arrays, members, uncertainties, provenance; the same values in xarray and pandas."""

import numpy as np
import pytest
from support.stored import CLASSES, ROWS, STACK, scored, spec

import hpcens

EVERYTHING = ("prediction", "label", "top-2", "members", "variance", "entropy", "disagreement")


@pytest.fixture
def result(tmp_path):
    scored(tmp_path / "a.h5", spec(datasets=EVERYTHING)).close()
    with hpcens.open(tmp_path / "a.h5") as opened:
        yield opened


def test_arrays_are_read_when_they_are_indexed(result):
    assert result.names[:2] == ("prediction", "label") and result.rows == ROWS and result.classes == CLASSES
    array = result["prediction"]
    assert (array.shape, array.dims, array.dtype) == ((ROWS, 4), ("row", "class"), np.float32)
    np.testing.assert_array_equal(array[3:7, 1], np.asarray(array)[3:7, 1])
    np.testing.assert_allclose(array, np.mean(STACK, 0), rtol=1e-6)
    assert list(result.members) == list(result.member_names) and set(result.uncertainties) == {*EVERYTHING[4:]}
    name = result.member_names[1]
    np.testing.assert_array_equal(result.members[name], STACK[1])
    np.testing.assert_array_equal(result[name], STACK[1])
    assert result["top_values"].dims == ("row", "top") and "largest" in result["top_labels"].description
    with pytest.raises(KeyError, match="it has"):
        _ = result["nothing"]


def test_a_column_has_one_name_at_every_door_and_goes_by_its_last_part_too(result, tmp_path):
    full, short = "columns/id", "id"
    np.testing.assert_array_equal(result[short], result[full])
    assert result[short].name == full and full in result.names and list(result.to_pandas([short])) == [full]
    result.export(tmp_path / "id.csv", [short])
    assert (tmp_path / "id.csv").read_text().splitlines()[0] == full
    with pytest.raises(hpcens.DataError, match="labels columns/id: row 4 is 4"):
        hpcens.evaluate(result, labels_column=short)


def test_it_says_what_it_is_made_of(result):
    provenance = result.provenance
    assert provenance.rule == {"name": "mean", "space": "probabilities"} and provenance.datasets == ("data.h5",)
    assert provenance.versions["numpy"] == np.__version__ and provenance.summary["rows"] == ROWS
    assert result.config.rule.name == "mean" and "prediction (row: 50, class: 4) float32" in repr(result)


def test_scaled_bytes_come_out_as_probabilities(tmp_path):
    scored(tmp_path / "b.h5", spec(datasets=("prediction",), dtype="uint8")).close()
    with hpcens.open(tmp_path / "b.h5") as result:
        assert result["prediction"].dtype == result["prediction"][:2].dtype == np.float32
        np.testing.assert_allclose(result["prediction"], np.mean(STACK, 0), atol=1 / 509)


def test_xarray_reads_it_by_parts(result):
    data = result.to_xarray()
    assert data.members.dims == ("member", "row", "class") and list(data["class"].values) == list(CLASSES)
    np.testing.assert_array_equal(data.members.sel(member=result.member_names[2])[5:9], STACK[2][5:9])
    np.testing.assert_array_equal(data.members[::-1, [7, 3], 2], STACK[::-1, [7, 3], 2])
    np.testing.assert_array_equal(data.prediction.sel({"class": "bee"}), result["prediction"][:, 1])
    np.testing.assert_array_equal(data.entropy[::-2], np.asarray(result["entropy"])[::-2])
    assert data.id.dims == ("row",) and "scale" not in data.prediction.attrs
    assert data.to_array is not None and data.isel(row=slice(0, 5)).load().sizes["row"] == 5


def test_pandas_names_columns_as_csv_does(result, tmp_path):
    frame = result.to_pandas(["prediction", "label"])
    assert list(frame) == ["prediction.ant", "prediction.bee", "prediction.cat", "prediction.dog", "label"]
    result.export(tmp_path / "a.csv")
    heads = (tmp_path / "a.csv").read_text().splitlines()[0].split(",")
    assert sorted(result.to_pandas()) == sorted(heads) and len(result.to_pandas()) == ROWS


def test_combine_and_verify_are_those_of_the_command_line(result, tmp_path):
    with hpcens.combine(result.path, tmp_path / "median.h5", rule="median") as median:
        np.testing.assert_array_equal(median["prediction"], np.median(STACK, 0))
    with hpcens.combine(result.path, tmp_path / "median.h5", rule="median") as again:
        assert again.rows == ROWS
    assert hpcens.verify(tmp_path / "median.h5").faults == [
        f"member {name}: /gone is gone, so its digest cannot be checked" for name in result.member_names
    ]
    with pytest.raises(hpcens.UsageError, match="a rule or a configuration"):
        hpcens.combine(result.path, tmp_path / "c.h5")
    with pytest.raises(hpcens.DataError, match="no such file"):
        hpcens.open(tmp_path / "gone.h5")
