"""The example of views: two networks see tiles in several ways, and what they give is judged pixel by pixel."""

import json

import h5py
import numpy as np
import pytest
import torch
from support.one_process import run
from support.project import ROOT

from hpcens.cli import main

VIEWS = [(turns, flip) for turns in range(4) for flip in (False, True)]


def seen(net, tiles, turned):
    """The mean over views of what a network gives, undone; in float64."""
    values = []
    for turns, flip in turned:
        x = np.rot90(tiles[..., ::-1] if flip else tiles, turns, (-2, -1)).copy()
        with torch.no_grad():
            y = np.rot90(net(torch.from_numpy(x)).numpy().astype(np.float64), -turns, (-2, -1))
        values.append(y[..., ::-1] if flip else y)
    return values


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_example_is_the_mean_of_its_views_and_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    tiles = random.normal(0, 1, (10, 3, 8, 8)).astype("f4")
    nets = []
    for seed, name in enumerate(("land", "water")):
        torch.manual_seed(seed)
        nets.append(torch.nn.Conv2d(3, 4, 3, padding=1).eval())
        torch.jit.save(torch.jit.trace(nets[-1], torch.zeros(2, 3, 8, 8)), f"{name}.pt")
    land = np.mean([softmax(y) for y in seen(nets[0], tiles, VIEWS)], 0)
    water = softmax(np.mean(seen(nets[1], tiles, [(0, False), (0, True)]), 0))
    expected = (land + water) / 2
    with h5py.File("tiles.h5", "w") as file:
        file["tiles"], file["pixels"] = tiles, expected.argmax(1)
    (tmp_path / "views.yaml").write_text((ROOT / "configs" / "views.yaml").read_text())
    assert run(tmp_path / "views.yaml", tmp_path / "tiles.h5", tmp_path / "tiles.predictions.h5")
    with h5py.File("tiles.predictions.h5") as file:
        np.testing.assert_allclose(file["prediction"][()], expected, atol=1e-6)
        made_of = json.loads(file.attrs["members"])
    assert made_of["land"]["views[1]"] == "hflip" and made_of["land"]["space of views"] == "probabilities"
    assert main(["report", "tiles.predictions.run"]) == 0
    page = (tmp_path / "tiles.predictions.html").read_text()
    assert "mean of views" in page and "identity, hflip, vflip, rot90, rot180, rot270, transpose, transverse" in page
    assert main(["evaluate", "tiles.predictions.h5", "--labels", "tiles.h5:/pixels", "-o", "e.json"]) == 0
    capsys.readouterr()
    assert json.loads((tmp_path / "e.json").read_text())["ensemble"]["accuracy"]["value"] == 1.0
