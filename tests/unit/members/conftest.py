"""Fixtures of members."""

import sys

import pytest
from support.member_files import load, module_of

from hpcens.specs import MemberSpec


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of the test's own to import factories from; what is imported from it is forgotten again."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def state(member):
    return module_of(load(member)).state_dict()


@pytest.fixture
def unpickled(tmp_path, monkeypatch):
    """A path that exists once something was unpickled."""
    monkeypatch.setenv("UNPICKLED", str(tmp_path / "unpickled"))
    return tmp_path / "unpickled"


@pytest.fixture
def linear(weights):
    return module_of(
        load(MemberSpec(name="linear", factory="nets:Linear", weights=weights / "linear.safetensors"))
    ).eval()
