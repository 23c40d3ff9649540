"""Engines on both families of devices, and small networks to host."""

import numpy as np
import torch
from torch import nn

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.cuda import CudaHardware
from hpcens.engine.engine import Engine
from hpcens.members import input_places
from hpcens.members.conversion import Conversion
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.specs import MemberSpec, RunSpec
from support.fake_cuda import FakeCuda
from support.project import ENSEMBLE

HERE = torch.device("cpu")


class Cpu:
    """Memory runs out as torch has it: by asking for more than there is."""

    def __init__(self):
        self.hardware = CpuHardware(1)

    def exhaust(self):
        torch.empty(1 << 50)


class Cuda:
    def __init__(self, room=None, memory=None):
        self.api = FakeCuda(room)
        self.hardware = CudaHardware(
            HERE, self.api, self.api.pin, self.api.view, free_before=self.api.total, memory=memory
        )

    def exhaust(self):
        raise self.api.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


class Counting:
    """Hardware whose stagings are counted."""

    def __init__(self, hardware):
        self._hardware = hardware
        self.stagings = 0

    def __getattr__(self, name):
        return getattr(self._hardware, name)

    def stage(self, rows):
        self.stagings += 1
        return self._hardware.stage(rows)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()


def rows(count, dtype=np.float32, seed=0):
    return (np.random.default_rng(seed).random((count, 2, 4, 4)) * 9).astype(dtype)


def plainly(module, x, batch, *, softmax=False):
    """What the module gives without hpcens, as bytes."""
    with torch.inference_mode():
        out = torch.cat([module(torch.from_numpy(x[i : i + batch]).to(torch.float32)) for i in range(0, len(x), batch)])
        return (torch.softmax(out, -1) if softmax else out).numpy().tobytes()


def forward(module, name="a", names=("images",), space="values", ensemble=None, **spec):
    """The module as a member, from its preprocessing to its classes. ensemble: keys of the RunSpec."""
    member = MemberSpec(name=name, **{"output": "values"} | spec)
    places = input_places(member, names)
    prepared = Preprocessing(member, [names[place] for place in places], ENSEMBLE)
    conversion = Conversion(member, RunSpec(members=(member,), **ensemble or {}), space)
    return Forward(member, Network(module), prepared, inputs=places, conversion=conversion)


def hosting(device, batch=8, names=("images",), space="values", ensemble=None, spec=None, **modules):
    engine = Engine(device.hardware)
    for name, module in modules.items():
        engine.host(name, forward(module, name, names, space, ensemble, **spec or {}), batch=batch)
    return engine


def only(engine, task):
    [answer] = engine.predict(task)
    return answer


class Calls(nn.Module):
    """A module that is one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class CallsMany(Calls):
    """Of several inputs."""

    def forward(self, *x):
        return self.function(*x)


def refuse(x):
    raise KeyError("lost")
