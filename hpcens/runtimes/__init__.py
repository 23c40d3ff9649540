"""Ways to execute a member: which can be tried where, and how a member is prepared for each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcens.runtimes.catalogue import RUNTIMES as RUNTIMES
    from hpcens.runtimes.catalogue import runtimes_for as runtimes_for
    from hpcens.runtimes.hosting import host as host
    from hpcens.runtimes.prepare import open_runtime as open_runtime
    from hpcens.runtimes.recipe import Recipe as Recipe
    from hpcens.runtimes.recipe import accepted as accepted
    from hpcens.runtimes.recipe import filled as filled
else:
    # loaded by the first who asks for them: what imports much is not needed everywhere
    _NAMES = {
        "catalogue": ("RUNTIMES", "runtimes_for"),
        "hosting": ("host",),
        "prepare": ("open_runtime",),
        "recipe": ("Recipe", "accepted", "filled"),
    }

    def __getattr__(name):
        for module, names in _NAMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
