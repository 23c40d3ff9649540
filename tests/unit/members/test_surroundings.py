"""Surroundings: whatever a member changes of its process, its neighbours run as if it were not there."""

import os
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from support.engines import forward
from torch import nn

from hpcens import members
from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.errors import MemberError
from hpcens.members import surroundings
from hpcens.specs import MemberSpec, RunSpec

CHANGES = {
    "torch's default dtype": "torch.set_default_dtype(torch.float64)",
    "torch's default device": "torch.set_default_device('meta')",
    "torch's threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "torch's grad mode": "torch.set_grad_enabled(False)",
    "torch's determinism": "torch.use_deterministic_algorithms(True, warn_only=True)",
    "the precision of float32 products": "torch.set_float32_matmul_precision('medium')",
    "TF32 of cuDNN": "torch.backends.cudnn.allow_tf32 = not torch.backends.cudnn.allow_tf32",
    "cuDNN's benchmark": "torch.backends.cudnn.benchmark = True",
    "cuDNN's determinism": "torch.backends.cudnn.deterministic = True",
    "math attention": "torch.backends.cuda.enable_math_sdp(False)",
    "the working directory": "os.chdir('/')",
    "the environment": "os.environ['HPCENS_TESTED'] = os.environ.pop('HPCENS_THERE', 'x')",
    "the filters of warnings": "warnings.simplefilter('always', ImportWarning)",
}
CHANCE = {
    "torch": ("torch.manual_seed(11)", lambda: torch.initial_seed()),
    "numpy": ("numpy.random.seed(11)", lambda: np.random.get_state()[1].tobytes()),
    "Python": ("random.seed(11)", lambda: random.getstate()),
}
MODULE = """
import os, random, warnings
import numpy
import torch

def change():
    {change}

if {when!r} == "import":
    change()

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.zeros(1, dtype=torch.float32, device="cpu"))
        self.calls = 0
        if {when!r} == "build":
            change()
    def forward(self, x):
        self.calls += 1
        if {when!r} == "call" and self.calls == 1:
            change()
        return x * 2
"""


def state():
    read = surroundings._read(())
    return {name: value for name, value in read.items() if name not in _DRAWN}


_DRAWN = {"torch's generator", "the GPUs' generators", "numpy's generator", "Python's generator"}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a member that makes a change, and load it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(surroundings, "_LEFT_BY_CODE", {})
    monkeypatch.setenv("HPCENS_THERE", "there")
    torch.save({"weight": torch.ones(1)}, tmp_path / "weight.pt")
    names = []

    def load(change, when, name="changing"):
        names.append(name)
        (tmp_path / f"{name}.py").write_text(MODULE.format(change=change, when=when))
        member = MemberSpec(name=name, factory=f"{name}:Net", weights=tmp_path / "weight.pt", output="values")
        spec = RunSpec(members=(member,), search_path=tmp_path)
        return members.load(member, spec, inputs=("x",), space="values")

    yield load
    for name in names:
        sys.modules.pop(name, None)


def run(*hosted):
    engine = Engine(CpuHardware(torch.get_num_threads()))
    for i, each in enumerate(hosted):
        engine.host(str(i), each, batch=4)
    rows = [torch.arange(6.0).reshape(3, 2)]
    return [engine.run(str(i), rows)[0] for i in range(len(hosted))]


@pytest.mark.parametrize("when", ["import", "build", "call"])
@pytest.mark.parametrize("part", CHANGES)
def test_what_a_member_changes_is_put_back_and_said_once(load, capfd, part, when):
    before = state()
    assert before.keys() >= CHANGES.keys()
    member = load(CHANGES[part], when)
    run(member), run(member)
    assert state() == before
    said = capfd.readouterr().err
    quiet = part == "the filters of warnings"
    quiet = quiet or (part == "torch's grad mode" and when == "call")  # there is none to change: in inference mode
    assert said.count("member changing changes") == (0 if quiet else 1)
    assert quiet or (part in said and part in member.surroundings.changed)
    # torch rules TF32 by that precision too
    alone = "precision" not in part and "determinism" not in part
    assert not alone or len(member.surroundings.changed) == (not quiet)


def test_nothing_is_said_of_a_member_that_changes_nothing(load, capfd):
    member = load("pass", "call")
    run(member)
    assert capfd.readouterr().err == "" and member.surroundings.changed == ()


class Sees(nn.Module):
    """What a neighbour would see."""

    seen = None

    def forward(self, x):
        Sees.seen = (
            torch.get_default_dtype(),
            torch.zeros(1).device.type,
            os.getcwd(),
            os.environ.get("HPCENS_TESTED"),
        )
        return x


def test_its_neighbours_see_nothing_of_it_and_it_sees_what_it_has_set(load):
    sets = "torch.set_default_dtype(torch.float64); os.environ['HPCENS_TESTED'] = 'x'; os.chdir('/')"
    member = load(sets, "import")
    sys.modules["changing"].Net.forward = lambda self, x: x * 0 + torch.ones(1).element_size() + len(os.getcwd())
    neighbour = forward(Sees())
    for _ in range(2):
        own, _ = run(member, neighbour)
        assert (own == 8 + 1).all(), "float64, in /"
        assert Sees.seen == (torch.float32, "cpu", os.getcwd(), None)


def test_a_second_instance_finds_what_the_import_has_set(load, tmp_path):
    """Its module is imported already, and will not set it again."""
    load("torch.set_default_dtype(torch.float64)", "import")
    again = load("pass", "import")
    sys.modules["changing"].Net.forward = lambda self, x: x * 0 + torch.ones(1).element_size()
    assert (run(again)[0] == 8).all() and torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("kind", CHANCE)
def test_chance_is_each_members_own(load, capfd, kind):
    """Who seeds a generator, or draws from it, changes nothing that others draw; and its own draws go on."""
    change, read = CHANCE[kind]
    before = read()
    for when in ("import", "build", "call"):
        member = load(change, when, name=f"seeds_{when}")
        run(member)
        assert read() == before, when
    drawn = load("pass", "build", name="draws")
    draw = {"torch": "torch.rand(1)", "numpy": "float(numpy.random.rand())", "Python": "random.random()"}[kind]
    module = sys.modules["draws"]
    module.Net.forward = lambda self, x: x * 0 + eval(draw, vars(module))
    first, second = run(drawn, drawn)
    assert not np.array_equal(first, second), "or chance would not be found"
    assert read() == before and capfd.readouterr().err == ""


def test_a_member_that_raises_leaves_nothing_behind(load):
    before = state()
    with pytest.raises(Exception, match="too bad"):
        load("torch.set_default_dtype(torch.float64); raise ValueError('too bad')", "build")
    assert state() == before


def test_a_working_directory_that_is_gone_is_no_matter(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    [values] = run(forward(nn.Identity()))
    assert values.shape == (3, 2)


def test_filters_of_warnings_are_the_members_own(load):
    member = load("warnings.simplefilter('always', ImportWarning)", "import")
    own = ("always", None, ImportWarning, None, 0)
    assert own in member.surroundings.own["the filters of warnings"] and own not in warnings.filters


class Generators:
    """Stand-ins for the generators of two GPUs: a seed, and how much was drawn."""

    def __init__(self, monkeypatch, opened):
        self.opened, self.states = opened, [[torch.initial_seed() % 251, 0] for _ in range(2)]
        for name, call in {
            "is_initialized": lambda: self.opened,
            "get_rng_state_all": self.read,
            "set_rng_state_all": self.write,
            "manual_seed_all": self.seed,
        }.items():
            monkeypatch.setattr(torch.cuda, name, call)

    def read(self):
        assert self.opened, "to ask opens the GPUs"
        return [torch.tensor(state, dtype=torch.uint8) for state in self.states]

    def write(self, states):
        assert self.opened
        self.states = [state.tolist() for state in states]

    def seed(self, seed):
        if self.opened:  # torch keeps it for later else
            self.states = [[seed % 251, 0] for _ in range(2)]

    def draw(self):
        self.opened = True
        self.states[0][1] += 1
        return float(self.states[0][1])


@pytest.mark.parametrize("opened", [True, False])
def test_chance_on_gpus_is_each_members_own_and_opens_none(load, monkeypatch, capfd, opened):
    gpus = Generators(monkeypatch, opened)
    fresh = [list(state) for state in gpus.states]
    monkeypatch.setattr(torch, "gpus_of_the_test", gpus, raising=False)
    for when in ("import", "build", "call"):
        run(load("pass", when, name=f"quiet_{when}"))
    assert gpus.opened == opened and gpus.states == fresh
    for when in ("import", "build", "call"):
        run(load("torch.cuda.manual_seed_all(11); torch.gpus_of_the_test.draw()", when, name=f"draws_{when}"))
        assert gpus.states == fresh, when
    drawn = load("pass", "build", name="draws")
    sys.modules["draws"].Net.forward = lambda self, x: x * 0 + gpus.draw()
    assert [float(values.max()) for values in run(drawn, drawn)] == [1, 2], "or chance would not be found"
    assert gpus.states == fresh and capfd.readouterr().err == ""


def flags():
    return [surroundings._PARTS[name].read() for name in surroundings._TF32]


@pytest.fixture
def settled(monkeypatch):
    """As `engine.cuda.settle` leaves it."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("disturbed", [False, True])
def test_tf32_is_on_for_who_computes_in_it_and_for_nobody_else(settled, capfd, disturbed):
    """Whatever its code sets: the YAML says so, and the numerics."""
    seen, before = [], flags()

    class Sees(nn.Module):
        def __init__(self, disturbing):
            super().__init__()
            self.disturbing = disturbing

        def forward(self, x):
            seen.append(flags())
            if self.disturbing:
                torch.backends.cudnn.allow_tf32 = False
            return x.flatten(1)

    narrow, plain = forward(Sees(disturbed), "narrow", precision="tf32"), forward(Sees(False), "plain")
    narrow.surroundings = surroundings.surroundings_of(MemberSpec(name="narrow", factory="a:b", precision="tf32"))
    for _ in range(2):
        assert [x.dtype for x in run(narrow, plain, narrow)] == [np.float32] * 3
    assert seen == [[True, True, "high"], before, [True, True, "high"]] * 2
    assert before == [False, False, "highest"] == flags()
    assert capfd.readouterr().err == ""


def test_a_torch_that_does_not_take_tf32_is_told(settled, monkeypatch):
    part = surroundings._PARTS["TF32 of cuDNN"]
    deaf = {"TF32 of cuDNN": surroundings._Part(part.read, lambda value: None)}
    monkeypatch.setattr(surroundings, "_ALL", {**surroundings._ALL, **deaf})
    member = surroundings.surroundings_of(MemberSpec(name="narrow", factory="a:b", precision="tf32"))
    with pytest.raises(MemberError, match=r"member narrow: torch .* does not take TF32 of cuDNN"), member.around():
        pass


def test_what_takes_long_to_read_is_looked_at_seldom_unless_the_member_has_changed_that(monkeypatch):
    """Story: all of it was read around each batch of a member whose factory drew weights: a tenth of a small one."""
    read = dict.fromkeys(("the environment", "torch's generator"), 0)
    for name in read:
        part = surroundings._ALL[name]

        def counted(name=name, part=part):
            read[name] += 1
            return part.read()

        monkeypatch.setitem(surroundings._ALL, name, surroundings._Part(counted, part.write))
    before = torch.get_rng_state()
    own = surroundings.Surroundings("drawing")
    drawn = []
    for _ in range(surroundings._FIRST_CALLS + 15):
        with own.around():
            drawn.append(float(torch.rand(1)))
        assert torch.get_rng_state().equal(before)
    assert len({*drawn}) == len(drawn), "its generator goes on from where it was"
    assert read["torch's generator"] == 2 * len(drawn) and read["the environment"] == 2 * surroundings._FIRST_CALLS
