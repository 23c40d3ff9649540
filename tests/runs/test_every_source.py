"""An ensemble with a member from every source, each prepared its own way, through real ranks, against float64."""

import re
import warnings

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.member_files import as_onnx, exported, scripted

from hpcens.checks.preflight import check, is_complete
from hpcens.config import load
from hpcens.errors import FingerprintMismatch
from hpcens.specs import Job

YAML = """
members:
  - name: safetensors
    factory: nets:Linear
    weights: {weights}/linear.safetensors
    preprocess: [{{layout: NHWC->NCHW}}, {{scale: 1/255}}]
  - name: state
    factory: nets:Conv
    weights: conv.pt
    preprocess:
      - layout: NHWC->NCHW
      - normalize: {{mean: [100, 110, 120], std: [50, 60, 70]}}
    classes: [d, c, b, a]
  - name: script
    torchscript: conv.script
    preprocess: [{{layout: NHWC->NCHW}}, {{scale: 1/255}}]
    precision: bfloat16
  - name: exported
    exported: recurrent.pt2
    preprocess: [{{call: "nets:halved"}}, {{layout: NHWC->NCHW}}, {{scale: 2/255}}]
  - name: onnx
    onnx: linear.onnx
    preprocess: [{{layout: NHWC->NCHW}}, {{scale: 1/255}}]
  - name: pickled
    pickled: linear.pickle
    trust: pickle
    preprocess: [{{layout: NHWC->NCHW}}, {{scale: 1/255}}]
classes: [a, b, c, d]
devices: {{cpu: 2}}
plan: {{batch_sizes: [16]}}
output: {{datasets: [prediction, members]}}
"""
ROWS = 100


def test_an_ensemble_from_every_source_is_what_float64_says(project):
    import nets

    folder = project.yaml().folder
    made = {name: getattr(nets, name.title())().eval() for name in ("linear", "conv", "recurrent")}
    for name, net in made.items():
        net.load_state_dict(load_file(project.weights / f"{name}.safetensors"))
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 8, 8, 3), np.uint8)
    with h5py.File(project.dataset, "w") as file:
        file["images"] = images
    x = torch.zeros(4, 3, 8, 8)
    torch.save({"state_dict": made["conv"].state_dict()}, folder / "conv.pt")
    scripted(made["conv"], folder / "conv.script", x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, about how its own GRU is exported
        exported(made["recurrent"], folder / "recurrent.pt2", x, batch=None)
    as_onnx(made["linear"], folder / "linear.onnx", batch=3)
    torch.save(made["linear"], folder / "linear.pickle")
    (folder / "hpcens.yaml").write_text(YAML.format(weights=project.weights))
    out = project.hpcens("run", "dataset.h5")
    assert "warning" not in out

    exact = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float64))
    scaled = exact / 255
    mean, std = (torch.tensor(of).double().reshape(3, 1, 1) for of in ([100, 110, 120], [50, 60, 70]))
    with torch.inference_mode():
        double = {name: net.double() for name, net in made.items()}
        logits = {
            "safetensors": double["linear"](scaled),
            "state": double["conv"]((exact - mean) / std).flip(1),
            "script": double["conv"](scaled),
            "exported": double["recurrent"](scaled),
            "onnx": double["linear"](scaled),
            "pickled": double["linear"](scaled),
        }
    wanted = {name: torch.softmax(values, 1).numpy() for name, values in logits.items()}
    with h5py.File(project.output) as file:
        for name, values in wanted.items():
            off = np.abs(file[f"members/{name}"][:] - values).max()
            assert off < (2e-2 if name == "script" else 2e-6), name
        mean_of_all = np.mean([file[f"members/{name}"][:].astype(np.float64) for name in wanted], 0)
        assert np.abs(file["prediction"][:] - mean_of_all).max() < 1e-7
    assert "sound" in project.hpcens("verify", "dataset.predictions.h5")
    assert_other_members_are_refused(project)


def assert_other_members_are_refused(project):
    """Each of these changes the numbers."""
    file, state = project.folder / "hpcens.yaml", project.folder / "conv.pt"

    def stands():
        job = Job(datasets=(project.dataset,), output=project.output, spec=load(file))
        return is_complete(job, check(job))

    assert stands()
    text = file.read_text()
    for before, after, what in [
        ("bfloat16", "float16", "members.script.numerics.precision: bfloat16 then, float16 now"),
        ("[d, c, b, a]", "[d, c, a, b]", "members.state.classes"),
        ("2/255", "2/254", "members.exported.preprocess[2]"),
        ("nets:halved", "nets:refuse", "members.exported.preprocess[0]"),
    ]:
        file.write_text(text.replace(before, after))
        with pytest.raises(FingerprintMismatch, match=re.escape(what)):
            stands()
    file.write_text(text)
    with state.open("ab") as grown:
        grown.write(b"\0")
    with pytest.raises(FingerprintMismatch, match=r"members\.state\.weights"):
        stands()
