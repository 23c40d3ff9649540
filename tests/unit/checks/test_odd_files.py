"""Pipes, devices, sockets and folders in place of files: each is refused in words, within seconds, and none is opened.

To wait for a pipe, or to read a device to its end, would take for ever, and say nothing.
"""

import os
import socket

import h5py
import numpy as np
import pytest
import torch

from hpcens import config
from hpcens.checks.preflight import check
from hpcens.checks.trials import TrialBook
from hpcens.config.site import slurm_settings
from hpcens.errors import HpcensError
from hpcens.result.finished import Finished
from hpcens.result.verify import verify
from hpcens.specs import Job, SlurmSpec

# what stands in for a file → the member, or the whole line, that names it
MEMBERS = {
    "w.pt": "factory: odd_models:Net, weights: w.pt",
    "w.safetensors": "factory: odd_models:Net, weights: w.safetensors",
    "checkpoint.ckpt": "factory: odd_models:Net, weights: {path: checkpoint.ckpt, key: state}",
    "whole.pt": "pickled: whole.pt, trust: pickle",
    "script.pt": "torchscript: script.pt",
    "program.pt2": "exported: program.pt2",
    "graph.onnx": "onnx: graph.onnx",
    "outer.onnx.data": "onnx: outer.onnx",
    "scaler.npz": "factory: odd_models:Net, weights: good.pt, files: [scaler.npz]",
    "odd_models.py": "factory: odd_models:Net, weights: good.pt",
    "prepare.py": "factory: odd_models:Net, weights: good.pt, preprocess: [{call: prepare:f}]",
}
OTHERS = {
    "stacker.pt": "rule: {name: stack, factory: odd_models:Net, weights: stacker.pt}",
    "stacker.py": "rule: {name: stack, factory: stacker:Net, weights: good.pt}",
    "odd_rules.py": "rule: odd_rules:middle",
    "d.h5": "",
    "part.h5": "dataset: virtual",
    "other.h5": "dataset: link",
    "raw": "dataset: stored",
    "mask.h5": "dataset: {input: x, select: mask}",
    "ids.h5": "dataset: {input: x, columns: [ids]}",
    "run.yaml": "",
    "plan.json": "",
}
KINDS = ("pipe", "device", "folder", "socket")


def stand_in(path, kind):
    """Put something else in the place of a file."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(path))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets have to be short
    monkeypatch.syspath_prepend(tmp_path)
    with h5py.File("d.h5", "w") as file:
        file["x"] = np.ones((6, 3), "f4")
        layout = h5py.VirtualLayout((6, 3), "f4")
        layout[:] = h5py.VirtualSource("part.h5", "x", (6, 3))
        file.create_virtual_dataset("virtual", layout)
        file["link"] = h5py.ExternalLink("other.h5", "x")
        file["mask"], file["ids"] = h5py.ExternalLink("mask.h5", "x"), h5py.ExternalLink("ids.h5", "x")
        file.create_dataset("stored", data=np.ones((6, 3), "f4"), external=[("raw", 0, 72)])
    (tmp_path / "odd_models.py").write_text("from torch import nn\nclass Net(nn.Linear):\n    pass\n")
    torch.save(torch.nn.Linear(3, 2).state_dict(), "good.pt")
    return tmp_path


def write_outer_graph(path):
    """An ONNX file whose tensor lies beside it."""
    import onnx

    tensor = onnx.numpy_helper.from_array(np.ones((3, 2), "f4"), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=f"{path.name}.data")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["rows", 3])],
        [onnx.helper.make_tensor_value_info("y", 1, ["rows", 2])],
        [tensor],
    )
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())


def check_all(folder, plan):
    job = Job(datasets=(folder / "d.h5",), output=folder / "out.h5", spec=config.load(folder / "run.yaml"), plan=plan)
    check(job, TrialBook(folder / "trials"))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*MEMBERS, *OTHERS])
def test_what_is_no_file_is_refused_and_named_within_seconds(folder, name, kind):
    if name == "outer.onnx.data":
        write_outer_graph(folder / "outer.onnx")
    member = MEMBERS.get(name, "factory: odd_models:Net, weights: good.pt")
    lines = OTHERS.get(name, "")
    lines = lines if "dataset:" in lines else f"{lines}\ndataset: x"
    (folder / "run.yaml").write_text(f"task: multiclass\nmembers:\n  - {{name: a, {member}}}\n{lines}\n")
    stand_in(folder / name, kind)
    with pytest.raises(HpcensError) as caught:
        check_all(folder, folder / "plan.json" if name == "plan.json" else None)
    said = f"{caught.value.what} → {caught.value.remedy}"
    where = name.removesuffix(".py")
    assert where in said and "Traceback" not in said and caught.value.what.count("\n") == 0, said


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_or_a_site_profile_that_is_no_file_is_refused(folder, kind):
    stand_in(folder / "odd", kind)
    for opened in (
        lambda: verify(folder / "odd"),
        lambda: Finished(folder / "odd"),
        lambda: slurm_settings(SlurmSpec(), files=[folder / "odd"]),
    ):
        with pytest.raises(HpcensError, match="odd"):
            opened()
