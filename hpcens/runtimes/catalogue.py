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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from hpcens.specs import MemberSpec
from hpcens.vocabulary import Family


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where a way to execute a member can be tried.

    families  of devices
    seconds   what its preparation takes for a network of a few million weights, roughly
    sources   of members
    package   that has to be installed
    mute      whether its rank can say nothing during a batch: it keeps the interpreter's lock from end to end
    """

    families: tuple[Family, ...]
    seconds: float
    sources: tuple[str, ...]
    package: str | None = None
    mute: bool = False


_OURS = ("factory", "pickled", "exported")
_CPU: tuple[Family, ...] = ("cpu",)
_ALL: tuple[Family, ...] = ("cpu", "cuda")

# in the order in which they are tried: by what they gain for their preparation
RUNTIMES: Mapping[str, Runtime] = {
    "eager": Runtime(_ALL, 0.0, (*_OURS, "torchscript", "onnx")),
    "openvino": Runtime(_CPU, 3.0, _OURS, "openvino"),
    "cuda_graphs": Runtime(("cuda",), 1.0, (*_OURS, "torchscript")),
    "frozen": Runtime(_CPU, 2.0, (*_OURS, "torchscript")),
    "channels_last": Runtime(_ALL, 0.1, _OURS),
    "frozen_channels_last": Runtime(_CPU, 2.0, _OURS),
    "compiled": Runtime(_ALL, 60.0, _OURS, mute=True),
}


def runtimes_for(member: MemberSpec, family: Family) -> tuple[str, ...]:
    """Those that can be tried for a member on a family of devices, eager first."""
    return tuple(
        name
        for name, of in RUNTIMES.items()
        if family in of.families
        and member.source in of.sources
        and (of.package is None or find_spec(of.package) is not None)
    )
