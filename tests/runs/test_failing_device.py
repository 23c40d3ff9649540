"""A device that breaks in mid-run: others score what it had, and where there is none the run ends, to be continued."""

import h5py
import pytest

from hpcens.runs import Report, RunDirectory

pytestmark = pytest.mark.mpi

# Where the file `lost` is there, the first process to predict something breaks for good, in the words of a GPU.
BREAKS = """
import contextlib
import os
from pathlib import Path

from hpcens.engine import Engine
from hpcens.engine.cpu import CpuHardware
from nets_right import *

HERE = Path(__file__).parent
ECC = "CUDA error: uncorrectable ECC error encountered"
CpuHardware.failure = lambda self, error: ECC if ECC in str(error) else ""
_predict = Engine.predict

def predict(self, task):
    for predicted in _predict(self, task):
        if (HERE / "lost").exists():
            with contextlib.suppress(FileExistsError):  # one alone can make it
                os.symlink(str(os.getpid()), HERE / "which")
            if os.readlink(HERE / "which") == str(os.getpid()):
                raise RuntimeError(ECC)
        yield predicted

Engine.predict = predict
"""


def test_others_go_on_and_where_there_is_none_the_run_is_continued(project):
    project.data(rows=600).yaml(members={"linear": "Linear"}, batch_sizes="[8], runtime: eager")
    (project.folder / "nets_right.py").write_text((project.folder / "nets.py").read_text())
    (project.folder / "nets.py").write_text(BREAKS)
    lost = project.folder / "lost"
    lost.touch()
    said = project.hpcens("run", "dataset.h5")
    for words in ("take over its rows", "took over "):
        assert f" failed: CUDA error: uncorrectable ECC error encountered; others {words}" in said
    report = Report.load(RunDirectory(project.run).newest.report)
    assert len(report.broken) == 1 and report.taken > 0
    (project.folder / "which").unlink()
    config = project.folder / "hpcens.yaml"
    config.write_text(config.read_text().replace("devices: {cpu: 2}", "devices: {cpu: 1}") + "output: alone.h5\n")
    said = project.hpcens("run", "dataset.h5", code=75)
    assert "failed: CUDA error: uncorrectable ECC error encountered, and no other device hosts member linear" in said
    assert "run the same command again" in said
    lost.unlink()
    project.hpcens("run", "dataset.h5")
    with h5py.File(project.folder / "alone.h5") as file:
        assert file["prediction"][:].tobytes() == project.predictions().tobytes()
