"""Many files in one start of MPI, each into its own result."""

import json

import h5py
import numpy as np
import pytest
from support.project import Project

pytestmark = pytest.mark.mpi


def test_many_files_share_a_start_and_a_faulty_one_fails_alone(tmp_path, weights, cache):
    project = Project(tmp_path, weights, cache).yaml(
        "output: {folder: out}", members={"linear": "Linear"}, batch_sizes="[16]"
    )
    for number in range(4):
        path = tmp_path / f"day-{number // 2}" / f"part-{number % 2}.h5"
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file["images"] = np.random.default_rng(number).random((60 - number, 3, 8, 8), np.float32)
    with h5py.File(tmp_path / "day-0" / "part-1.h5", "r+") as file:
        file["images"][7] = np.nan
    said = project.hpcens("run", "--each", "day-*/part-*.h5", code=65)
    assert "3 of 4 files done, 1 failed" in said and "day-0/part-1.h5" in said and "in row 7" in said
    starts = list((tmp_path / "out.run" / "worlds").glob("*/output.log"))
    assert len(starts) == 1
    claims = {json.loads(path.read_text())["pid"] for path in tmp_path.glob("out/*/*.run/epochs/0001/claim.json")}
    assert len(claims) == 1
    with h5py.File(tmp_path / "day-0" / "part-1.h5", "r+") as file:
        file["images"][7] = 0.5  # mended
    again = project.hpcens("run", "--each", "day-*/part-*.h5")
    assert again.count("done: ") == 1 and "done: day-0/part-1.h5" in again and "complete: 4 of 4 files" in again
    project.hpcens("verify", "out/day-1/part-1.predictions.h5")
    project.dataset = tmp_path / "day-1" / "part-1.h5"
    project.yaml("output: {path: alone.h5}", members={"linear": "Linear"}, batch_sizes="[16]")
    project.hpcens("run", str(project.dataset))
    alone, of_many = tmp_path / "alone.h5", tmp_path / "out" / "day-1" / "part-1.predictions.h5"
    with h5py.File(alone) as one, h5py.File(of_many) as other:
        assert one.attrs["fingerprint"] == other.attrs["fingerprint"]
        for name in one.attrs["outputs"]:
            np.testing.assert_array_equal(one[name][:], other[name][:])
