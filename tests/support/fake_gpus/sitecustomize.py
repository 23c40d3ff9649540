"""Ranks that take the trial cluster's devices, which CUDA does not see, for GPUs and compute on the CPU."""

import os

from hpcens.engine import discovery, gpus, hardware


def _visible():
    return gpus.visible(tuple(gpus.parse_table(gpus.ask(gpus.QUERY))), os.environ.get("CUDA_VISIBLE_DEVICES"))


def _open_hardware(device):
    from hpcens.engine.cpu import CpuHardware

    return CpuHardware(device.cores)


discovery._visible = _visible
hardware.open_hardware = _open_hardware
