"""Ranks that take the trial cluster's devices, which CUDA does not see, for GPUs and compute on the CPU."""

import os
import subprocess

from hpcens.runtimes import discover, hardware


def _gpus(host):
    told = subprocess.run(discover._QUERY, capture_output=True, text=True, check=True).stdout
    return discover.parse_gpus(told, os.environ.get("CUDA_VISIBLE_DEVICES"), host)


def _open_hardware(device):
    from hpcens.engine.cpu import CpuHardware

    return CpuHardware(device.cores)


discover._gpus = _gpus
hardware.open_hardware = _open_hardware
