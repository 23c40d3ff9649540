"""What CUDA and its libraries say when something fails. They raise RuntimeError, and tell in words alone what it is."""

from __future__ import annotations

_OUT_OF_MEMORY = (
    "CUDA error: out of memory",
    "CUDA driver error: out of memory",
    "Triton Error [CUDA]: out of memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # its handle found no room
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUFFT_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUSPARSE_STATUS_ALLOC_FAILED",
    # what torch says where no algorithm's workspace fits
    "unable to find an engine to execute this computation",
    "HIP error: out of memory",
    "HIP out of memory",
    "hipErrorOutOfMemory",
)
_OF_THE_DEVICE = ("CUDA error:", "HIP error:", "CUDA driver error:", "Triton Error [CUDA]:")
# What a network does wrong: its code or its rows, not the card.
_OF_THE_NETWORK = (
    "device-side assert",
    "no kernel image is available",
    "invalid argument",
    "invalid configuration argument",
    "invalid device function",
    "operation not permitted when stream is capturing",
    "stream capture",
    "CUBLAS_STATUS_INVALID_VALUE",
    "CUBLAS_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_ARCH_MISMATCH",
)
# What is said where the GPU, its link, or what the node knows of it is broken: no member's fault. Other errors of the
# device, like illegal addresses, may come of a member's own kernels.
_BROKEN = (
    "ECC error",
    "device unavailable",
    "devices unavailable",
    "busy or unavailable",
    "hardware error",
    "driver shutting down",
    "GPU is lost",
    "fallen off the bus",
    "NVLink error",
    "no CUDA-capable device",
    "hipErrorNoDevice",
)


def says_out_of_memory(text: str) -> bool:
    """Tell whether the words say that a device's memory is used up."""
    return any(words in text for words in _OUT_OF_MEMORY)


def is_of_the_device(text: str) -> bool:
    """Tell whether the words say that the device failed, not what it was asked to compute: no call works after it."""
    return any(words in text for words in _OF_THE_DEVICE) and not any(words in text for words in _OF_THE_NETWORK)


def says_broken(text: str) -> bool:
    """Tell whether the words say that a GPU is broken, so that another may do what it was to do."""
    return any(words in text for words in _BROKEN)
