"""What a member adds to a process is weighed without what the first of all brings along."""

import pytest
from support.engines import net

import hpcens.profiling.loading
from hpcens.profiling.loading import Contexts, load_and_weigh

PACKAGES = 7 << 20
OWN = sum(parameter.nbytes for parameter in net().state_dict().values())


class Hardware:
    """Its memory is what is written down by those who load."""

    name = "CPU"

    def __init__(self):
        self.kept, self.held = 50 << 20, 0

    def release(self):
        pass

    def resident(self):
        return self.kept + self.held


class Hosting:
    def __init__(self):
        self.hardware, self.hosted = Hardware(), []

    def host(self, name, forward, *, batch):
        self.hosted.append((name, batch))

    def clear(self):
        self.hardware.held = 0


@pytest.fixture
def process():
    """Returns a process and what loads a network in it: the first time its packages are imported."""
    engine, loads = Hosting(), []

    def make(growing=0):
        if not loads:
            engine.hardware.kept += PACKAGES
        engine.hardware.held = OWN + growing
        loads.append(growing)
        return net()

    return engine, loads, make


def test_the_first_of_a_process_weighs_as_much_as_the_next(process):
    engine, loads, make = process
    first = load_and_weigh(engine, make, "a", 4, packaged=False, contexts=Contexts())
    assert (first.weights, first.context) == (OWN, (50 << 20) + PACKAGES) and len(loads) == 2
    engine.clear()
    assert load_and_weigh(engine, make, "b", 4, packaged=False, contexts=Contexts()).weights == OWN and len(loads) == 3
    assert engine.hosted == [("a", 4), ("a", 4), ("b", 4)]


def test_what_a_member_keeps_each_time_is_its_own(process):
    engine, _, make = process
    assert (
        load_and_weigh(engine, lambda: make(PACKAGES), "a", 4, packaged=False, contexts=Contexts()).weights
        == OWN + PACKAGES
    )


def test_a_long_load_is_not_repeated_and_a_package_is_loaded_as_runs_find_it(process, monkeypatch):
    engine, loads, make = process
    monkeypatch.setattr(hpcens.profiling.loading, "_QUICK", 0.0)
    assert (
        load_and_weigh(engine, make, "a", 4, packaged=False, contexts=Contexts()).weights == OWN + PACKAGES
        and len(loads) == 1
    )
    engine.clear()
    assert load_and_weigh(engine, make, "a", 4, packaged=True, contexts=Contexts()).weights == OWN and len(loads) == 3


def test_what_torch_keeps_of_members_before_is_no_context_of_the_next(process):
    """The last of several members fitted no device that had room for each."""
    engine, loads, make = process
    contexts, found = Contexts(), []
    for name in "abc":
        loaded = load_and_weigh(engine, make, name, 4, packaged=False, contexts=contexts)
        engine.clear()
        engine.hardware.kept += 36 << 20  # its trace
        found.append((loaded.weights, loaded.context))
    assert found == [(OWN, (50 << 20) + PACKAGES)] * 3
    loads.clear()  # the next has packages of its own
    loaded = load_and_weigh(engine, make, "d", 4, packaged=False, contexts=contexts)
    assert (loaded.weights, loaded.context) == (OWN, (50 << 20) + 2 * PACKAGES)
    engine.hardware.name = "a GPU"
    assert load_and_weigh(engine, make, "e", 4, packaged=False, contexts=contexts).context > 150 << 20


def test_one_that_does_not_fit_is_none(process):
    engine, _, _ = process
    loaded = load_and_weigh(engine, lambda: None, "a", 4, packaged=False, contexts=Contexts())
    assert loaded.forward is None and loaded.context == 50 << 20 and not engine.hosted
