"""Gradients in a forward, as forces are: `gradients: true` runs them, and without it the error names the key."""

import numpy as np
import pytest
import torch
from support.member_files import load

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.errors import MemberError
from hpcens.members import member_digests
from hpcens.runtimes.catalogue import runtimes_for
from hpcens.specs import MemberSpec

CODE = """
import torch
class Energy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.energy = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    def forces(self, x):
        return -torch.autograd.grad(self.energy(x.flatten(1)).sum(), x)[0]

class Guarded(Energy):
    def forward(self, x):
        with torch.enable_grad():
            return self.forces(x.detach().requires_grad_(True))

class Plain(Energy):
    def forward(self, x):
        return self.forces(x.requires_grad_(True))

class Both(Energy):
    def forward(self, x):
        x = x.requires_grad_(True)
        return {"energy": self.energy(x.flatten(1))[:, 0], "forces": self.forces(x)}

class Linked(Energy):
    def forward(self, x):
        x = x.clone().requires_grad_(True)
        return torch.autograd.grad(self.energy(x.flatten(1)).sum(), x, create_graph=True)[0]
"""
X = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 2, 3)).astype("f4"))


@pytest.fixture
def spec(tmp_path, monkeypatch):
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "forces.py").write_text(CODE)
    names = {}
    exec(CODE, names)
    torch.manual_seed(0)
    net = names["Guarded"]()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    spec = MemberSpec(name="f", factory="forces:Guarded", weights=tmp_path / "net.pt", output="values", gradients=True)
    yield spec, tmp_path, net(X.clone()).numpy(), net.energy(X.flatten(1)).detach().numpy()[:, 0]
    sys.modules.pop("forces", None)


def run(spec, folder):
    engine = Engine(CpuHardware(1))
    engine.host(spec.name, load(spec, folder, inputs=("x",), space="values"), batch=2)
    return engine.run(spec.name, [X])[0]


@pytest.mark.parametrize("factory", ["Guarded", "Plain", "Linked"])
def test_forces_are_those_of_torch(spec, factory):
    from dataclasses import replace

    member, folder, forces, _ = spec
    values = run(replace(member, factory=f"forces:{factory}"), folder)
    np.testing.assert_allclose(values, -forces if factory == "Linked" else forces, atol=1e-6)


def test_one_of_several_outputs_is_selected(spec):
    from dataclasses import replace

    member, folder, forces, energy = spec
    both = replace(member, factory="forces:Both", select="forces")
    np.testing.assert_allclose(run(both, folder), forces, atol=1e-6)
    np.testing.assert_allclose(run(replace(both, select="energy"), folder), energy, atol=1e-6)


@pytest.mark.parametrize("factory", ["Guarded", "Plain", "Linked", "Both"])
def test_without_the_key_the_error_names_it(spec, factory):
    from dataclasses import replace

    member, folder, _, _ = spec
    with pytest.raises(MemberError, match="write gradients: true for it in the YAML"):
        run(replace(member, factory=f"forces:{factory}", gradients=False), folder)


def test_it_runs_in_eager_alone_and_is_another_member(spec):
    from dataclasses import replace

    member, folder, _, _ = spec
    assert runtimes_for(member, "cpu") == ("eager",)
    without = member_digests(replace(member, gradients=False), folder)
    assert member_digests(member, folder) == without | {"gradients": "true"}
