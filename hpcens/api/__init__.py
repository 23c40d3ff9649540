"""Offer in Python what the command line does, in notebooks too; `hpcens` itself offers all of it under these names.

Every function takes and returns plain values: paths, configurations, frozen data, arrays read when they are asked for.
What fails raises a `hpcens.HpcensError`, whose class tells whose fault it is, see `hpcens.errors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcens.api.calibrated import Calibrated as Calibrated
    from hpcens.api.calibrated import calibrate as calibrate
    from hpcens.api.configuration import load_config as load_config
    from hpcens.api.evaluated import Evaluation as Evaluation
    from hpcens.api.evaluated import evaluate as evaluate
    from hpcens.api.handle import Handle as Handle
    from hpcens.api.handle import attach as attach
    from hpcens.api.opened import Result as Result
    from hpcens.api.opened import open_result as open_result
    from hpcens.api.planned import Plan as Plan
    from hpcens.api.planned import plan as plan
    from hpcens.api.results import combine as combine
    from hpcens.api.results import export as export
    from hpcens.api.results import verify as verify
    from hpcens.api.selected import Selection as Selection
    from hpcens.api.selected import select as select
    from hpcens.api.starting import run as run
    from hpcens.api.starting import submit as submit
else:
    # loaded by the first who asks for them: `import hpcens` stays light
    _NAMES = {
        "calibrated": ("Calibrated", "calibrate"),
        "configuration": ("load_config",),
        "evaluated": ("Evaluation", "evaluate"),
        "handle": ("Handle", "attach"),
        "opened": ("Result", "open_result"),
        "planned": ("Plan", "plan"),
        "results": ("combine", "export", "verify"),
        "selected": ("Selection", "select"),
        "starting": ("run", "submit"),
    }

    def __getattr__(name):
        for module, names in _NAMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
