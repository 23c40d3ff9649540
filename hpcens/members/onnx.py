"""ONNX: networks run by onnxruntime on the CPU, with threads of its own. Needs the extra `onnx`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch

from hpcens.errors import MemberError
from hpcens.members.casting import unwritten
from hpcens.members.network import Network
from hpcens.members.weights import misplaced
from hpcens.specs import MemberSpec

_FLOATS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}


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
    _check_precision(spec, inputs)
    size = inputs[0].shape[0] if inputs and inputs[0].shape else None
    module = _Session(spec.name, session)
    return Network(module, size, size) if isinstance(size, int) else Network(module)


def _check_precision(spec: MemberSpec, inputs: Sequence[Any]) -> None:
    """Raise MemberError where the graph does not take what the member's precision says, or takes float64 unsaid."""
    narrow = [f"{x.name} as {x.type}" for x in inputs if x.type in _FLOATS and _FLOATS[x.type] != torch.float64]
    if spec.computes_in == "float64" and narrow:
        raise MemberError(
            f"member {spec.name}: {spec.file} takes {', '.join(narrow)}, and precision: float64 is written",
            "remove precision: float64, or export a graph of doubles",
        )
    wide = [x.name for x in inputs if _FLOATS.get(x.type) == torch.float64]
    if spec.unsaid and wide:
        raise unwritten(spec, f"takes float64 ({', '.join(wide)})")


class _Session(torch.nn.Module):
    """A session as a module: takes tensors in the order of its inputs, returns one, or several by output name.

    Floats are cast to the type an input declares. Tensors on another device come to the host and go back.
    """

    def __init__(self, name: str, session: Any) -> None:
        super().__init__()
        self._name, self._told = name, False
        self._session = session
        self._inputs = session.get_inputs()
        self._outputs = [output.name for output in session.get_outputs()]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Say once that the session stays on the host, where the module is moved to a GPU."""
        if not self._told and fn(torch.empty(0)).device.type != "cpu":
            self._told = True
            print(
                f"hpcens: warning: member {self._name}: ONNX files are run on CPU cores, here on those of a GPU's rank;"
                " factories, TorchScript files and exported programs run on the GPU",
                file=sys.stderr,
                flush=True,
            )
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

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
