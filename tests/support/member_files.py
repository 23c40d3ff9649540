"""Members: files of every kind, and what is loaded from them."""

import os
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from hpcens import members
from hpcens.specs import RunSpec
from support.project import ENSEMBLE


def load(member, folder=ENSEMBLE, digests=None, inputs=("images",), space="probabilities", classes=None, network=None):
    spec = RunSpec(members=(member,), search_path=folder, classes=classes)
    return members.load(member, spec, network, inputs=inputs, space=space, digests=digests)


def module_of(forward):
    return forward.passes.module


def outputs(forward, *rows):
    with torch.inference_mode():
        return forward(*rows)


class Custom:
    """What only a pickle can hold; leaves a trace where it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, (os.environ["UNPICKLED"],))


def scripted(module, path, x):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        torch.jit.script(module).save(path)


def traced(module, path, x):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit")
        torch.jit.trace(module, x).save(path)


def exported(module, path, x, batch=torch.export.Dim.AUTO):
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},) if batch else None)
    torch.export.save(program, path)


def as_onnx(module, path, batch="rows", kind=TensorProto.FLOAT, external=""):
    """The Linear network, as an ONNX graph."""
    given = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], transB=1),
        ],
        "linear",
        [helper.make_tensor_value_info("x", kind, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", kind, [batch, 4])],
        [
            numpy_helper.from_array(given["head.weight"].astype(dtype), "w"),
            numpy_helper.from_array(given["head.bias"].astype(dtype), "b"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(
        made, path, **{"save_as_external_data": True, "location": external, "size_threshold": 0} if external else {}
    )


X = torch.from_numpy(np.random.default_rng(0).random((9, 3, 8, 8), np.float32))
