"""A file that is to be written into a folder that is not there is refused before any work is done for it."""

import h5py
import pytest
from support.stored import scored, spec

from hpcens.cli import main

YAML = "members: [{name: m, torchscript: m.pt}]\ntask: multiclass\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "d.h5", "-o", "no/plan.json"),
        ("plan", "d.h5", "--html", "no/plan.html"),
        ("run", "d.h5", "--trace", "no/trace.json"),
        ("submit", "d.h5", "--trace", "no/trace.json"),
        ("report", "d.run", "-o", "no/report.html"),
        ("export", "r.h5", "-o", "no/r.csv"),
        ("evaluate", "r.h5", "--labels-column", "y", "-o", "no/e.json"),
        ("select", "r.h5", "--labels-column", "y", "-o", "no/s.yaml"),
        ("calibrate", "r.h5", "--labels-column", "y", "-o", "no/c.json"),
        ("combine", "r.h5", "--rule", "median", "-o", "no/m.h5"),
    ],
)
def test_a_missing_folder_is_refused_by_name(arguments, folder, capsys):
    assert main(arguments) == 2
    assert "the folder no does not exist" in capsys.readouterr().err.replace(f"{folder}/", "")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("d.h5", "w") as file:
        file["x"] = [[1.0]]
    (tmp_path / "hpcens.yaml").write_text(YAML)
    scored(tmp_path / "r.h5", spec()).close()
    return tmp_path
