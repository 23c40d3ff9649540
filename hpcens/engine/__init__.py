"""The devices that execute members: found, opened, fed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcens.engine.cpu import CpuHardware as CpuHardware
    from hpcens.engine.discovery import discover as discover
    from hpcens.engine.discovery import first_family as first_family
    from hpcens.engine.discovery import identities as identities
    from hpcens.engine.discovery import present as present
    from hpcens.engine.discovery import require_host_holds as require_host_holds
    from hpcens.engine.engine import Engine as Engine
    from hpcens.engine.engine import ran_out as ran_out
    from hpcens.engine.gpus import driver as driver
    from hpcens.engine.guard import Guard as Guard
    from hpcens.engine.guard import require_device as require_device
    from hpcens.engine.hardware import Hardware as Hardware
    from hpcens.engine.hardware import import_ahead as import_ahead
    from hpcens.engine.hardware import keep_to_cores as keep_to_cores
    from hpcens.engine.hardware import open_hardware as open_hardware
    from hpcens.engine.hardware import use_cores as use_cores
    from hpcens.engine.pinning import pin as pin
    from hpcens.engine.torch_build import gpu_libraries as gpu_libraries
else:
    # loaded by the first who asks for them: what imports much is not needed everywhere
    _NAMES = {
        "cpu": ("CpuHardware",),
        "discovery": ("discover", "first_family", "identities", "present", "require_host_holds"),
        "engine": ("Engine", "ran_out"),
        "guard": ("Guard", "require_device"),
        "gpus": ("driver",),
        "hardware": ("Hardware", "import_ahead", "keep_to_cores", "open_hardware", "use_cores"),
        "pinning": ("pin",),
        "torch_build": ("gpu_libraries",),
    }

    def __getattr__(name):
        for module, names in _NAMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
