"""Results of an earlier hpcens: each verb of today on each of them works, or says in one line what to write.

    python tests/drills/earlier.py CHECKOUT         # a checkout of the earlier code

Prints a table: configuration × {verify, export, combine, the same command, resume, a member added}, with the exit code
and, where it is refused, the line. What the configuration is asked to say that it did not have to, the task, is added
before the last three. The exit code is how many ended neither done nor refused with a remedy, or in a traceback.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch

TODAY = Path(__file__).parents[2]

LAYERS = """
import torch

class Scaled(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2
"""
MODELS = """
import torch

def linear(inputs=48, outputs=3):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(inputs, outputs))

def scaled(inputs=48, outputs=3):
    from layers import Scaled
    return torch.nn.Sequential(torch.nn.Flatten(), Scaled(inputs, outputs))

class Spectral(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(48, dtype=torch.complex64))
    def forward(self, x):
        return (x.flatten(1) * self.w).abs()[:, :3]

def double():
    return linear().double()

def dense():
    return torch.nn.Conv2d(3, 4, 1)

"""
# configuration → (factory of its members, further keys of each, further keys of the run)
CONFIGURATIONS = {
    "logits of three classes": ("linear", "", ""),
    "probabilities, every dataset": (
        "linear",
        "",
        "output: {datasets: [prediction, members, variance, entropy, label]}",
    ),
    "values": ("linear", "output: values", ""),
    "a helper module": ("scaled", "", ""),
    "scale 0.00392": ("linear", "preprocess: [{scale: 0.00392}]", ""),
    "resize": ("linear", "preprocess: [{resize: [4, 4]}]", ""),
    "classes on axis 1": ("dense", "", ""),
    "complex numbers": ("Spectral", "", ""),
    "float64": ("double", "", ""),
    "median": ("linear", "", "rule: median"),
    "masked rows": ("linear", "", "bad_rows: mask"),
}
VERBS = ("verify", "export", "combine", "the same", "resume", "added")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    earlier = parser.parse_args().checkout.resolve()
    faults = 0
    for name, (factory, keys, extra) in CONFIGURATIONS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            prepare(folder, factory, keys, extra, "ab")
            done = hpcens(earlier, folder, "run", "data.h5")
            print(f"\n{name}: {done.returncode} {last(done)}")
            if done.returncode:
                continue
            stated = extra
            for verb in VERBS:
                if verb == "the same" and "values" not in keys:
                    stated = f"{extra}\ntask: multiclass" + ("\nclass_axis: 1" if factory == "dense" else "")
                ended = tried(verb, earlier, folder, (factory, keys, extra), stated)
                words = ended.stdout + ended.stderr
                refused = ended.returncode in (1, 2, 78) and "→" in words
                fault = not (ended.returncode == 0 or refused) or "Traceback" in words
                faults += fault
                said = "" if ended.returncode == 0 else f"  {last(ended)}"
                print(f"  {verb:9} {ended.returncode:3}{'  FAULT' if fault else ''}{said}", flush=True)
    return faults


def tried(verb, earlier, folder, configuration, stated):
    """Do one thing. stated: further keys of the run that today's code is given."""
    factory, keys, extra = configuration
    if verb == "verify":
        return hpcens(TODAY, folder, "verify", "data.predictions.h5")
    if verb == "export":
        return hpcens(TODAY, folder, "export", "data.predictions.h5", "-o", "data.csv")
    if verb == "combine":
        return hpcens(TODAY, folder, "combine", "data.predictions.h5", "--rule", "median", "-o", "combined.h5")
    if verb == "resume":
        prepare(folder, factory, keys, extra, "ab")
        interrupt(earlier, folder)
    prepare(folder, factory, keys, stated, "abc" if verb == "added" else "ab")
    return hpcens(TODAY, folder, "run", "data.h5")


def interrupt(earlier, folder):
    """Let the earlier code score all anew, and stop it as soon as something is durable."""
    for path in [folder / "data.predictions.h5", *folder.glob("*.run")]:
        subprocess.run(["rm", "-rf", path], check=True)
    process = start(earlier, folder, "run", "data.h5")
    while process.poll() is None and not list(folder.glob("*.run/epochs/0001/journal*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)


def prepare(folder, factory, keys, extra, members):
    (folder / "models.py").write_text(MODELS)
    (folder / "layers.py").write_text(LAYERS)
    if not (folder / "data.h5").exists():
        with h5py.File(folder / "data.h5", "w") as file:
            file["x"] = np.random.default_rng(0).random((400, 3, 4, 4), np.float32)
    names = {}
    sys.path.insert(0, str(folder))
    exec(MODELS, names)
    lines = ["members:"]
    for seed, name in enumerate(members):
        torch.manual_seed(seed)
        torch.save(names[factory]().state_dict(), folder / f"{name}.pt")
        lines += [f"  - name: {name}", f"    factory: models:{factory}", f"    weights: {name}.pt"]
        lines += [f"    {keys}"] if keys else []
    sys.path.remove(str(folder))
    sys.modules.pop("layers", None)
    lines += ["devices: {cpu: 2}", "plan: {batch_sizes: [4], runtime: eager}", *([extra] if extra else [])]
    if "output:" not in extra:
        lines.append("output: {datasets: [prediction, members]}")
    (folder / "hpcens.yaml").write_text("\n".join(lines) + "\n")


def start(checkout, folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(checkout), "HPCENS_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "hpcens", *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def hpcens(checkout, folder, *arguments):
    process = start(checkout, folder, *arguments)
    out, error = process.communicate(timeout=200)
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def last(ended):
    """Return what is wrong and its remedy, in a line; or the last line."""
    lines = [line.strip() for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if line.startswith("hpcens:") and "warning" not in line), None)
    return " ".join(lines[-1:] if first is None else lines[first : first + 3])[:400]


if __name__ == "__main__":
    sys.exit(main())
