"""Memory of a card as it is planned from profiles, beside what the card itself counts when members run on it."""

import weakref

import numpy as np
import pytest
import torch
from support.engines import HERE
from support.fake_cuda import FakeCuda
from support.profiles import KEY
from support.project import ENSEMBLE

import hpcens.profiling.bench
import hpcens.profiling.timing
from hpcens.allocation.model import Choice, device_memory
from hpcens.allocation.problem import Problem
from hpcens.allocation.segment_size import SEGMENTS_HELD
from hpcens.engine.cuda import CudaHardware
from hpcens.engine.discovery import as_devices
from hpcens.engine.engine import Engine
from hpcens.engine.gpus import Gpu
from hpcens.members import load
from hpcens.profiling.bench import measure
from hpcens.specs import RunSpec
from hpcens.vocabulary import Device, Measurement, Predict

MIB = 1 << 20
ROWS = np.random.default_rng(0).random((64, 3, 8, 8), np.float32)
# Of three members: bytes of weights, and of activations.
WEIGHTS, ACTIVATIONS = (300 * MIB, 120 * MIB, 200 * MIB), (90 * MIB, 210 * MIB, 30 * MIB)


class Hungry(torch.nn.Module):
    """Takes memory of the card: of the allocator while it computes, and `raw` beside it, for as long as it lives."""

    def __init__(self, module, api, weights, activations, raw):
        super().__init__()
        self.module, self._api, self._activations = module, api, activations
        if raw:
            api.raw += weights
            weakref.finalize(self, api.free_raw, weights)
        else:
            api._take(weights)
            weakref.finalize(self, api._take, -weights)
        self.lowest = None

    def forward(self, x):
        self._api._take(self._activations)
        self.lowest = min(self._api.mem_get_info()[0], self.lowest or 1 << 60)
        try:
            return self.module(x)
        finally:
            self._api._take(-self._activations)


def hungry(member, api, number, raw):
    made = load(member, RunSpec(members=(member,), search_path=ENSEMBLE), inputs=("images",), space="probabilities")
    made.passes.module = Hungry(made.passes.module, api, WEIGHTS[number], ACTIVATIONS[number], raw)
    return made


@pytest.mark.parametrize(("raw", "others"), [(False, 3 << 30), (True, 0)], ids=["allocator", "beside it"])
def test_planned_is_never_below_and_within_a_twentieth(raw, others, member, tmp_path, monkeypatch):
    """In eager the allocator has it all; a compiled package's weights, and recorded graphs, lie beside it."""
    api, profiles = FakeCuda(), {}
    api.others = others
    hardware = CudaHardware(HERE, api, api.pin, free_before=api.total - others)
    monkeypatch.setattr(hpcens.profiling.bench, "open_hardware", lambda _: hardware)
    monkeypatch.setattr(hpcens.profiling.timing, "precise", lambda speeds: True)
    spec = RunSpec(members=(member,), search_path=ENSEMBLE)
    device = Device("h/cuda0", "cuda", "cuda A100", 8 << 30)
    for number in range(3):
        monkeypatch.setattr(hpcens.profiling.bench, "load", lambda *of, n=number, **more: hungry(member, api, n, raw))
        asked = Measurement(member, {"eager": KEY}, (8, 16), 60.0, rows=100, tolerance=1e-4, thorough=False)
        of = dict(spec=spec, inputs=("images",), device=device, space="probabilities", cache=tmp_path)
        [(_, profiles[device.kind, f"m{number}", "eager"])] = measure(asked, rows=(ROWS[:8],), **of)
    names = tuple(f"m{number}" for number in range(3))
    sizes = dict(row_bytes=ROWS[0].nbytes, output_bytes=16, held=SEGMENTS_HELD * ROWS.nbytes)
    problem = Problem(devices=(device,), members=names, profiles=profiles, **sizes)
    planned = device_memory(problem, device.kind, names, dict.fromkeys(names, Choice(16, "eager")))
    engine = Engine(hardware)
    members = [hungry(member, api, number, raw) for number in range(3)]
    for name, made in zip(names, members, strict=True):
        engine.host(name, made, batch=16)
    tasks = [Predict(segment, names, (ROWS,)) for segment in range(4)]
    for task in tasks:
        engine.stage(task)
    for task in tasks:
        list(engine.predict(task))
    real = api.total - others - min(made.passes.module.lowest for made in members)
    assert real <= planned <= 1.05 * real


def test_a_card_or_slice_that_others_use_counts_for_what_is_free():
    found = [Gpu("0", "GPU-a", "A100", 40 << 30, 10 << 30), Gpu("1:0", "MIG-b", "A100 MIG 1g.5gb", 4864 * MIB, 4 << 30)]
    found += [Gpu("1:1", "MIG-c", "A100 MIG 1g.5gb", 4864 * MIB, 4 << 30)]
    devices = as_devices(found, "h")
    assert [0.93 * gpu.free < device.memory <= 0.95 * gpu.free for gpu, device in zip(found, devices, strict=True)]
    assert devices[1].kind == devices[2].kind and devices[1].memory == devices[2].memory
