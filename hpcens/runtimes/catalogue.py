"""The catalogue: the ways to execute a member, and which of them can be tried where. Imports no torch.

| runtime | what it is | needs |
| --- | --- | --- |
| eager | the module as it is, operator by operator | |
| channels_last | its weights and images with the channels innermost | images |
| frozen | traced, its weights folded in, operators fused (torch.jit) | a CPU |
| frozen_channels_last | both | a CPU, images |
| openvino | its trace compiled by OpenVINO | a CPU, the extra `openvino`, float32 |
| compiled | exported, compiled ahead of time by torch's inductor, weights folded in | a C++ compiler; Triton on a GPU |
| cuda_graphs | its kernels recorded once, launched all at once | a GPU |
| channels_last_cuda_graphs | those of channels_last, recorded | a GPU, images |
| tensorrt | exported, built by TensorRT; only where it is asked for | a GPU, the extra `tensorrt` |
| compiled_cuda_graphs | those of compiled, recorded | a GPU, Triton |
| stacked | equal members as one batched network (torch.func.vmap) | members of one factory and its arguments |

What is recorded is all that a member does for a batch, its preprocessing and the conversion of its output included;
where a step or a view is a function of the user's own, its network alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from hpcens.specs import MemberSpec
from hpcens.vocabulary import Family


@dataclass(frozen=True, slots=True)
class Runtime:
    """A way to execute a member, and where it can be tried.

    families  families of devices that can
    seconds   roughly what its preparation takes for a network of a few million weights
    sources   kinds of file that its member may come from
    module    module of `hpcens.runtimes` that prepares a network for batches of one size; None where it is run in
              batches of any size
    package   package that has to be installed
    several   whether it runs several members as one, see `members.stacked`
    records   runtime whose kernels are recorded; None where none are
    asked     whether it is tried only where plan.runtime names it
    mute      whether its rank can say nothing during a batch: it keeps the interpreter's lock from end to end
    """

    families: tuple[Family, ...]
    seconds: float
    sources: tuple[str, ...]
    module: str | None = None
    package: str | None = None
    records: str | None = None
    asked: bool = False
    mute: bool = False
    several: bool = False


_OURS = ("factory", "pickled", "exported")
_CPU: tuple[Family, ...] = ("cpu",)
_ALL: tuple[Family, ...] = ("cpu", "cuda")

# in the order in which they are tried: by what they gain for their preparation
RUNTIMES: Mapping[str, Runtime] = {
    "eager": Runtime(_ALL, 0.0, (*_OURS, "torchscript", "onnx")),
    "openvino": Runtime(_CPU, 3.0, _OURS, "openvino", package="openvino"),
    "cuda_graphs": Runtime(("cuda",), 1.0, (*_OURS, "torchscript"), "cuda_graphs", records="eager"),
    "frozen": Runtime(_CPU, 2.0, (*_OURS, "torchscript"), "frozen"),
    "channels_last": Runtime(_ALL, 0.1, _OURS),
    "channels_last_cuda_graphs": Runtime(("cuda",), 1.1, _OURS, "cuda_graphs", records="channels_last"),
    "frozen_channels_last": Runtime(_CPU, 2.0, _OURS, "frozen"),
    "compiled": Runtime(_ALL, 60.0, _OURS, "compiled", mute=True),
    "compiled_cuda_graphs": Runtime(("cuda",), 61.0, _OURS, "cuda_graphs", records="compiled", mute=True),
    "stacked": Runtime(_ALL, 0.1, ("factory",), several=True),
    "tensorrt": Runtime(("cuda",), 60.0, _OURS, "tensorrt", package="torch_tensorrt", asked=True, mute=True),
}


def runtimes_for(member: MemberSpec, family: Family) -> tuple[str, ...]:
    """Return the runtimes that can be tried for a member on a family of devices, eager first."""
    return tuple(
        name
        for name, runtime in RUNTIMES.items()
        if family in runtime.families
        and not (runtime.several or runtime.asked)
        and member.source in runtime.sources
        and (name == "eager" or not (member.gradients or member.passes))
        and (runtime.package is None or find_spec(runtime.package) is not None)
    )


def keeps_files(runtime: str) -> bool:
    """Tell whether what took long to prepare for a runtime is kept in files, its own or of what it records."""
    entry = RUNTIMES[runtime]
    return keeps_files(entry.records) if entry.records is not None else entry.module is not None
