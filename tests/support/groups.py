"""Equal members: of one factory and its arguments, with weights of their own."""

from importlib import import_module

import torch

from hpcens.members.stacked import load_stacked
from hpcens.specs import MemberSpec, RunSpec
from support.project import ENSEMBLE


def equal_members(folder, factory="nets:Conv", count=3, more=None, **arguments):
    """Members m0, m1, … with seeded weights in files of the folder. more: keys of the MemberSpec."""
    module, _, name = factory.partition(":")
    members = []
    for i in range(count):
        torch.manual_seed(i)
        torch.save(getattr(import_module(module), name)(**arguments).state_dict(), folder / f"m{i}.pt")
        made = {"name": f"m{i}", "factory": factory, "arguments": arguments, "weights": folder / f"m{i}.pt"}
        members.append(MemberSpec(**made, **more or {}))
    return tuple(members)


def stacked(members, space="probabilities", search_path=ENSEMBLE, **ensemble):
    spec = RunSpec(members=tuple(members), search_path=search_path, **ensemble)
    return load_stacked(members, spec, inputs=("images",), space=space)
