"""Pin a rank to its GPU before torch starts, by UUID: it sees this one alone, whatever number others give it.

Then nothing that torch or a library does on "the first GPU" happens on another rank's, MIG slices are found, and ranks
without a GPU take no memory of one.
"""

from __future__ import annotations

import os
from typing import Any

from hpcens.errors import HpcensError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_OF_AMD = "HIP_VISIBLE_DEVICES"
_BY_TORCH = "torch:"
_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def pin(uuid: str | None) -> None:
    """See one GPU alone from now on, None: none. To be called before torch is imported, in the main thread."""
    if uuid is not None and uuid.startswith(_BY_TORCH):
        names = os.environ.get(_OF_AMD, "")
        index = int(uuid.removeprefix(_BY_TORCH))
        os.environ[_OF_AMD] = names.split(",")[index] if names else str(index)
        return
    os.environ[_VISIBLE] = uuid or ""
    if uuid is None:
        return
    # cuBLAS then computes the same bits whatever runs beside it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if not any(name in os.environ for name in _ALLOCATOR):
        os.environ[_ALLOCATOR[0]] = "expandable_segments:True"  # what is freed of a large piece can be given back


def pinned() -> str:
    """Return the UUID of the GPU that this process alone sees; empty where it is not pinned to one by it."""
    names = os.environ.get(_VISIBLE, "")
    return names if names.startswith(("GPU-", "MIG-")) and "," not in names else ""


def index_of_own(api: Any, otherwise: int) -> int:
    """Return the number that CUDA gives the GPU this process is pinned to.

    api        torch's CUDA interface
    otherwise  its number where it is not pinned
    Raises HpcensError where CUDA shows others: it was started before this rank chose, by an MPI that knows of GPUs.
    """
    uuid = pinned()
    if not uuid:
        return otherwise
    shown = [_uuid(api, i) for i in range(api.device_count())]
    wanted = uuid.removeprefix("GPU-")
    for i, name in enumerate(shown):
        if name and name.startswith(wanted):
            return i
    # a slice has its GPU's name in some drivers, and older torch tells none
    if len(shown) == 1 and (uuid.startswith("MIG-") or not shown[0]):
        return 0
    raise HpcensError(
        f"this rank was given GPU {uuid}, and CUDA shows it {', '.join(shown) or 'none'}",
        "CUDA may have been started before the rank chose, as an MPI that knows of GPUs does: switch that off"
        " (MPICH: MPIR_CVAR_ENABLE_GPU=0, Open MPI: --mca opal_cuda_support 0, Cray: MPICH_GPU_SUPPORT_ENABLED=0)",
    )


def _uuid(api: Any, index: int) -> str:
    return str(getattr(api.get_device_properties(index), "uuid", "")).removeprefix("GPU-")
