"""Configurations from Python's own data mean what the same YAML means, and are refused as it is."""

from pathlib import Path

import numpy as np
import pytest

import hpcens

MEMBER = {"name": "a", "factory": "models:build", "weights": Path("a.safetensors")}
YAML = """members: [{name: a, factory: "models:build", weights: a.safetensors}]
plan: {batch_sizes: [8, 16]}
task: multiclass
output: {datasets: [prediction, label]}
"""


def test_a_mapping_is_read_as_the_same_yaml(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpcens.yaml").write_text(YAML)
    tree = {
        "members": [MEMBER],
        "plan": {"batch_sizes": (np.int64(8), 16)},
        "task": "multiclass",
        "output": {"datasets": ("prediction", "label")},
    }
    spec = hpcens.load_config(tree)
    assert spec == hpcens.load_config("hpcens.yaml") == hpcens.load_config() == hpcens.load_config(spec)
    assert spec.members[0].weights.path == tmp_path / "a.safetensors"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"members": [MEMBER | {"wieghts": 1}]}, "configuration: members[0].wieghts: unknown key"),
        ({}, "configuration: members: "),
        ({"members": [MEMBER], "fsync_seconds": object()}, "of the type object, which no YAML file holds"),
        ({"members": [MEMBER], "fsync_seconds": float("nan")}, "configuration: fsync_seconds: "),
        ({"members": [MEMBER], "classes": np.zeros(3)}, "of the type ndarray"),
    ],
)
def test_what_is_wrong_is_named_by_its_place_without_a_line(tree, message):
    with pytest.raises(hpcens.UsageError) as error:
        hpcens.load_config(tree)
    assert message in str(error.value)


def test_what_is_in_the_package_is_what_type_checkers_see():
    import ast

    block = next(node for node in ast.parse(Path(hpcens.__file__).read_text()).body if isinstance(node, ast.If))
    seen = {f"{node.module}.{alias.name}": alias.asname for node in block.body for alias in node.names}
    assert {f"hpcens.{place}": name for name, place in hpcens._API.items()} == seen
    assert {*hpcens._API} <= set(dir(hpcens)) and all(getattr(hpcens, name) for name in hpcens._API)
    with pytest.raises(AttributeError, match="module 'hpcens' has no attribute 'unheard_of'"):
        _ = hpcens.unheard_of
