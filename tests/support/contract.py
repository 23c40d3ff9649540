"""Members that break their contract, each in its own way, and what holding them to it gives."""

import pytest

from hpcens.checks.member_trial import ROWS, try_member
from hpcens.checks.members import check_members
from hpcens.checks.preflight import check
from hpcens.checks.trials import TrialBook
from hpcens.config import load
from hpcens.dataset.source import Source
from hpcens.engine.cpu import CpuHardware
from hpcens.errors import HpcensError
from hpcens.specs import Job

CODE = """
import os, sys, threading, time
import torch
from torch import nn
from nets import Linear, Conv

class Gives(Linear):
    function = staticmethod(lambda x: x)
    def forward(self, x):
        return self.function(super().forward(x))

def giving(function):
    return type("Given", (Gives,), {"function": staticmethod(function)})

Probabilities = giving(lambda x: torch.softmax(x, -1))
Twice = giving(lambda x: torch.softmax(torch.softmax(x, -1), -1))
Positive = giving(lambda x: x.abs() + 3)
NotNumbers = giving(lambda x: torch.softmax(x, -1) * float("nan"))
Sigmoids = giving(torch.sigmoid)
Single = giving(lambda x: torch.softmax(x, -1)[:, 0])
Large = giving(lambda x: x[:, 0].abs() + 3)
Pair = giving(lambda x: (x, x))
Squeezed = giving(lambda x: x.squeeze())
Complex = giving(lambda x: x.to(torch.complex64))
Double = giving(lambda x: x.double())
Tokens = type("Tokens", (Linear,), {"forward": lambda self, x: nn.functional.embedding(x, self.head.weight.T)})

def exits():
    exit(7)

def exits_hard():
    print("farewell")
    sys.stdout.flush()
    os._exit(9)

def crashes():
    os.kill(os.getpid(), 11)

def hangs():
    print("waiting for you", flush=True)
    threading.Event().wait()

def noisy():
    print("{}"); print("noise " * 1000); os.write(1, b"[]"); os.write(2, b"more")
    return Linear()

def leaks():
    threading.Thread(target=threading.Event().wait).start()
    return Linear()

class Images(Linear):
    def forward(self, x):
        if x.shape[1] != 3:
            raise RuntimeError(f"expected 3 channels, got {x.shape[1]}")
        return super().forward(x)

def raises():
    raise RuntimeError("no such luck")

def a_tensor():
    return torch.zeros(3)

def gone(x):
    return x[:1]

def bad_row(x):
    raise ValueError("row is bad")
"""


class Held:
    """Members of one YAML, and what holding them to their contract gives."""

    def __init__(self, project):
        self.project = project
        self.book = TrialBook(project.folder / "trials")
        (project.folder / "own.py").write_text(CODE)

    def yaml(self, *members, extra=""):
        """A member is an attribute of own.py, or keys of the YAML."""
        task = [] if "task:" in extra or any("output: values" in member for member in members) else ["task: multiclass"]
        lines = ["devices: {cpu: 1}", *task, extra, "members:"]
        for i, member in enumerate(members):
            keys = member if ":" in member else f"factory: own:{member}"
            lines.append(f"  - {{name: m{i}, weights: {self.project.weights}/linear.safetensors, {keys}}}")
        (self.project.folder / "hpcens.yaml").write_text("\n".join(lines))
        spec = load(self.project.folder / "hpcens.yaml")
        self.job = Job(datasets=(self.project.dataset,), output=self.project.output, spec=spec)
        return self

    def hold(self, seconds=60.0):
        return check_members(self.job, check(self.job), self.book, seconds)

    def refused(self, kind=HpcensError, **options):
        with pytest.raises(kind) as caught:
            self.hold(**options)
        assert caught.value.remedy
        return str(caught.value)

    def tried(self, member, **options):
        """The trial of one member, in this process."""
        spec = self.yaml(member, **options).job.spec
        preflight = check(self.job)
        rows = Source((self.project.dataset,), spec.dataset).head(ROWS)
        return try_member(
            spec.members[0],
            spec,
            inputs=preflight.facts.names,
            space=preflight.space,
            cores=1,
            hardware=CpuHardware(1),
            rows=rows,
        )
