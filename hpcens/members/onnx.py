"""ONNX: networks run by onnxruntime on the CPU, with threads of its own. Needs the extra `onnx`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from hpcens.errors import MemberError, UsageError
from hpcens.members.network import Network
from hpcens.members.weights import misplaced
from hpcens.specs import MemberSpec

_FLOATS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}


def data_files(spec: MemberSpec) -> tuple[Path, ...]:
    """Name the files beside the ONNX file in which it keeps large tensors.

    Raises UsageError where the packages are missing, MemberError where the file is not ONNX or they lie elsewhere.
    """
    missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise UsageError(
            f"member {spec.name} is an ONNX file, and {' and '.join(missing)} is not installed",
            "pip install 'hpcens[onnx]'",
        )
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    try:
        model = onnx.load(spec.file, load_external_data=False)
        tensors = [tensor for tensor in _get_all_tensors(model) if uses_external_data(tensor)]
        entries = [entry for tensor in tensors for entry in tensor.external_data]
        places = {entry.value for entry in entries if entry.key == "location"}
    except OSError as error:
        raise MemberError(f"member {spec.name}: {spec.file}: {error.strerror}", "check members[].onnx") from None
    except Exception as error:  # protobuf's errors share no base class but Exception
        raise misplaced(spec, error) from error
    folder = spec.file.parent
    return tuple(folder / place for place in sorted(places))


def load_onnx(spec: MemberSpec, cores: int) -> Network:
    """Load the file's graph as a module, with `cores` threads. Raises MemberError where onnxruntime cannot run it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # it would write to the terminal what it raises as well
    try:
        session = onnxruntime.InferenceSession(str(spec.file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise misplaced(spec, error) from error
    inputs = session.get_inputs()
    size = inputs[0].shape[0] if inputs and inputs[0].shape else None
    return Network(_Session(session), size, size) if isinstance(size, int) else Network(_Session(session))


class _Session(torch.nn.Module):
    """A session as a module: takes tensors in the order of its inputs, returns one, or several by output name.

    Floats are cast to the type an input declares. Tensors on another device come to the host and go back.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        self._session = session
        self._inputs = session.get_inputs()
        self._outputs = [output.name for output in session.get_outputs()]

    def forward(self, *tensors: torch.Tensor) -> Any:
        if len(tensors) != len(self._inputs):
            names = ", ".join(declared.name for declared in self._inputs)
            raise ValueError(f"it takes {len(self._inputs)} inputs ({names}), not {len(tensors)}")
        arrays = {
            declared.name: (x.to(_FLOATS.get(declared.type, x.dtype)) if x.is_floating_point() else x).cpu().numpy()
            for declared, x in zip(self._inputs, tensors, strict=True)
        }
        outputs = [torch.from_numpy(values) for values in self._session.run(self._outputs, arrays)]
        moved = [values.to(tensors[0].device) for values in outputs]
        return moved[0] if len(moved) == 1 else dict(zip(self._outputs, moved, strict=True))
