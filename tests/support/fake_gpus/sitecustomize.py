"""Ranks that take the trial cluster's devices, which CUDA does not see, for GPUs and compute on the CPU."""

import os
import subprocess

from hpcens.engine import discovery, hardware


def _gpus(host):
    told = subprocess.run(discovery._QUERY, capture_output=True, text=True, check=True).stdout
    return discovery.parse_gpus(told, os.environ.get("CUDA_VISIBLE_DEVICES"), host)


def _open_hardware(device):
    from hpcens.engine.cpu import CpuHardware

    return CpuHardware(device.cores)


discovery._gpus = _gpus
hardware.open_hardware = _open_hardware
