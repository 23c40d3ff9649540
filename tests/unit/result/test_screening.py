"""The example of a screening: the best molecules are kept with their ids, from several files, of a selection."""

import h5py
import numpy as np
import pytest
import torch
from support.one_process import run
from support.project import ROOT

import hpcens
from hpcens.dataset import Columns
from hpcens.specs import DatasetSpec, SelectSpec


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_the_best_are_kept_with_their_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    rows = 120
    prints = random.normal(0, 1, (rows, 6)).astype("f4")
    prints[7, 0] = np.nan
    names = [f"C{i}é" for i in range(rows)]
    with h5py.File("molecules.h5", "w") as file:
        file["fingerprints"], file["smiles"] = prints, names
    outputs = []
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(6, 1).eval()
        torch.jit.save(torch.jit.trace(layer, torch.zeros(2, 6)), f"{name}.pt")
        outputs.append(torch.sigmoid(layer(torch.from_numpy(np.nan_to_num(prints)))).detach().numpy()[:, 0])
    text = (ROOT / "configs" / "screening.yaml").read_text()
    (tmp_path / "screening.yaml").write_text(text.replace("top: 10000", "top: 15"))
    assert run(tmp_path / "screening.yaml", tmp_path / "molecules.h5", tmp_path / "kept.h5", writers=2)
    active = np.mean(outputs, 0)
    active[7] = -1
    best = np.argsort(-active, kind="stable")[:15]
    with hpcens.open("kept.h5") as result:
        assert result["row_number"][:].tolist() == best.tolist()
        assert result.columns["smiles"][:].tolist() == [names[i] for i in best]
        assert result["prediction"][:, 1] == pytest.approx(active[best], abs=1e-6)
        assert result.export("kept.csv") == 15
    assert (tmp_path / "kept.csv").read_text().splitlines()[1].startswith(f"{names[best[0]]},{best[0]},")
    for verb in (hpcens.evaluate, hpcens.select, hpcens.calibrate):
        with pytest.raises(hpcens.UsageError, match=r"kept\.h5 keeps 15 of 120 rows, and .* needs all"):
            verb("kept.h5", np.zeros(15))


def test_columns_of_rows_are_those_of_the_selection_over_files(tmp_path):
    for number, count in enumerate((5000, 40)):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["x"] = np.zeros((count, 2), "f4")
            file["id"] = np.arange(count) + 10_000 * number
            file["name"] = [f"n{number}-{i}" for i in range(count)]
    spec = DatasetSpec(input="x", columns=("id", "name"), select=SelectSpec(start=3))
    columns = Columns((tmp_path / "0.h5", tmp_path / "1.h5"), spec)
    rows = np.array([4999, 0, 3000, 5030, 4996, 7])
    every = np.concatenate([np.arange(5000), 10_000 + np.arange(40)])[3:]
    with h5py.File(tmp_path / "out.h5", "w") as file:
        columns.copy_rows(file, rows)
        assert file["columns/id"][:].tolist() == every[rows].tolist()
        text = file["columns/name"].asstr()[:]
        assert text.tolist() == [f"n{i // 10_000}-{i % 10_000}" for i in every[rows]]
    with h5py.File(tmp_path / "none.h5", "w") as file:
        columns.copy_rows(file, rows[:0])
        assert file["columns/id"].shape == (0,)
