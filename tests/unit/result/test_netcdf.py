"""Every kind of result opens in what reads netCDF-4, with its axes named: all of a dataset's, or none."""

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray
from support.outputs import members

from hpcens.result.form import Form
from hpcens.result.outputs import outputs_of
from hpcens.result.working import create
from hpcens.specs import OutputSpec, RuleSpec, RunSpec
from hpcens.vocabulary import Segmentation

ROWS = 7
CLASSES = ("ant", "bee", "cat", "dog")
UNCERTAIN = ("variance", "entropy", "expected_entropy", "mutual_information", "disagreement")
ALL = ("prediction", "label", "top-2", "members", *UNCERTAIN)
# name → shape of a row, what the YAML says, the space
KINDS = {
    "classes": ((4,), dict(classes=CLASSES, datasets=ALL), "probabilities"),
    "as many rows as classes": ((7,), dict(classes=tuple("abcdefg"), datasets=ALL), "probabilities"),
    "classes without names": ((4,), dict(datasets=ALL), "probabilities"),
    "images of classes": ((4, 5, 5), dict(classes=CLASSES, class_axis=1, datasets=ALL), "probabilities"),
    "classes last": ((5, 4), dict(classes=CLASSES, class_axis=2, datasets=ALL), "probabilities"),
    "a value": ((), dict(datasets=("prediction", "variance", "members"), task="regression"), "values"),
    "values": ((3,), dict(datasets=("prediction", "variance", "members"), task="regression"), "values"),
    "fields": ((3, 3), dict(datasets=("prediction", "members"), task="regression"), "values"),
    "labels": (
        (4,),
        dict(classes=CLASSES, task="multilabel", datasets=("prediction", "label", "entropy")),
        "probabilities",
    ),
    "two classes": ((2,), dict(task="binary", classes=("no", "yes"), datasets=ALL[:3]), "probabilities"),
}


def columns(file):
    file["columns/id"] = np.arange(ROWS)
    file["columns/meta/name"] = [f"röw {i}" for i in range(ROWS)]
    file["columns/place"] = np.zeros((ROWS, 2))
    file["columns/kind"] = np.zeros(ROWS, h5py.enum_dtype({"cat": 0, "dog": 1}, "i1"))
    file["columns/table"] = np.zeros(ROWS, [("x", "f4"), ("tag", "S3")])


@pytest.mark.filterwarnings("ignore:.*phony_dims", "ignore:Duplicate dimension")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_result_opens_in_xarray_and_h5netcdf(tmp_path, kind, masked, dtype):
    shape, says, space = KINDS[kind]
    if dtype == "uint8" and space == "values":
        pytest.skip("uint8 is for probabilities")
    says = dict(says)
    output = OutputSpec(datasets=says.pop("datasets"), dtype=dtype)
    bad = "mask" if masked else "fail"
    spec = RunSpec(members=members([None] * 2), output=output, rule=RuleSpec(name="mean"), bad_rows=bad, **says)
    form = Form(
        outputs=outputs_of(spec, shape, space),
        segmentation=Segmentation(ROWS, 4),
        attributes={"fingerprint": "{}"},
        classes=spec.classes or (),
        documents={"plan": "{}", "config": "{}"},
        columns=columns,
    )
    path = tmp_path / "out.h5"
    create(path, form)
    with xarray.open_dataset(path, engine="h5netcdf") as file, h5py.File(path) as plain:
        for name in (output.name for output in form.outputs if "/" not in output.name):
            assert file[name].shape == plain[name].shape
            assert file[name].dims[0] == "row" and len({*file[name].dims}) == plain[name].ndim
        axis = next(output.class_axis for output in form.outputs)
        if spec.classes:
            assert file["prediction"].dims[axis] == "classes"
            assert file["prediction"]["classes"].values.tolist() == list(spec.classes)
        file.load()
    with xarray.open_datatree(path, engine="h5netcdf", phony_dims="sort") as tree:
        assert "columns" in tree and ("members" in tree) == ("members" in output.datasets)
        tree.load()
    with h5netcdf.File(path, "r", phony_dims="sort") as file:
        walk(file)


def walk(group):
    for variable in group.variables.values():
        assert len(variable.dimensions) == variable.ndim
        variable[...]
    for inner in group.groups.values():
        walk(inner)
