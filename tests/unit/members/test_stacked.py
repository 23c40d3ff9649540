"""Equal members as one batched network give what each gives by itself."""

import pytest
import torch
from support.groups import equal_members, stacked
from support.member_files import load, outputs

from hpcens.errors import RuntimeUnsuited

pytestmark = pytest.mark.usefixtures("one_thread", "weights")

NETS = """
import torch
from torch import nn

class Tied(nn.Module):
    "Tied weights; a buffer that no file holds; batch norm; several outputs; works in place."
    def __init__(self, width=6):
        super().__init__()
        self.first, self.second = nn.Linear(192, 192), nn.Linear(192, 192)
        self.second.weight = self.first.weight
        self.norm, self.head = nn.BatchNorm1d(192), nn.Linear(192, width)
        self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)

    def forward(self, x):
        x.mul_(2.0)
        x = self.norm(self.second(self.first(x.flatten(1)))) * self.scale
        return {"features": x, "logits": self.head(x)}

class Sized(nn.Module):
    "Its shape is that of a file: equal code and arguments, other shapes."
    made = 0
    def __init__(self):
        super().__init__()
        Sized.made += 1
        self.head = nn.Linear(192, 3)
        self.more = nn.Linear(4, 2 + Sized.made % 3)

    def forward(self, x):
        return self.head(x.flatten(1))
"""


def separately(members, x, space="probabilities", classes=None, **more):
    return torch.stack([outputs(load(m, space=space, classes=classes, **more), x) for m in members], 1)


@pytest.mark.parametrize("factory", ["nets:Linear", "nets:Conv"])
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("more", [{}, {"output": "probabilities"}, {"precision": "float64"}])
def test_each_gives_what_it_gives_by_itself(tmp_path, factory, rows, more):
    members = equal_members(tmp_path, factory, more=more)
    x = torch.rand(rows, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    group, apart = stacked(members), separately(members, x)
    got = outputs(group, x)
    assert group.members == ("m0", "m1", "m2") and group.widened((4,)) == (3, 4)
    assert got.dtype == apart.dtype and got.shape == apart.shape == (rows, 3, 4)
    torch.testing.assert_close(got, apart, rtol=0, atol=1e-6)
    assert not torch.equal(got[:, 0], got[:, 1]), "each has its own weights"
    assert all(not numbers.requires_grad for numbers in group.state_dict().values())


def test_classes_are_brought_to_those_of_the_ensemble(tmp_path):
    members = equal_members(tmp_path, more={"classes": {"w": "cat", "x": "dog", "y": "cat", "z": "cow"}})
    x, classes = torch.rand(5, 3, 8, 8), ("cow", "cat", "dog")
    got = outputs(stacked(members, classes=classes), x)
    torch.testing.assert_close(got, separately(members, x, classes=classes), rtol=0, atol=1e-6)
    assert got.shape == (5, 3, 3)


def test_tied_weights_buffers_and_one_of_several_outputs(tmp_path, elsewhere, monkeypatch):
    (elsewhere / "group_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(elsewhere))
    members = equal_members(tmp_path, "group_nets:Tied", more={"select": "logits"})
    x = torch.rand(5, 3, 8, 8)
    before = x.clone()
    got = outputs(stacked(members, search_path=elsewhere), x)
    torch.testing.assert_close(got, separately(members, x, folder=elsewhere), rtol=0, atol=1e-6)
    held = [numbers.shape for numbers in stacked(members, search_path=elsewhere).state_dict().values()]
    assert held.count((3, 192, 192)) == 1, "what is tied is held once"
    assert torch.equal(x, before), "it works on rows of its own"


def test_other_shapes_are_no_group(tmp_path, elsewhere, monkeypatch):
    (elsewhere / "sized_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(elsewhere))
    members = equal_members(tmp_path, "sized_nets:Sized", count=3)
    with pytest.raises(RuntimeUnsuited, match=r"stacked: more.weight has other shapes or types, \(.*\) and \("):
        stacked(members, search_path=elsewhere)


def test_what_cannot_be_batched_says_so(tmp_path):
    group = stacked(equal_members(tmp_path, "nets:Recurrent"))
    with pytest.raises(RuntimeError, match="Batching rule not implemented"):
        outputs(group, torch.rand(3, 3, 8, 8))
