"""The faces of rooms: each name is where the face says, and light ones load nothing heavy."""

import ast
import subprocess
import sys
from importlib import import_module

import pytest
from support.house import ROOT

FACES = [path.parent.name for path in (ROOT / "hpcens").glob("*/__init__.py") if "\n    _NAMES = {" in path.read_text()]


@pytest.mark.parametrize("room", FACES)
def test_what_type_checkers_see_is_what_is_loaded(room):
    face = import_module(f"hpcens.{room}")
    [block] = [
        node
        for node in ast.parse((ROOT / "hpcens" / room / "__init__.py").read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        (node.module.removeprefix(f"hpcens.{room}."), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {(module, name) for module, names in face._NAMES.items() for name in names}
    for module, name in seen:
        assert getattr(face, name) is getattr(import_module(f"hpcens.{room}.{module}"), name)
    with pytest.raises(AttributeError, match=f"module 'hpcens.{room}' has no attribute 'unheard_of'"):
        _ = face.unheard_of


@pytest.mark.parametrize(
    ("imports", "heavy"),
    [
        ("from hpcens.result import describe_result, make_fingerprint, outputs_of, writing_speed", "h5py"),
        ("from hpcens.dataset import check_filter", "h5py"),
        ("from hpcens.engine import discover, identities, import_ahead, open_hardware, use_cores", "torch"),
        ("from hpcens.runtimes import RUNTIMES, runtimes_for", "torch"),
        ("from hpcens.members import digest_of, input_places, load, member_digests", "torch"),
        ("from hpcens.config import load, slurm_settings", "pydantic"),
        ("from hpcens.allocation import Problem, plan", "scipy"),
    ],
)
def test_a_face_loads_no_more_than_is_asked_of_it(imports, heavy):
    """Ranks import torch while others plan, and a command that only parses imports neither torch nor h5py."""
    code = f"{imports}; import sys; assert {heavy!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
