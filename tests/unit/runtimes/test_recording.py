"""Recordings: an instance that gives other bits than when it was measured is noticed, other values are refused."""

import sys
from functools import partial

import numpy as np
import pytest
import torch
from support.engines import Cpu, Cuda, forward
from support.project import ENSEMBLE
from torch import nn

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.errors import MemberError
from hpcens.members import member_digests
from hpcens.runtimes import host, recording
from hpcens.runtimes.recording import Recording, record, recording_of, repeat
from hpcens.specs import MemberSpec, RunSpec
from hpcens.vocabulary import Instance

ROWS = np.random.default_rng(2).random((12, 5), np.float32)
MEMBER = MemberSpec(name="a", factory="x:y", output="values")


class Net(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.factor = nn.Linear(5, 3), factor

    def forward(self, x):
        return self.layer(x) * self.factor


def hosted(factor=1.0):
    engine = Engine(CpuHardware(1))
    engine.host("a", forward(Net(factor).eval(), names=("x",)), batch=4)
    return engine


@pytest.fixture
def path(tmp_path):
    path = recording_of(tmp_path / "prepared" / "member", 4)
    record(hosted(), MEMBER, ("x",), (ROWS,), path)
    return path


def again(path, factor=1.0, inputs=("x",), rows=(ROWS,)):
    repeat(hosted(factor), MEMBER, inputs, rows, path, tolerance=1e-4)


def test_the_same_bits_are_nothing_to_say(path, capfd):
    again(path)
    assert capfd.readouterr().err == "" and len(Recording.load(path).values) == 8


def test_other_bits_are_said_and_other_values_refused(path, capfd):
    again(path, 1 + 2e-7)
    assert "member a gives other bits than when it was measured" in capfd.readouterr().err
    with pytest.raises(MemberError, match="does not give what it gave when it was measured"):
        again(path, 1.01)


def test_another_driver_of_gpus_is_named_where_bits_differ(tmp_path, monkeypatch, capfd):
    def on_a_card(factor=1.0):
        engine = Engine(Cuda().hardware)
        engine.host("a", forward(Net(factor).eval(), names=("x",)), batch=4)
        return engine

    path = recording_of(tmp_path / "member", 4)
    monkeypatch.setattr(recording, "driver", lambda: "570.1")
    record(on_a_card(), MEMBER, ("x",), (ROWS,), path)
    assert Recording.load(path).driver == "570.1"
    monkeypatch.setattr(recording, "driver", lambda: "575.2")
    repeat(on_a_card(), MEMBER, ("x",), (ROWS,), path, tolerance=1e-4)
    assert capfd.readouterr().err == "", "the same bits"
    repeat(on_a_card(1 + 2e-7), MEMBER, ("x",), (ROWS,), path, tolerance=1e-4)
    assert "another library or processor computes (driver 570.1 then, 575.2 now)" in capfd.readouterr().err
    with pytest.raises(MemberError) as caught:
        repeat(on_a_card(1.1), MEMBER, ("x",), (ROWS,), path, tolerance=1e-4)
    assert "find what changed (driver 570.1 then, 575.2 now): a library" in caught.value.remedy


def test_a_damaged_recording_is_made_anew(path, capfd):
    content = bytearray(path.read_bytes())
    values = Recording.load(path).values
    content[content.find(values.tobytes()) + 2] ^= 0x40
    path.write_bytes(content)
    assert Recording.load(path) is None
    again(path)
    assert np.array_equal(Recording.load(path).values, values) and capfd.readouterr().err == ""


def test_it_says_nothing_of_a_dataset_whose_inputs_have_other_names(path, capfd):
    again(path, 2.0, inputs=("y",))
    assert capfd.readouterr().err == "" and Recording.load(path).inputs == ("x",)


def test_rows_that_are_too_large_or_bad_are_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("hpcens.runtimes.recording._BYTES", 19)
    record(hosted(), MEMBER, ("x",), (ROWS,), tmp_path / "a.npz")
    monkeypatch.undo()
    record(hosted(), MEMBER, ("x",), (ROWS[:, :2],), tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runtime", ["eager", "frozen"])
def test_every_instance_repeats_it_when_it_is_loaded(tmp_path, monkeypatch, capfd, runtime):
    """Here of a factory that draws numbers without a seed, other ones in each process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "drawing.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer, self.drawn = torch.nn.Linear(5, 3), torch.rand(3)\n"
        "    def forward(self, x):\n"
        "        return self.layer(x) * self.drawn\n"
    )
    torch.save(nn.Linear(5, 3).state_dict(), tmp_path / "layer.pt")
    state = {f"layer.{name}": value for name, value in torch.load(tmp_path / "layer.pt").items()}
    torch.save(state, tmp_path / "layer.pt")
    member = MemberSpec(name="a", factory="drawing:Net", weights=tmp_path / "layer.pt", output="values")
    load = partial(
        host,
        instances=[Instance("here/cpu0", "a", 4, runtime, 1.0, 1.0)],
        spec=RunSpec(members=(member,), search_path=tmp_path),
        inputs=("x",),
        space="values",
        digests={"a": member_digests(member, tmp_path)},
        cores=1,
        rows=(ROWS,),
    )
    torch.manual_seed(0)
    load(Engine(CpuHardware(1)), package=lambda *_: tmp_path / "kept" / "a")
    load(Engine(CpuHardware(1)), package=lambda *_: tmp_path / "kept" / "a") if runtime == "frozen" else None
    for path in (tmp_path / "kept").glob("*.json"):
        path.unlink()
    torch.manual_seed(1)
    with pytest.raises(MemberError, match="without a seed"):
        load(Engine(CpuHardware(1)), package=lambda *_: tmp_path / "kept" / "a")
    sys.modules.pop("drawing", None)


def test_on_a_gpu_each_member_is_run_once_alone_before_anything_is_staged(weights, tmp_path):
    """Algorithms are chosen by the memory that is free: by what was staged already, the bits of a member hung."""
    linear, conv = (
        MemberSpec(name=name, factory=f"nets:{name.title()}", weights=weights / f"{name}.safetensors", output="values")
        for name in ("linear", "conv")
    )
    seen = []
    for device in (Cuda(), Cpu()):
        spec = RunSpec(members=(linear, conv), search_path=ENSEMBLE)
        engine = Engine(device.hardware)
        run = engine.run
        engine.run = lambda name, rows, run=run: (seen.append((name, len(rows[0]))), run(name, rows))[1]
        host(
            engine,
            [Instance("d", member.name, batch, "eager", 1.0, 1.0) for member, batch in ((linear, 4), (conv, 16))],
            spec=spec,
            inputs=("images",),
            space="values",
            digests={member.name: member_digests(member, ENSEMBLE) for member in spec.members},
            cores=1,
            rows=(np.zeros((9, 3, 8, 8), np.float32),),
            package=lambda member, runtime, group: tmp_path / member.name,
        )
    assert seen == [("linear", 4), ("conv", 16)], "and none on a CPU"
