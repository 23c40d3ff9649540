"""Layouts × dtypes × member sources × rules, run for real and held against plain float64.

PYTHONPATH=tests python tests/drills/matrix.py [--quick]
    a line a run, then the largest differences; exits 1 on any above 2e-6

Each (layout, dtype) is a run with a member from every source and its members stored; every other rule combines them
again. The reference is the same networks in double precision and the rules written out in numpy.
"""

import argparse
import itertools
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import torch
from safetensors.torch import save_file
from support.member_files import as_onnx, exported, scripted
from support.project import ENSEMBLE, MEMBERS, Project

sys.path.insert(0, str(ENSEMBLE))

import nets

ROWS = 97
LIMIT = 2e-6
DTYPES = ["<f4", ">f4", "<f2", "<f8", "|u1", ">i4", "<i2", "|b1"]
LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (7, 3, 8, 8)},
    "tiles": {"chunks": (10, 2, 5, 8)},
    "gzip": {"chunks": (13, 3, 8, 8), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (13, 3, 8, 8), "compression": "lzf"},
    "blosc-zstd": {"chunks": (13, 3, 8, 8), **hdf5plugin.Blosc(cname="zstd")},
    "lz4": {"chunks": (13, 3, 8, 8), **hdf5plugin.LZ4()},
    "bitshuffle": {"chunks": (13, 3, 8, 8), **hdf5plugin.Bitshuffle()},
    "compound": None,
    "external": None,
    "virtual": None,
    "two files": None,
}
YAML = """
members:
  - {{name: safetensors, factory: "nets:Linear", weights: linear.safetensors, preprocess: [{{scale: 0.01}}], weight: 1}}
  - {{name: script, torchscript: conv.script, preprocess: [{{scale: 0.01}}], weight: 2}}
  - {{name: exported, exported: conv.pt2, preprocess: [{{scale: 0.01}}], weight: 0.5}}
  - {{name: onnx, onnx: linear.onnx, preprocess: [{{scale: 0.01}}], weight: 3}}
  - {{name: recurrent, factory: "nets:Recurrent", weights: rnn.safetensors, preprocess: [{{scale: 0.01}}], weight: 1}}
dataset: {dataset}
rule: {rule}
devices: {{cpu: 2}}
task: multiclass
plan: {{batch_sizes: [16]}}
output: {{datasets: [prediction, members]}}
"""
WEIGHTS = np.array([1, 2, 0.5, 3, 1])
RULES = {
    "mean": lambda p: p.mean(0),
    "{name: weighted}": lambda p: np.average(p, 0, WEIGHTS),
    "geometric": lambda p: normalised(np.exp(np.log(p).mean(0))),
    "median": lambda p: np.median(p, 0),
    "{name: trimmed, trim: 0.2}": lambda p: np.sort(p, 0)[1:-1].mean(0),
    "min": lambda p: p.min(0),
    "max": lambda p: p.max(0),
    "vote": lambda p: np.eye(4)[p.argmax(2)].mean(0),
}


def normalised(p):
    return p / p.sum(1, keepdims=True)


def write(folder, layout, dtype, rows):
    """The dataset in this layout; (files, what the YAML says of it)."""
    path = folder / "dataset.h5"
    stored = rows.astype(dtype)
    if layout == "two files":
        for name, part in (("dataset.h5", stored[:40]), ("more.h5", stored[40:])):
            with h5py.File(folder / name, "w") as file:
                file["x"] = part
        return ["dataset.h5", "more.h5"], "x"
    with h5py.File(path, "w") as file:
        if layout == "compound":
            file["t"] = np.rec.fromarrays([stored, np.arange(ROWS)], [("x", dtype, (3, 8, 8)), ("n", "<i8")])
            return ["dataset.h5"], "{inputs: {x: {path: t, field: x}}}"
        if layout in ("external", "virtual"):
            with h5py.File(folder / "other.h5", "w") as other:
                other["y"] = stored
            if layout == "external":
                file["x"] = h5py.ExternalLink("other.h5", "/y")
            else:
                shape = h5py.VirtualLayout((ROWS, 3, 8, 8), dtype)
                shape[:] = h5py.VirtualSource("other.h5", "y", (ROWS, 3, 8, 8))
                file.create_virtual_dataset("x", shape)
        else:
            file.create_dataset("x", data=stored, **LAYOUTS[layout])
    return ["dataset.h5"], "x"


def references(rows, double):
    """Each member's probabilities in float64: (members, rows, 4)."""
    x = torch.from_numpy(rows.astype(np.float64)) * 0.01
    with torch.inference_mode():
        each = [torch.softmax(double[name](x), 1) for name in ("linear", "conv", "conv", "linear", "recurrent")]
    return torch.stack(each).numpy()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one dtype a layout")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    options = parser.parse_args()
    torch.manual_seed(7)
    made = {name: getattr(nets, factory)().eval() for name, factory in MEMBERS.items()}
    worst = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        project = Project(folder, folder, folder / "cache")
        (folder / "nets.py").write_text((ENSEMBLE / "nets.py").read_text())
        for name, net in made.items():
            save_file(net.state_dict(), folder / f"{'rnn' if name == 'recurrent' else name}.safetensors")
        x = torch.zeros(4, 3, 8, 8)
        scripted(made["conv"], folder / "conv.script", x)
        exported(made["conv"], folder / "conv.pt2", x)
        as_onnx(made["linear"], folder / "linear.onnx")
        double = {name: net.double() for name, net in made.items()}
        draw = np.random.default_rng(0)
        pairs = list(itertools.product(LAYOUTS, DTYPES))
        if options.quick:
            pairs = [(layout, DTYPES[i % len(DTYPES)]) for i, layout in enumerate(LAYOUTS)]
        pairs = [pair for pair in pairs if pair[0] in options.layouts]
        for layout, dtype in pairs:
            raw = draw.integers(0, 100, (ROWS, 3, 8, 8))
            rows = (raw % 2 if dtype == "|b1" else raw).astype(dtype)
            files, said = write(folder, layout, dtype, rows)
            exact = references(rows, double)
            off = {}
            for i, (rule, combined) in enumerate(RULES.items()):
                text = YAML.format(dataset=said, rule=rule)
                (folder / "hpcens.yaml").write_text(text if "weighted" in rule else without_weights(text))
                output = folder / "again.h5"
                output.unlink(missing_ok=True)
                shutil.rmtree(output.with_suffix(".run"), ignore_errors=True)
                if i == 0:
                    project.hpcens("run", *files)
                    [result] = folder.glob("*.predictions.h5")
                    output = result
                    with h5py.File(output) as file:
                        names = [str(name) for name in file.attrs["member_names"]]
                        for k, name in enumerate(names):
                            off[name] = float(np.abs(file[f"members/{name}"][:] - exact[k]).max())
                        stored = np.stack([file[f"members/{name}"][:] for name in names]).astype(np.float64)
                else:
                    project.hpcens("combine", result.name, "-c", "hpcens.yaml", "-o", "again.h5")
                with h5py.File(output) as file:
                    of = exact if rule != "vote" else stored
                    off[rule] = float(np.abs(file["prediction"][:] - combined(of)).max())
            assert "sound" in project.hpcens("verify", result.name)
            for run in folder.glob("*.run"):
                shutil.rmtree(run)
            result.unlink()
            worst = {key: max(value, worst.get(key, 0.0)) for key, value in off.items()}
            print(f"{layout:11} {dtype}: largest difference {max(off.values()):.1e}", flush=True)
    print(f"{len(pairs)} runs × {len(RULES)} rules; largest differences from float64:")
    for key, value in worst.items():
        print(f"  {key:28} {value:.1e}")
    return int(max(worst.values()) > LIMIT)


def without_weights(text):
    return "\n".join(line.partition(", weight:")[0] + "}" * (", weight:" in line) for line in text.split("\n"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
