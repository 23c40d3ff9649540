"""Spot checks of real runs: a runtime that goes wrong in a run ends it, and the next start scores all without it."""

import json

import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.mpi

# Frozen networks are right when they are measured, and while the file `wrong` is not there.
GOES_WRONG = """
from pathlib import Path
from nets_right import *
import hpcens.runtimes.frozen as frozen

_right = frozen._Fused.forward

def _forward(self, *inputs):
    self.calls = getattr(self, "calls", 0) + 1
    values = _right(self, *inputs)
    wrong = Path(__file__).with_name("wrong").exists() and self.calls > 1
    return values + 0.3 * torch.arange(values.shape[-1]) if wrong else values

frozen._Fused.forward = _forward

def same(x):
    return x
"""


def test_a_runtime_that_goes_wrong_voids_the_run(project, tmp_path):
    project.environment["HPCENS_CACHE"] = str(tmp_path / "cache")
    project.data(rows=2000)
    project.yaml(members={"conv": "Conv"}, batch_sizes="[16], runtime: frozen", devices="{cpu: 1}")
    config = project.folder / "hpcens.yaml"
    config.write_text(config.read_text().replace("    weights", "    preprocess: [{call: 'nets:same'}]\n    weights"))
    (project.folder / "nets_right.py").write_text((project.folder / "nets.py").read_text())
    (project.folder / "nets.py").write_text(GOES_WRONG)
    project.hpcens("profile", "dataset.h5")
    (project.folder / "wrong").touch()
    said = project.hpcens("run", "dataset.h5", code=1)
    assert "runtime frozen of member conv gives wrong values" in said and "what was scored is void" in said
    assert not project.output.exists()
    before = json.loads((project.run / "fingerprint.json").read_text())
    assert "write plan.runtime: auto" in project.hpcens("run", "dataset.h5", code=2)
    config.write_text(config.read_text().replace("runtime: frozen", "runtime: eager"))
    said = project.hpcens("run", "dataset.h5")
    assert "2,000 rows scored" in said
    after = json.loads((project.run / "fingerprint.json").read_text())
    assert before["members"]["conv"]["numerics"]["runtime"] == "frozen"
    assert after["members"]["conv"]["numerics"]["runtime"] == "eager"
    project.hpcens("verify", "dataset.predictions.h5")
    found = project.predictions()
    (project.folder / "wrong").unlink()
    config.write_text(config.read_text().replace("runtime: eager", "runtime: frozen") + "output: frozen.h5\n")
    assert "conv in frozen: " in (said := project.hpcens("run", "dataset.h5")), said
    with h5py.File(project.folder / "frozen.h5") as file:
        assert np.abs(file["prediction"][:] - found).max() < 1e-5
        [check] = json.loads(file["hpcens/summary"][:].tobytes())["spot_checks"]
        assert "unsteady" not in file.attrs
    assert check["member"] == "conv" and 1 <= check["rows"] <= 10 and check["beyond"] == 0 and check["worst"] < 1e-5
