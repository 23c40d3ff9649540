"""ONNX: networks run by onnxruntime, with threads of its own. Needs the extra `onnx`.

On a GPU where onnxruntime-gpu is installed: rows are read and outputs written where they are, none comes to the host.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from hpcens.errors import MemberError
from hpcens.members.casting import unwritten
from hpcens.members.network import Network
from hpcens.members.weights import misplaced
from hpcens.specs import MemberSpec

_FLOATS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}

_CUDA = "CUDAExecutionProvider"
# Else convolutions are of the algorithm that was fastest this time, and float32 is computed in TF32.
_SAME_BITS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}


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

    def on_gpu(index: int) -> Any:
        if _CUDA not in onnxruntime.get_available_providers():
            return None
        of = [(_CUDA, {"device_id": str(index), **_SAME_BITS}), "CPUExecutionProvider"]
        options.use_deterministic_compute = True
        opened = onnxruntime.InferenceSession(str(spec.file), options, providers=of)
        return opened if _CUDA in opened.get_providers() else None  # without its libraries it takes the CPU, unsaid

    module = _Session(spec.name, session, on_gpu)
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

    Floats are cast to the type an input declares. Tensors on another device come to the host and go back, unless the
    session is one of that device.
    """

    def __init__(self, name: str, session: Any, on_gpu: Callable[[int], Any]) -> None:
        """Run a session on the CPU. on_gpu: opens one on a GPU, by its index; None where that cannot be."""
        super().__init__()
        self._name, self._told = name, False
        self._on_gpu = on_gpu
        self._gpu: int | None = None
        self._session = session
        self._inputs = session.get_inputs()
        self._outputs = [output.name for output in session.get_outputs()]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Follow the module to a GPU, or say once that the session stays on the host."""
        device = fn(torch.empty(0)).device
        if device.type != "cpu" and not self._told:
            self._told = True
            self.follow(device)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def follow(self, device: torch.device) -> None:
        """Open a session on a GPU instead. Warns where that cannot be."""
        index = device.index or 0
        if device.type == "cuda" and (session := self._on_gpu(index)) is not None:
            self._session, self._gpu = session, index
            return
        print(
            f"hpcens: warning: member {self._name}: ONNX files are run on CPU cores, here on those of a GPU's rank;"
            " with onnxruntime-gpu they run on the GPU, as factories, TorchScript files and exported programs do",
            file=sys.stderr,
            flush=True,
        )

    def forward(self, *tensors: torch.Tensor) -> Any:
        if len(tensors) != len(self._inputs):
            names = ", ".join(declared.name for declared in self._inputs)
            raise ValueError(f"it takes {len(self._inputs)} inputs ({names}), not {len(tensors)}")
        cast = [
            (x.to(_FLOATS.get(declared.type, x.dtype)) if x.is_floating_point() else x).contiguous()
            for declared, x in zip(self._inputs, tensors, strict=True)
        ]
        outputs = self._there(cast, self._gpu) if self._gpu is not None else self._here(cast)
        moved = [values.to(tensors[0].device) for values in outputs]
        return moved[0] if len(moved) == 1 else dict(zip(self._outputs, moved, strict=True))

    def _here(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        arrays = {declared.name: x.cpu().numpy() for declared, x in zip(self._inputs, tensors, strict=True)}
        return [torch.from_numpy(values) for values in self._session.run(self._outputs, arrays)]

    def _there(self, tensors: Sequence[torch.Tensor], gpu: int) -> list[torch.Tensor]:
        """Run tensors where they lie, on the GPU of the session, which computes on a stream of its own."""
        binding = self._session.io_binding()
        for declared, x in zip(self._inputs, tensors, strict=True):
            kind = torch.empty(0, dtype=x.dtype).numpy().dtype.type
            binding.bind_input(declared.name, "cuda", gpu, kind, tuple(x.shape), x.data_ptr())
        for name in self._outputs:
            binding.bind_output(name, "cuda", gpu)
        _finish()
        self._session.run_with_iobinding(binding)
        return [_tensor(value) for value in binding.get_outputs()]


def _finish() -> None:
    """Wait for what torch computes: the inputs."""
    torch.cuda.current_stream().synchronize()


def _tensor(value: Any) -> torch.Tensor:
    """Return a copy of what a session gave, on its device where this onnxruntime can say where it lies."""
    if hasattr(value, "__dlpack__"):
        return torch.utils.dlpack.from_dlpack(value).clone()
    return torch.from_numpy(value.numpy())
