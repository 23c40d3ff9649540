"""What the installed torch was built for and computes with, read from its files: torch is not imported."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

# Wheels with kernels, or that choose or write them. Names end in the major version of CUDA: nvidia-cudnn-cu13.
_KERNELS = re.compile(
    r"(nvidia-(cublas|cudnn|cufft|cusolver|cusparse|cusparselt|cuda-runtime)(-cu\d+)?|triton|pytorch-triton.*|onnxruntime-gpu)"
)


@lru_cache(maxsize=1)
def torch_build() -> dict[str, str]:
    """Return what torch's own version file says: `cuda` and `hip` where it was built for them, `git_version`."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return {}
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return {}
    return dict(re.findall(r"^(cuda|hip|git_version)\b[^=\n]*=\s*'([^']+)'", text, re.MULTILINE))


@lru_cache(maxsize=1)
def gpu_libraries() -> dict[str, str]:
    """Return what decides the bits that a GPU computes, besides the version of torch: library → version."""
    installed = {(found.metadata["Name"] or "").lower(): found.version for found in distributions()}
    wheels = {name: version for name, version in installed.items() if _KERNELS.fullmatch(name)}
    return dict(sorted({**torch_build(), **wheels}.items()))
