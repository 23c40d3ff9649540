"""Equal members as one batched network on a card: how many times as fast as one after another, and the same bytes."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hpcens.members import load
from hpcens.profiling.group_bench import measure_group
from hpcens.specs import MemberSpec, RunSpec
from hpcens.vocabulary import Device, Measurement, ProfileKey, cpu_devices

DRY = os.environ.get("HPCENS_GPU_TESTS") == "cpu"
NETS = """
from torch import nn

def mlp(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, 10))
"""
KIND = "cpu here" if DRY else "cuda here"


def tell(**figures):
    """Add figures to those of the validation."""
    if (file := os.environ.get("HPCENS_VALIDATION")) is not None:
        with Path(file).open("a") as lines:
            lines.write(json.dumps(figures) + "\n")


@pytest.mark.parametrize(("count", "width"), [(8, 512), (100, 64)] if not DRY else [(3, 8)])
def test_equal_networks_as_one(count, width, tmp_path, monkeypatch):
    module = f"card_nets_{count}"
    (tmp_path / f"{module}.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = __import__(module)
    members = []
    for i in range(count):
        torch.manual_seed(i)
        save_file(made.mlp(width).state_dict(), tmp_path / f"{i}.safetensors")
        factory = {"factory": f"{module}:mlp", "arguments": {"width": width}}
        members.append(MemberSpec(name=f"m{i}", weights=tmp_path / f"{i}.safetensors", output="values", **factory))
    spec = RunSpec(members=tuple(members), search_path=tmp_path)
    [device] = cpu_devices("here", "here", count=1, cores=1, memory=1 << 30)
    device = device if DRY else Device("here/cuda0", "cuda", KIND, 8 << 30, 1, 0, "here")
    keys = {"stacked": ProfileKey(KIND, "digest", "stacked", "row", "torch")}
    sizes = (8, 16) if DRY else (32, 256, 2048)
    asked = replace(
        Measurement(replace(members[0], name="as one"), keys, sizes, 3.0, 10**9, 1e-4, True), members=tuple(members)
    )
    rows = (np.random.default_rng(0).random((64, 3, 8, 8), np.float32),)
    found = dict(spec=spec, inputs=("images",), device=device, space="values", rows=rows, cache=tmp_path)
    [(_, profile)] = measure_group(asked, **found)
    times = {batch: (of.rows_per_second, of.times) for batch, of in profile.batches.items()}
    tell(equal=count, width=width, times=times, apart=profile.difference, refused=profile.refused)
    assert profile.batches and not profile.refused, profile.refused
    assert profile.same_bits and profile.difference < 1e-4 and profile.output_shape == (10,)
    assert load(members[0], spec, inputs=("images",), space="values").members == ()
