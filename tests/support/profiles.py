"""Profiles of the small ensemble, measured here."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import hpcens.profiling.bench
from hpcens.profiling.bench import measure
from hpcens.specs import RunSpec
from hpcens.vocabulary import Measurement, ProfileKey, cpu_devices
from support.fake_cuda import Limited
from support.project import ENSEMBLE


def profile(member, batch_sizes=(4, 8), seconds=0.2):
    """The member in eager."""
    [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
    asked = Measurement(member, {"eager": KEY}, batch_sizes, seconds, rows=100, tolerance=1e-4, thorough=False)
    with TemporaryDirectory() as cache:
        [(_, got)] = measure(
            asked,
            spec=RunSpec(members=(member,), search_path=ENSEMBLE),
            inputs=("images",),
            device=device,
            space="probabilities",
            rows=(np.zeros((3, 3, 8, 8), np.float32),),
            cache=Path(cache),
        )
    return got


def profile_within(monkeypatch, member, device, fits, batch_sizes):
    """A profile on a device on which a pass of more than `fits` rows runs out."""
    load = hpcens.profiling.bench.load

    def limited(*of, **options):
        made = load(*of, **options)
        made.passes.module = Limited(made.passes.module, fits, device.exhaust)
        return made

    monkeypatch.setattr(hpcens.profiling.bench, "open_hardware", lambda _: device.hardware)
    monkeypatch.setattr(hpcens.profiling.bench, "load", limited)
    monkeypatch.setattr(hpcens.profiling.bench, "_WORTH_GOING_ON", 0.0)
    return profile(member, batch_sizes)


ROWS = np.random.default_rng(1).random((24, 3, 8, 8), np.float32)
KEY = ProfileKey("cpu×1 model", "digest", "eager", "<f4[3, 8, 8]", "2.13")


def keys(*runtimes):
    return {runtime: ProfileKey("cpu×1 model", "digest", runtime, "<f4[3, 8, 8]", "2.13") for runtime in runtimes}


def profiles(member, folder, *runtimes, rows=10**9, seconds=0.5, thorough=False, tolerance=1e-4, others=()):
    [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
    asked = Measurement(member, keys(*runtimes), (4, 8), seconds, rows, tolerance, thorough)
    spec = RunSpec(members=(member,), search_path=ENSEMBLE)
    of = {"inputs": ("images",), "device": device, "space": "probabilities", "rows": (ROWS,), "others": others}
    found = measure(asked, spec=spec, cache=folder, **of)
    return {key.runtime: profile for key, profile in found}
