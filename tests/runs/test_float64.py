"""Float64, complex numbers and buffers of a member's own through real ranks: what a plain loop gives, to the bit."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support import precise
from support.planned_phases import write_plan
from support.precise import seeded
from support.project import MEMBERS

ROWS = 120
FLOAT64 = """
members:
  - {{name: energies, factory: "networks:Energies", weights: energies.pt, output: values, precision: float64}}
  - {{name: single, factory: "networks:Single", weights: single.pt, output: values}}
  - {{name: wide, factory: "networks:Single", weights: wide.pt, output: values, precision: float64}}
dataset: images
devices: {{cpu: 2}}
plan: {{batch_sizes: [16], runtime: eager}}
output: {{datasets: [prediction, members, variance]{more}}}
bad_rows: mask
"""


@pytest.fixture
def folder(project):
    """Rows of float64 in a user's folder, one of them bad; and the numbers of a plain loop."""
    shutil.copy(Path(precise.__file__), project.folder / "networks.py")
    rows = np.random.default_rng(0).normal(size=(ROWS, 3, 8, 8))
    nets = {"energies": seeded(precise.Energies), "single": seeded(precise.Single, 4)}
    nets["wide"] = seeded(precise.Energies, 5)
    for name, net in nets.items():
        torch.save(net.state_dict(), project.folder / f"{name}.pt")
    x = torch.from_numpy(rows)
    with torch.inference_mode():
        project.given = {
            name: torch.cat([net(part if name != "single" else part.float()) for part in x.split(16)]).numpy()
            for name, net in nets.items()
        }
    rows[77, 0, 0, 0] = np.nan
    with h5py.File(project.dataset, "w") as file:
        file["images"] = rows
    project.good = np.delete(np.arange(ROWS), 77)
    return project


def written(project, more="", text=FLOAT64):
    (project.folder / "hpcens.yaml").write_text(text.format(more=more))
    return project


def content(path):
    with h5py.File(path) as file:
        return {name: file[name][()].tobytes() for name in file.attrs["outputs"]}


def check_numbers(project, path, rule=np.mean):
    stack = np.stack([values.astype(np.float64) for values in project.given.values()])[:, project.good]
    with h5py.File(path) as file:
        for i, name in enumerate(project.given):
            assert file[f"members/{name}"].dtype == np.float64
            assert np.abs(file[f"members/{name}"][project.good] - stack[i]).max() <= (0 if name != "single" else 1e-2)
        stored = np.stack([file[f"members/{name}"][()] for name in project.given])[:, project.good]
        assert np.abs(file["prediction"][project.good] - rule(stored, 0)).max() < 1e-10
        np.testing.assert_allclose(file["variance"][project.good], stored.var(0), rtol=1e-6)
        assert np.flatnonzero(file["valid"][()] == 0).tolist() == [77] and np.isnan(file["prediction"][77]).all()


@pytest.mark.mpi
def test_float64_through_every_door(folder):
    """Story: members of both precisions; phases, combining again, exports, a member that is added later."""
    out = written(folder).hpcens("run", "dataset.h5")
    assert "inputs of float64 are rounded to float32 (images for single); precision: float64 keeps them" in out
    check_numbers(folder, folder.output)
    assert "sound" in folder.hpcens("verify", "dataset.predictions.h5")
    whole = content(folder.output)

    folder.hpcens("export", "dataset.predictions.h5", "--datasets", "prediction", "-o", "out.npy")
    exported = np.load(folder.folder / "out.npy")
    assert exported.dtype == np.float64 and exported.tobytes() == whole["prediction"]

    folder.hpcens("combine", "dataset.predictions.h5", "--rule", "median", "-o", "median.h5")
    check_numbers(folder, folder.folder / "median.h5", np.median)
    short = FLOAT64.replace("output: values, precision: float64", "output: values")
    written(folder, text=short + "rule: max\n")
    said = folder.hpcens("combine", "dataset.predictions.h5", "-c", "hpcens.yaml", "-o", "max.h5", code=78)
    assert "members.energies.precision: float64 then, float32 now" in said

    written(folder)
    folder.output.unlink()
    shutil.rmtree(folder.run)
    plan = write_plan(folder, (("single", "wide"), ("energies",)))
    out = folder.hpcens("run", "dataset.h5", "--plan", str(plan))
    assert "phase 1 of 2" in out and content(folder.output) == whole

    shutil.rmtree(folder.run)
    folder.output.unlink()
    first = "\n".join(line for line in FLOAT64.splitlines() if "energies" not in line and "wide" not in line)
    written(folder, text=first).hpcens("run", "dataset.h5")
    with h5py.File(folder.output) as file:
        assert file["prediction"].dtype == file["members/single"].dtype == np.float32
    out = written(folder).hpcens("run", "dataset.h5")
    assert "energies, wide, added to what was stored" in out
    check_numbers(folder, folder.output)


@pytest.mark.mpi
def test_a_module_of_float64_is_refused_until_the_precision_is_written(folder):
    text = FLOAT64.replace("output: values, precision: float64", "output: values")
    said = written(folder, text=text).hpcens("run", "dataset.h5", code=1)
    assert "member energies holds float64 (net.1.weight, net.1.bias, net.3.weight and 2 more)" in said
    assert "precision: float64" in said and "precision: float32" in said
    assert not folder.run.exists()
    written(folder, text=text.replace("output: values}", "output: values, precision: float32}"))
    folder.hpcens("run", "dataset.h5")
    with h5py.File(folder.output) as file:
        assert file["prediction"].dtype == np.float32
        apart = np.abs(file["members/energies"][folder.good] - folder.given["energies"][folder.good])
        assert 1e-4 < apart.max() < 0.02


OTHERS = """
members:
  - {name: spectral, factory: "networks:Spectral", weights: spectral.pt, output: values}
  - {name: rotary, torchscript: rotary.ts, output: values}
  - {name: buffered, factory: "networks:Buffered", weights: buffered.pt, output: values}
dataset: images
devices: {cpu: 1}
plan: {batch_sizes: [8], runtime: eager}
output: {datasets: [prediction, members]}
"""
BUFFERED = """

class Buffered(nn.Linear):
    def __init__(self):
        super().__init__(192, 4)
        self.out = torch.empty(4096, 4)

    def forward(self, x):
        out = self.out[: len(x)]
        out.copy_(super().forward(x.flatten(1)))
        return out
"""


@pytest.mark.mpi
def test_complex_parameters_and_a_buffer_that_is_written_again(project):
    names = {}
    exec(Path(precise.__file__).read_text() + BUFFERED, names)
    (project.folder / "networks.py").write_text(Path(precise.__file__).read_text() + BUFFERED)
    nets = {name: seeded(names[name.title()]) for name in ("spectral", "rotary", "buffered")}
    torch.save(nets["spectral"].state_dict(), project.folder / "spectral.pt")
    torch.save(nets["buffered"].state_dict(), project.folder / "buffered.pt")
    from support.member_files import traced

    with h5py.File(project.dataset) as file:
        x = torch.from_numpy(file["images"][()])
    traced(nets["rotary"], project.folder / "rotary.ts", x[:2])
    (project.folder / "hpcens.yaml").write_text(OTHERS)
    project.hpcens("run", "dataset.h5")
    with h5py.File(project.output) as file, torch.inference_mode():
        for name, net in nets.items():
            wanted = torch.cat([net(part).clone() for part in x.split(8)]).numpy()
            assert np.abs(file[f"members/{name}"][()] - wanted).max() < 1e-6, name


@pytest.mark.mpi
def test_integers_that_float32_rounds_are_bad_rows(project):
    with h5py.File(project.dataset, "r+") as file:
        rows = (file["images"][()] * 1000).astype(np.int64)
        rows[[5, 9], 1, 2, 3] = 2**24 + 1
        del file["images"]
        file["images"] = rows
    said = project.hpcens("run", "dataset.h5", code=65)
    assert "is fed numbers that the dtype they are cast to cannot hold" in said and "5, 9" in said
    assert "[{cast: float64}]" in said and "[{cast: float32}]" in said
    project.yaml("bad_rows: mask\noutput: {path: masked.h5}")
    out = project.hpcens("run", "dataset.h5")
    assert "2 by cast of linear, first row 5" in out
    with h5py.File(project.folder / "masked.h5") as file:
        assert np.flatnonzero(file["valid"][()] == 0).tolist() == [5, 9]
    text = (project.folder / "hpcens.yaml").read_text().replace("masked.h5", "kept.h5")
    for name in MEMBERS:
        text = text.replace(f"/{name}.safetensors", f"/{name}.safetensors\n    preprocess: [{{cast: float32}}]")
    (project.folder / "hpcens.yaml").write_text(text)
    project.hpcens("run", "dataset.h5")
    with h5py.File(project.folder / "kept.h5") as file, h5py.File(project.folder / "masked.h5") as masked:
        assert file["valid"][()].all()
        good = np.delete(np.arange(300), [5, 9])
        assert file["prediction"][good].tobytes() == masked["prediction"][good].tobytes()
