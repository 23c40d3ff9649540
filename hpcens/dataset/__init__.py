"""Read the dataset: files, tables and selections of rows, decompressed once."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcens.dataset.columns import Columns as Columns
    from hpcens.dataset.filters import check_filter as check_filter
    from hpcens.dataset.inputs import Input as Input
    from hpcens.dataset.inspection import Reading as Reading
    from hpcens.dataset.inspection import inspect_speed as inspect_speed
    from hpcens.dataset.inspection import inspecting as inspecting
    from hpcens.dataset.inspection import read_part as read_part
    from hpcens.dataset.inspection import reading_speed as reading_speed
    from hpcens.dataset.labels import LabelFiles as LabelFiles
    from hpcens.dataset.routed import Routed as Routed
    from hpcens.dataset.routes import Routes as Routes
    from hpcens.dataset.routes import divided_rows as divided_rows
    from hpcens.dataset.source import Facts as Facts
    from hpcens.dataset.source import Source as Source
    from hpcens.dataset.source import sample_rows as sample_rows
    from hpcens.dataset.source import spread_rows as spread_rows
else:
    # loaded by the first who asks for them: what imports much is not needed everywhere
    _NAMES = {
        "columns": ("Columns",),
        "filters": ("check_filter",),
        "inputs": ("Input",),
        "inspection": ("Reading", "inspect_speed", "inspecting", "read_part", "reading_speed"),
        "labels": ("LabelFiles",),
        "routed": ("Routed",),
        "routes": ("Routes", "divided_rows"),
        "source": ("Facts", "Source", "sample_rows", "spread_rows"),
    }

    def __getattr__(name):
        for module, names in _NAMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
