"""What members share and what is their own are timed each by itself, on a clock that their modules move."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
from support.profiles import KEY

import hpcens.profiling.passes
import hpcens.profiling.timing
from hpcens.profiling.bench import measure
from hpcens.profiling.evening import evened
from hpcens.profiling.sizes import GrowthOfMember
from hpcens.specs import FeaturesSpec, MemberSpec, RunSpec, StepSpec, WeightsSpec
from hpcens.vocabulary import BatchProfile, Measurement, Profile, cpu_devices

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS = """
import torch
from torch import nn

now = [0.0]
late = []  # by how much one pass in three is late

class Features(nn.Module):
    def forward(self, x):
        now[0] += 9e-3 * len(x)
        return {"wide": x * 2}

def doubled(x):
    now[0] += 9e-3 * len(x)
    return x * 2

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        late.append(len(late) % 3 == 0)
        now[0] += 1e-3 * len(x) * (1 + late[-1])
        return self.head(x)
"""


@pytest.fixture
def clock(tmp_path, monkeypatch):
    (tmp_path / "shared_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    clock = SimpleNamespace(perf_counter=lambda: sys.modules["shared_models"].now[0])
    for module in (hpcens.profiling.timing, hpcens.profiling.passes):
        monkeypatch.setattr(module, "time", clock)
    yield tmp_path
    sys.modules.pop("shared_models", None)


FEATURED = {"features": "f", "featuriser": FeaturesSpec(factory="shared_models:Features", weights=WeightsSpec())}
PREPARED = {"preprocess": (StepSpec(call="shared_models:doubled"),)}


def measured(folder, sizes, shares):
    member = MemberSpec(name="a", factory="shared_models:Net", weights=WeightsSpec(), output="values", **shares)
    [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
    asked = Measurement(member, {"eager": KEY}, sizes, 60.0, rows=100, tolerance=1e-4, thorough=False)
    spec = RunSpec(members=(member,), search_path=folder)
    rows = (np.zeros((3, 5), np.float32),)
    with TemporaryDirectory() as cache:
        of = {"inputs": ("x",), "device": device, "space": "values", "rows": rows, "cache": Path(cache)}
        [(_, got)] = measure(asked, spec=spec, **of)
    return got


@pytest.mark.parametrize("shares", [FEATURED, PREPARED], ids=["features", "steps"])
def test_both_parts_are_timed_by_themselves(clock, shares):
    """Story: what was left of a member was the difference of two long times, and off by twice itself."""
    got = measured(clock, (1, 4, 8), shares)
    assert {size: batch.shared for size, batch in got.batches.items() if size > 1} == pytest.approx({4: 0.9, 8: 0.9})
    assert got.batches[1].shared == 0.0, "one row is prepared by each member for itself"


def test_sizes_are_tried_while_the_networks_gain():
    """Story: members of which eight shared 85 % were measured at other sizes each, and planned in the smallest."""
    growth = GrowthOfMember(None, patient=False)
    own = {8: 50e-6, 16: 40e-6, 32: 32e-6, 64: 26e-6, 128: 25.5e-6, 256: 25.4e-6}
    ends = []
    for size, seconds in own.items():
        shared = size * 10e-6  # more than the networks gain
        batch = BatchProfile(size, 1 / (shared + seconds), 0, 0.0, shared=shared / (shared + seconds))
        ends.append(growth.ends(batch, 0.85))
    assert ends == [False] * 5 + [True]


def test_what_members_share_takes_one_time_for_all():
    """Story: what one of eight shared was measured while the machine was loaded, and it alone was planned as slow."""

    def profile(shared, own):
        return {
            "eager": Profile(
                1, 1, 1.0, (1,), {8: BatchProfile(8, 1 / (shared + own), 1, 0.0, shared=shared / (shared + own))}
            )
        }

    found = evened(
        {"a": profile(9e-3, 1e-3), "b": profile(30e-3, 2e-3), "c": profile(8e-3, 5e-3), "d": profile(7e-3, 1e-3)},
        {"a": 1, "b": 1, "c": 1, "d": 2},
        {"a": "f", "b": "f", "c": "f", "d": ""},
    )
    batches = {member: of["eager"].batches[8] for member, of in found.items()}
    assert {m: b.shared / b.rows_per_second for m, b in batches.items()} == pytest.approx(
        {"a": 9e-3, "b": 9e-3, "c": 9e-3, "d": 7e-3}
    )
    assert {m: 1 / b.unshared for m, b in batches.items()} == pytest.approx(
        {"a": 2e-3, "b": 2e-3, "c": 2e-3, "d": 1e-3}
    )
