"""Combinations: a key beside each other key and each verb works, or is refused by name.

To add a key: give it a line in KEYS, what turns the base configuration into one that has it; and rows in ROWS. A row
says what comes of a key with another key, or with a verb of VERBS: WORKS, or a pattern of what refuses it. What works
is scored, in one process (`support.one_process`), and for a verb compared with an undisturbed run byte for byte.
"""

import json
import re
import sys
from contextlib import closing

import h5py
import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from support.calibrations import written
from support.one_process import run, run_in_blocks

from hpcens.combining import Recombination, require_same_members
from hpcens.config import load
from hpcens.errors import FingerprintMismatch, HpcensError
from hpcens.result import calibrated_of, fingerprint_of
from hpcens.result.export import export
from hpcens.result.finished import Finished
from hpcens.result.verify import verify

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape=(4,), seed=0, inputs=108):
        super().__init__()
        torch.manual_seed(seed)
        self.shape = tuple(shape)
        self.head = nn.Linear(inputs, torch.Size(shape).numel())

    def forward(self, x):
        return self.head(torch.nan_to_num(x.flatten(1))).unflatten(1, self.shape)

class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(x.flatten(1))

class Forces(Net):
    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(super().forward(x).tanh().sum(), x)
        return slope.flatten(1)[:, :4]

class Dropping(Net):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return super().forward(self.drop(x))

class Alone(Net):
    def forward(self, x):
        return super().forward(x).squeeze()

class Squared(nn.Module):
    def forward(self, x):
        return {"same": torch.nan_to_num(x), "squared": torch.nan_to_num(x.flatten(1) ** 2)}

def halved(x):
    return x / 2

class Averaged(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        return x.mean(1) * self.scale

def rolled(x):
    return x.roll(1, -1)

def rolled_back(x):
    return x.roll(-1, -1)

def middle(stack, names):
    return stack.mean(0)
"""
BASE = {
    "members": [
        {"name": "a", "factory": "combined_models:Net", "weights": "a.pt", "arguments": {"seed": 1}},
        {"name": "b", "factory": "combined_models:Net", "weights": "b.pt", "arguments": {"seed": 2}},
    ],
    "task": "multiclass",
    "dataset": {"input": "images"},
    "output": {"datasets": ["prediction", "label", "members", "variance", "entropy"]},
}
ROLLED = {"call": "combined_models:rolled", "undo": "combined_models:rolled_back"}
# Of each key what is merged into BASE: a mapping under `members` goes into each of them, a list into one each.
KEYS = {
    "bad_rows: mask": {"bad_rows": "mask"},
    "columns": {"dataset": {"columns": ["ids"]}},
    "select": {"dataset": {"select": {"start": 3, "stop": 17}}},
    "compression": {"output": {"compression": "gzip"}},
    "dtype: uint8": {"output": {"dtype": "uint8"}},
    "dtype: float16": {"output": {"dtype": "float16"}},
    "top-K": {"output": {"datasets": ["prediction", "label", "members", "top-2"]}},
    "rule: vote": {"rule": {"name": "vote"}},
    "rule: geometric": {"rule": {"name": "geometric"}},
    "rule: median": {"rule": {"name": "median"}},
    "rule: weighted": {"rule": {"name": "weighted"}, "members": {"weight": 0.5}},
    "rule: m:f": {"rule": {"name": "combined_models:middle"}},
    "averaged stack": {"rule": {"name": "stack", "factory": "combined_models:Averaged", "weights": "stack.pt"}},
    "space: logits": {"rule": {"space": "logits"}},
    "output: values": {
        "task": "regression",
        "members": {"output": "values"},
        "output": {"datasets": ["prediction", "members", "variance"]},
    },
    "classes": {"classes": ["ant", "bee", "cat", "dog"]},
    "member classes": {"classes": ["x", "y"], "members": {"classes": {"ant": "y", "bee": "x", "cat": "y", "dog": "y"}}},
    "preprocess": {"members": {"preprocess": [{"call": "combined_models:halved"}]}},
    "class_axis": {"class_axis": 1, "members": {"arguments": {"shape": [4, 5]}}},
    "member class_axis": {
        "class_axis": 1,
        "members": [
            {"arguments": {"seed": 1, "shape": [4, 5]}},
            {"class_axis": 2, "arguments": {"seed": 2, "shape": [5, 4]}},
        ],
    },
    "classes decide": {"classes": ["ant", "bee", "cat", "dog"], "members": {"arguments": {"shape": [5, 4, 3]}}},
    "task: binary": {"task": "binary", "members": {"arguments": {"shape": [1]}}},
    "task: multilabel": {"task": "multilabel"},
    "normalize": {"rule": {"name": "median", "normalize": True}},
    "resize": {"members": {"preprocess": [{"resize": {"size": 6, "mode": "bicubic", "antialias": True}}]}},
    "scale: 1/255": {"members": {"preprocess": [{"scale": "1/255"}]}},
    "bad_rows: pass": {"members": {"bad_rows": "pass"}},
    "gradients": {"members": {"factory": "combined_models:Forces", "gradients": True}},
    "passes": {"members": {"factory": "combined_models:Dropping", "passes": 5}},
    "passes of one": {"members": [{"factory": "combined_models:Dropping", "passes": {"count": 5, "seed": 3}}, {}]},
    "uncertainties": {
        "output": {
            "datasets": [
                "prediction",
                "label",
                "members",
                "variance",
                "entropy",
                "expected_entropy",
                "mutual_information",
                "disagreement",
            ]
        }
    },
    "features": {
        "features": {"squares": {"factory": "combined_models:Squared", "preprocess": [{"scale": 0.5}]}},
        "members": {"features": "squares", "inputs": ["squared"]},
    },
    "features of one": {
        "features": {"squares": {"factory": "combined_models:Squared", "inputs": ["images"]}},
        "members": [{"features": "squares", "inputs": "same"}, {}],
    },
    "files": {"members": {"files": ["combined_models.py"]}},
    "trust": {"members": {"trust": ["pickle"]}},
    "runtime: frozen": {"plan": {"runtime": "frozen"}},
    "runtime: stacked": {"plan": {"runtime": "stacked"}, "members": {"arguments": {"seed": 1}}},
    "decode": {"dataset": {"input": None, "inputs": {"images": {"path": "images", "decode": True}}}},
    "fill": {"dataset": {"input": None, "inputs": {"images": {"path": "images", "decode": True, "fill": 0}}}},
    "axis": {"dataset": {"input": None, "inputs": {"images": {"path": "turned", "axis": 1}}}},
    "bytes": {"dataset": {"input": None, "inputs": {"images": {"path": "strings", "bytes": True}}}},
    "sparse": {"dataset": {"input": None, "inputs": {"images": {"path": "sparse"}}}},
    "length": {"dataset": {"input": None, "inputs": {"images": {"path": "ragged", "length": 108}}}},
    "lengths": {
        "dataset": {
            "input": None,
            "inputs": {"images": {"path": "ragged", "length": 108}, "n": {"path": "ragged", "lengths": True}},
        },
        "members": {"inputs": ["images"]},
    },
    "dataset.trust": {"dataset": {"trust": ["file_access"]}},
    "weights.key": {"members": {"weights": {"path": "a.pt", "key": "ema", "prefix": "net.", "ignore": ["loss.*"]}}},
    "weights: factory": {"members": {"factory": "combined_models:Net", "weights": "factory"}},
    "squeeze": {"members": {"factory": "combined_models:Alone"}},
    "precision: float64": {"members": {"precision": "float64"}},
    "precision: float32": {"members": {"precision": "float32"}},
    "precision: auto": {"members": {"precision": "auto"}},
    "precision: bfloat16": {"members": {"precision": "bfloat16"}},
    "precision: tf32": {"members": {"precision": "tf32"}, "devices": {"cpu": 1}},
    "tolerance of precisions": {"plan": {"precision_tolerance": 0.1}},
    "dtype: float64": {"output": {"dtype": "float64"}},
    "dtype: float32": {"output": {"dtype": "float32"}},
    "folder": {"output": {"folder": "elsewhere"}},
    "stack": {"rule": {"name": "stack", "factory": "combined_models:Stack", "weights": "stack.pt"}},
    "calibration": {
        "calibration": "calibration.json",
        "output": {"datasets": ["prediction", "label", "members", "variance", "entropy", "set"]},
    },
    "keep": {"classes": ["ant", "bee", "cat", "dog"], "output": {"keep": {"top": 6, "by": {"class": "bee"}}}},
    "keep above": {"output": {"keep": {"above": 1.3, "by": {"dataset": "entropy"}}}},
    "temperature": {"calibration": "calibration.json"},
    "intervals": {
        "task": "regression",
        "members": {"output": "values"},
        "calibration": "calibration.json",
        "output": {"datasets": ["prediction", "members", "interval"]},
    },
    "stack of float64": {
        "rule": {"name": "stack", "factory": "combined_models:Stack", "weights": "stack.pt", "precision": "float64"}
    },
    "runtime: openvino": {"plan": {"runtime": "openvino"}},
    "rows": {
        "dataset": {"route": {"fold": "fold"}},
        "members": [{"rows": {"fold": [0, 1, 2]}}, {"rows": {"fold": 1}}],
    },
    "views": {"members": {"views": ["identity", "rot90", {"call": "combined_models:rolled"}]}},
    "views of a map": {
        "class_axis": 1,
        "members": {
            "arguments": {"shape": [4, 6, 6]},
            "views": {"apply": ["identity", "hflip", ROLLED], "space": "logits"},
        },
    },
    "cascade": {"cascade": [{"members": ["b"], "accept": {"entropy": {"below": 1.3565}}}, {"members": ["a"]}]},
    "slurm": {"slurm": {"check_members": "job", "start_seconds": 60, "drain_seconds": 30, "time": "5"}},
    "container": {"slurm": {"python": "apptainer exec a.sif python3", "srun": {"overlap": True}}},
}
NEW = (
    "class_axis", "member class_axis", "classes decide", "task: binary", "task: multilabel", "output: values",
    "normalize", "resize", "bad_rows: pass",
)  # fmt: skip
OF_RESULTS = ("bad_rows: mask", "compression", "dtype: uint8", "top-K")
RULES = ("rule: vote", "rule: geometric", "rule: weighted", "rule: m:f", "averaged stack", "space: logits", "normalize")
KEPT = ("keep", "keep above")
CALIBRATED = ("calibration", "temperature", "intervals")
ALL_VERBS = ("resume", "combine", "adding a member", "phases", "several reducers", "masks", "export", "verify")
WORKS = ""
ROWS = [
    *((key, verb, WORKS) for key in NEW for verb in ALL_VERBS),
    *(("folder", verb, WORKS) for verb in ALL_VERBS),
    *(("runtime: stacked", verb, WORKS) for verb in (*ALL_VERBS, "blocks")),
    *(
        ("runtime: stacked", key, WORKS)
        for key in (
            *("bad_rows: mask", "select", "dtype: uint8", "rule: median", "rule: m:f", "space: logits", "preprocess"),
            *("classes", "member classes", "task: binary", "task: multilabel", "output: values", "bad_rows: pass"),
            *("precision: float64", "uncertainties", "calibration", "keep", "folder", "resize", "sparse", "files"),
        )
    ),
    *(
        ("runtime: stacked", key, f"members.0..{written}: is of a member that runs by itself, and plan.runtime is")
        for key, written in (("rows", "rows"), ("views", "views"), ("weights: factory", "weights"))
    ),
    ("runtime: stacked", "features", "members.0..features: is of a member that runs by itself, and plan.runtime is"),
    ("runtime: stacked", "precision: auto", "members.0..precision: is of a member that runs by itself, and plan.runt"),
    ("features", "precision: auto", WORKS),
    ("runtime: stacked", "cascade", "cascade: takes members one after another, and plan.runtime is stacked; write run"),
    ("runtime: stacked", "gradients", "members.0..gradients: cannot be taken under plan.runtime: stacked; write runt"),
    (
        "runtime: stacked",
        "passes",
        "members.0..passes: runs in eager alone, and plan.runtime is stacked; write runtime",
    ),
    *(("bad_rows: mask", verb, WORKS) for verb in ("resume", "combine", "adding a member", "phases")),
    *(("member classes", verb, WORKS) for verb in ("resume", "combine", "several reducers", "export", "verify")),
    *((key, verb, WORKS) for key in ("gradients", "files", "weights.key") for verb in ALL_VERBS),
    *(("weights: factory", verb, WORKS) for verb in ALL_VERBS),
    *(("weights: factory", key, WORKS) for key in ("bad_rows: pass", "preprocess", "files", "rule: m:f")),
    ("weights: factory", "trust", "members.0..trust: is for a file, and weights: factory names none; remove it"),
    *(("trust", verb, WORKS) for verb in ("resume", "combine", "adding a member")),
    *(("squeeze", verb, WORKS) for verb in ("resume", "several reducers", "masks")),
    *(("gradients", key, WORKS) for key in ("bad_rows: pass", "files", "preprocess", "output: values", "trust")),
    *(("passes", verb, WORKS) for verb in (*ALL_VERBS, "blocks")),
    *(("passes of one", verb, WORKS) for verb in (*ALL_VERBS, "blocks")),
    *(
        ("passes", key, WORKS)
        for key in (
            *("bad_rows: mask", "columns", "select", "compression", "dtype: uint8", "dtype: float16", "dtype: float64"),
            *("rule: vote", "rule: geometric", "rule: median", "rule: weighted", "rule: m:f", "stack", "normalize"),
            *("averaged stack", "stack of float64", "top-K", "classes", "member classes", "class_axis"),
            *("member class_axis", "classes decide", "task: binary", "task: multilabel", "uncertainties", "preprocess"),
            *("resize", "bad_rows: pass", "files", "trust", "weights.key", "decode", "fill", "axis", "sparse", "rows"),
            *("bytes", "lengths", "precision: float64", "folder", "calibration", "temperature", "keep", "keep above"),
            *("dataset.trust", "slurm"),
        )
    ),
    *((key, "passes", WORKS) for key in ("gradients", "weights: factory")),
    ("passes", "output: values", "members.0..passes: is for members that classify so far, and this one gives values"),
    ("passes", "intervals", "members.0..passes: is for members that classify so far, and this one gives values"),
    ("passes", "space: logits", "members.0..passes: have entropies of probabilities, and rule.space is logits"),
    ("passes", "runtime: frozen", "members.0..passes: runs in eager alone, and plan.runtime is frozen; write runtime"),
    ("passes", "runtime: openvino", "members.0..passes: runs in eager alone, and plan.runtime is openvino"),
    ("passes of one", "rows", WORKS),
    *((key, verb, WORKS) for key in ("features", "features of one") for verb in (*ALL_VERBS, "blocks")),
    *(
        ("features", key, WORKS)
        for key in (
            *("bad_rows: mask", "columns", "select", "compression", "dtype: uint8", "dtype: float16", "dtype: float64"),
            *("rule: vote", "rule: geometric", "rule: median", "rule: weighted", "rule: m:f", "stack", "normalize"),
            *("top-K", "classes", "member classes", "class_axis", "task: binary", "task: multilabel", "uncertainties"),
            *("output: values", "space: logits", "bad_rows: pass", "files", "trust", "weights.key", "weights: factory"),
            *("decode", "fill", "axis", "sparse", "bytes", "length", "rows", "cascade", "passes", "passes of one"),
            *("folder", "calibration", "temperature", "intervals", "keep", "keep above", "runtime: frozen"),
            *("runtime: openvino", "squeeze", "dataset.trust", "slurm"),
        )
    ),
    ("features", "preprocess", "members.0..preprocess: prepares the dataset's inputs, and features stands between"),
    ("features", "resize", "members.0..preprocess: .* write it under features.squares"),
    ("features", "gradients", "members.0..gradients: .* features are computed without autograd; remove it, or give"),
    ("features", "views", "members.0..views: are of what a row looks like, and features stands between the row and"),
    ("features", "precision: float64", "members.0..precision: is float64, and its features are computed in float32"),
    *(("files", key, WORKS) for key in ("bad_rows: pass", "preprocess", "rule: m:f", "trust")),
    *((key, verb, WORKS) for key in ("decode", "fill", "axis") for verb in ALL_VERBS),
    *((key, beside, WORKS) for key in ("decode", "fill") for beside in ("axis", "select", "bad_rows: pass", "resize")),
    *((key, verb, WORKS) for key in ("sparse", "length", "lengths") for verb in ALL_VERBS),
    *(("bytes", verb, WORKS) for verb in ALL_VERBS if verb != "masks"),  # they hold no NaN
    *(
        (key, beside, WORKS)
        for key in ("bytes", "sparse", "length", "lengths")
        for beside in ("columns", "select", "bad_rows: mask", "bad_rows: pass", "precision: float64", "scale: 1/255")
    ),
    *(("axis", beside, WORKS) for beside in ("columns", "select", "bad_rows: mask", "files", "gradients")),
    *((key, verb, WORKS) for key in ("precision: float64", "dtype: float64") for verb in ALL_VERBS),
    *(("stack of float64", verb, WORKS) for verb in ALL_VERBS if verb != "adding a member"),  # it takes two
    *(
        ("precision: float64", key, WORKS)
        for key in (
            *("resize", "scale: 1/255", "bad_rows: pass", "gradients", "files", "trust", "squeeze", "preprocess"),
            *("classes", "member classes", "output: values", "space: logits", "columns", "select", "compression"),
            *("rule: vote", "rule: geometric", "rule: median", "rule: weighted", "rule: m:f", "stack", "top-K"),
            *("dtype: float32", "dtype: float16", "dtype: uint8", "dtype: float64", "stack of float64"),
        )
    ),
    *(("dtype: float64", key, WORKS) for key in ("member classes", "stack", "stack of float64", "precision: float32")),
    (
        "precision: float64",
        "runtime: openvino",
        "members.0..precision: float64 cannot be computed by plan.runtime: open",
    ),
    *(("precision: auto", verb, WORKS) for verb in (*ALL_VERBS, "blocks")),
    *(
        ("precision: auto", key, WORKS)
        for key in (
            *("bad_rows: mask", "dtype: uint8", "dtype: float64", "output: values", "class_axis", "task: multilabel"),
            *("stack", "rule: m:f", "gradients", "views", "rows", "cascade", "keep", "runtime: frozen", "folder"),
            *("preprocess", "member classes", "tolerance of precisions", "runtime: openvino", "slurm"),
        )
    ),
    ("precision: auto", "passes", "members.0..precision: auto holds a member against itself in float32, in which pass"),
    ("precision: auto", "calibration", "members.0..precision: auto is chosen anew for each run, and calibration was"),
    *(
        ("precision: tf32", verb, "members.0..precision: tf32 is of GPUs, and devices.cpu")
        for verb in ("resume", "phases")
    ),
    *(("precision: bfloat16", verb, WORKS) for verb in ALL_VERBS),
    ("tolerance of precisions", "verify", "plan.precision_tolerance: is for members with precision: auto, and there"),
    ("stack of float64", "rule: vote", "precision: is for rule stack, but the rule is vote"),
    ("gradients", "runtime: frozen", "members.0..gradients: cannot be taken under plan.runtime: frozen; write runtime"),
    ("dtype: uint8", "combine", "only float32, of members of precision float64 only float64, is combined again"),
    ("rule: vote", "output: values", "vote counts classes"),
    *(("class_axis", key, WORKS) for key in (*OF_RESULTS, "task: multilabel", "classes", "member classes", *RULES)),
    ("class_axis", "output: values", "is the axis of classes, and the members give values"),
    ("class_axis", "task: binary", WORKS),
    *(("member class_axis", key, WORKS) for key in ("task: multilabel", "classes", "member classes", "rule: vote")),
    *(("classes decide", key, WORKS) for key in ("top-K", "rule: geometric", "dtype: uint8")),
    *(("task: binary", key, WORKS) for key in (*OF_RESULTS, *RULES)),
    ("task: binary", "classes", "task binary has two"),
    *(
        ("task: multilabel", key, WORKS)
        for key in ("dtype: uint8", "space: logits", "rule: m:f", "rule: median", "classes")
    ),
    ("task: multilabel", "rule: vote", "vote is for classes that exclude one another"),
    ("task: multilabel", "rule: geometric", "geometric is for classes that exclude one another"),
    ("task: multilabel", "top-K", "top-2 is chosen between classes that exclude one another"),
    ("task: multilabel", "member classes", "labels that do not exclude one another cannot be added"),
    ("task: multilabel", "normalize", "need not add up to 1"),
    *(("output: values", key, WORKS) for key in ("rule: median", "rule: m:f", "classes", "dtype: float16", "columns")),
    ("output: values", "top-K", "needs members that classify"),
    ("output: values", "dtype: uint8", "uint8 is for probabilities"),
    ("output: values", "normalize", "is for probabilities, and the rule combines values"),
    ("output: values", "space: logits", "cannot be combined as logits"),
    ("normalize", "rule: vote", "those of vote do"),
    ("normalize", "space: logits", "is for probabilities, and the rule combines logits"),
    ("normalize", "dtype: uint8", WORKS),
    ("normalize", "averaged stack", "those of stack do"),
    *(("precision: float64", key, WORKS) for key in ("class_axis", "task: binary", "task: multilabel", "normalize")),
    *(("gradients", key, WORKS) for key in ("class_axis", "task: multilabel")),
    ("resize", "preprocess", WORKS),
    *(("dataset.trust", verb, WORKS) for verb in ALL_VERBS),
    *(("dataset.trust", key, WORKS) for key in ("columns", "select", "decode", "axis", "trust", "files")),
    *(("rows", verb, WORKS) for verb in ALL_VERBS),
    *(
        ("rows", key, WORKS)
        for key in (
            *("bad_rows: mask", "columns", "select", "compression", "dtype: float16", "dtype: float64", "top-K"),
            *("rule: vote", "rule: geometric", "rule: median", "rule: weighted", "rule: m:f", "space: logits"),
            *("output: values", "classes", "member classes", "preprocess", "class_axis", "task: binary", "normalize"),
            *("task: multilabel", "bad_rows: pass", "gradients", "files", "trust", "decode", "fill", "axis", "squeeze"),
            *("precision: float64", "folder", "dataset.trust", "slurm"),
        )
    ),
    ("rows", "dtype: uint8", "output.dtype: uint8 has no NaN for the rows that a member does not score"),
    ("rows", "stack", "rule.name: stack is fed with all members"),
    *(("cascade", verb, WORKS) for verb in ALL_VERBS if verb != "adding a member"),
    ("cascade", "adding a member", 'cascade.0..members.0.: "b" is no member'),
    *(
        ("cascade", key, WORKS)
        for key in (
            *(
                "bad_rows: mask",
                "columns",
                "select",
                "compression",
                "dtype: float16",
                "dtype: float64",
                "top-K",
                "rows",
            ),
            *(
                "rule: vote",
                "rule: geometric",
                "rule: median",
                "rule: weighted",
                "rule: m:f",
                "space: logits",
                "classes",
            ),
            *("member classes", "preprocess", "class_axis", "task: binary", "task: multilabel", "normalize", "files"),
            *("precision: float64", "bad_rows: pass", "gradients", "calibration", "temperature", "keep", "keep above"),
            *("bytes", "sparse", "length", "slurm", "folder"),
        )
    ),
    ("cascade", "dtype: uint8", "output.dtype: uint8 has no NaN for the rows that a member does not score"),
    ("cascade", "stack", "rule.name: stack is fed with all members, and cascade leaves some out of a row"),
    ("cascade", "output: values", "cascade.0..accept.entropy: needs members that classify, and some give values"),
    *((key, verb, WORKS) for key in CALIBRATED for verb in ALL_VERBS if verb != "adding a member"),
    *((key, "adding a member", "members.b: .* then, absent now") for key in CALIBRATED),
    *(
        ("calibration", key, WORKS)
        for key in (
            *("bad_rows: mask", "columns", "select", "compression", "dtype: uint8", "dtype: float16", "dtype: float64"),
            *(
                "top-K",
                *RULES,
                "rule: median",
                "stack",
                "stack of float64",
                "classes",
                "member classes",
                "task: binary",
            ),
            *("class_axis", "member class_axis", "classes decide", "precision: float64", "bad_rows: pass"),
            *("task: binary", "gradients"),
            *("files", "weights.key", "weights: factory", "preprocess", "resize", "decode", "axis", "folder", "slurm"),
        )
    ),
    ("calibration", "output: values", "calibrated values have intervals, and none is asked for; add interval"),
    ("calibration", "task: multilabel", "set is chosen between classes that exclude one another"),
    *(("temperature", key, WORKS) for key in ("task: multilabel", "task: binary", "space: logits", "dtype: uint8")),
    *(("intervals", key, WORKS) for key in ("rule: median", "rule: m:f", "dtype: float16", "precision: float64")),
    ("intervals", "dtype: uint8", "uint8 is for probabilities"),
    *(("rows", key, WORKS) for key in ("bytes", "sparse", "length", "lengths", *CALIBRATED)),
    *((key, "blocks", WORKS) for key in ("rows", "bytes", "sparse", "lengths", *CALIBRATED)),
    *(("calibration", key, WORKS) for key in ("bytes", "sparse", "length", "lengths")),
    *(
        (key, "blocks", WORKS)
        for key in (
            *("bad_rows: mask", "columns", "select", "compression", "dtype: uint8", "top-K", "member classes", "stack"),
            *("class_axis", "precision: float64", "dtype: float64", "rule: vote", "files", "decode", "axis", "folder"),
        )
    ),
    *((key, v, WORKS) for key in KEPT for v in ("resume", "phases", "several reducers", "masks", "export", "verify")),
    *((key, "combine", "keeps .* of 22 rows, and combine needs all\n") for key in KEPT),
    *((key, "adding a member", "was made of something else:\n  members.b: absent then") for key in KEPT),
    *(
        ("keep", key, WORKS)
        for key in (
            *("bad_rows: mask", "columns", "select", "compression", "dtype: uint8", "dtype: float16", "dtype: float64"),
            *("rule: vote", "rule: geometric", "rule: weighted", "rule: m:f", "rule: median", "stack", "space: logits"),
            *("top-K", "task: multilabel", "precision: float64", "bad_rows: pass", "gradients", "calibration", "axis"),
            *("temperature", "files", "preprocess", "resize", "decode", "normalize", "slurm", "weights.key"),
            *("weights: factory", "folder", "squeeze"),
        )
    ),
    ("keep", "task: binary", "task binary has two"),
    ("keep", "member classes", "is none of the classes; correct it"),
    ("keep", "class_axis", r"output.keep: prediction has \[4, 5\] values a row"),
    ("keep above", "class_axis", r"output.keep: entropy has \[5\] values a row"),
    ("keep", "intervals", WORKS),
    ("keep above", "output: values", '"entropy" is not among output.datasets'),
    *(("keep above", key, WORKS) for key in ("columns", "compression", "temperature", "calibration", "bad_rows: mask")),
    *((key, verb, WORKS) for key in ("views", "views of a map") for verb in (*ALL_VERBS, "blocks")),
    *(
        ("views", key, WORKS)
        for key in (
            *("bad_rows: mask", "columns", "select", "compression", "dtype: uint8", "dtype: float16", "dtype: float64"),
            *("rule: vote", "rule: geometric", "rule: weighted", "rule: m:f", "rule: median", "stack", "space: logits"),
            *("top-K", "task: multilabel", "task: binary", "output: values", "classes", "member classes", "normalize"),
            *("precision: float64", "bad_rows: pass", "files", "trust", "weights.key", "weights: factory", "squeeze"),
            *("preprocess", "resize", "scale: 1/255", "decode", "fill", "axis", "rows", "calibration", "temperature"),
            *("keep", "keep above", "folder", "slurm", "dataset.trust"),
        )
    ),
    *(
        ("views of a map", key, WORKS)
        for key in (
            *(
                "bad_rows: mask",
                "dtype: uint8",
                "rule: median",
                "space: logits",
                "member classes",
                "precision: float64",
            ),
            *("rows", "task: multilabel"),
        )
    ),
    ("views of a map", "output: values", '"logits": the mean over views is taken of values'),
    ("views", "class_axis", r"views\[1\] \(rot90\): its output \(2, 4, 5\) is no map of rows of 6 × 6"),
    ("views", "classes decide", r"views\[1\] \(rot90\): its output .* is no map of rows"),
    ("views", "gradients", "members.0..views: would turn what is a derivative by the inputs"),
    ("views", "passes", "members.0..views: is not there together with passes"),
    *(("cascade", key, WORKS) for key in ("views", "passes")),
    *(
        ("views", key, r"views: of inputs \(2, 108\) none has rows of two axes, which could be turned")
        for key in ("bytes", "sparse", "length", "lengths")
    ),
    *((key, verb, WORKS) for key in ("slurm", "container") for verb in ("resume", "adding a member", "phases")),
]


class Bench:
    """A folder with a dataset and the configuration of one row of the table, and the verbs."""

    def __init__(self, folder):
        self.folder = folder
        self.config = folder / "run.yaml"
        self.dataset = folder / "data.h5"
        (folder / "combined_models.py").write_text(MODELS)
        with h5py.File(self.dataset, "w") as file:
            images = np.random.default_rng(0).random((22, 3, 6, 6), np.float32)
            for name, values in {"images": images, "turned": np.moveaxis(images, 0, 1)}.items():
                file[name] = values
                file[name].attrs.update(scale_factor=0.5, _FillValue=np.float32(-9))
            file["ids"] = np.arange(22)
            flat = images.reshape(22, -1)
            file["strings"] = (1 + 200 * flat).astype(np.uint8).view("S108")[:, 0]
            few = csr_matrix(flat * (flat > 0.7))
            for part in ("data", "indices", "indptr"):
                file[f"sparse/{part}"] = getattr(few, part)
            file["sparse"].attrs.update({"encoding-type": "csr_matrix", "shape": flat.shape})
            ragged = file.create_dataset("ragged", 22, h5py.vlen_dtype(np.float32))
            for row, values in enumerate(flat):
                ragged[row] = values[: 1 + 5 * row]
            file["fold"] = np.arange(22) * 7 % 3

    def configure(self, *keys):
        """Write the configuration, and weights for its members."""
        tree = BASE
        for key in keys:
            tree = merged(tree, KEYS[key])
        names = {}
        exec(MODELS, names)
        for member in tree["members"]:
            state = names["Net"](**member["arguments"]).state_dict()
            if isinstance(member["weights"], dict):
                inner = {f"net.{key}": value for key, value in state.items()} | {"loss.weight": torch.ones(2)}
                torch.save({"state": state, "ema": inner}, self.folder / member["weights"]["path"])
            elif member["weights"] != "factory":
                torch.save(state, self.folder / member["weights"])
        if "weights" in tree.get("rule", {}):
            stack = names[tree["rule"]["factory"].rpartition(":")[2]]
            torch.save(stack().state_dict(), self.folder / tree["rule"]["weights"])
        self.tree = tree
        if "calibration" in tree:
            self._calibrate(tree)
        self.config.write_text(json.dumps(tree))
        return self

    def _calibrate(self, tree):
        """Write a calibration that was fitted to these members under this rule."""
        bare = {key: value for key, value in tree.items() if key != "calibration"}
        names = [name for name in tree["output"]["datasets"] if name not in ("set", "interval")]
        self.config.write_text(json.dumps(bare | {"output": tree["output"] | {"datasets": names}}))
        self.score("bare")
        kind = {"regression": "values", "multilabel": "labels"}.get(tree["task"], "classes")
        fitted = {"kind": kind, "made_of": calibrated_of(fingerprint_of(self.folder / "bare.h5"))}
        fitted |= {"temperature": None} if kind == "values" else {}
        if kind == "values" or "set" in tree["output"]["datasets"]:
            fitted |= {"coverage": 0.9, "thresholds": (0.8,)}
        written(self.folder / tree["calibration"], **fitted)

    def score(self, name="whole", **options):
        output = self.folder / f"{name}.h5"
        scored = run(self.config, self.dataset, output, **options)
        self.output = output
        if output.exists():
            self._check_sums(output)
        return scored

    def _check_sums(self, output):
        """What says that it adds up to 1 over the classes does."""
        with h5py.File(output) as file:
            attributes, values = dict(file["prediction"].attrs), file["prediction"][()]
        if attributes.get("sums_to_one"):
            sums = (values * attributes.get("scale", 1)).sum(attributes["class_axis"])
            assert np.allclose(sums[np.isfinite(sums)], 1, atol=0.02 if "scale" in attributes else 1e-3)

    def same(self, name):
        """Hold a result against the undisturbed one, byte for byte."""
        self.score("undisturbed")
        assert content(self.folder / f"{name}.h5") == content(self.folder / "undisturbed.h5")


def merged(tree, change):
    result = dict(tree)
    for key, value in change.items():
        if key == "members":
            each = value if isinstance(value, list) else [value] * len(tree[key])
            result[key] = [merged(member, change) for member, change in zip(tree[key], each, strict=True)]
        elif isinstance(value, dict) and isinstance(tree.get(key), dict):
            result[key] = merged(tree[key], value)
        else:
            result[key] = value
    return result


def content(path):
    with h5py.File(path) as file:
        return {name: file[name][()].tobytes() for name in [*file.attrs["outputs"], "hpcens/checksums"]}


def resume(bench):
    bench.score(most=2)
    assert bench.score() == ("a", "b")
    bench.same("whole")


def combine(bench):
    """Stored members under the same rule give the very result."""
    bench.score()
    with closing(Finished(bench.folder / "whole.h5")) as source:
        spec = load(bench.config)
        require_same_members(source, spec)
        Recombination(source, spec, bench.folder / "again.h5").write()
    bench.same("again")


def adding(bench):
    """The second member is all that is scored; the result is that of both at once."""
    both = bench.tree
    bench.config.write_text(json.dumps(both | {"members": both["members"][:1]}))
    bench.score()
    bench.config.write_text(json.dumps(both))
    assert bench.score() == ("b",)
    bench.same("whole")


def phases(bench):
    bench.score(phases=(("b",), ("a",)))
    bench.same("whole")


def reducers(bench):
    bench.score(writers=3)
    bench.same("whole")


def masks(bench):
    """A row that holds NaN is masked, and spoils no other."""
    bench.score("clean")
    with h5py.File(bench.dataset, "r+") as file:
        file["images"][9, 0, 0, 0] = file["turned"][0, 9, 0, 0] = np.nan
        file["sparse/data"][file["sparse/indptr"][9]] = np.nan
        file["ragged"][9] = np.float32([0.5, np.nan])
    bench.score("masked")
    with h5py.File(bench.folder / "clean.h5") as clean, h5py.File(bench.folder / "masked.h5") as file:
        if "row_number" in file:  # what cannot be scored is not kept
            assert 9 not in file["row_number"][:] and file["valid"][:].all() and len(file["valid"])
            return
        places = np.flatnonzero(file["valid"][:] == 0)
        handled = bench.tree["members"][0].get("bad_rows") == "pass"
        assert len(places) == (0 if handled else 1)
        for name in file.attrs["outputs"]:
            values = file[name][()]
            blank = {"f": np.isnan, "i": lambda x: x == -1, "u": lambda x: x == 0}[values.dtype.kind]
            assert blank(values[places]).all(), name
            good = np.delete(np.arange(len(values)), [9] if handled else places)
            assert values[good].tobytes() == clean[name][()][good].tobytes(), name


def exported(bench):
    bench.score()
    with closing(Finished(bench.output)) as result:
        export(result, bench.folder / "out.npy", ["prediction"])
        export(result, bench.folder / "out.csv")
        export(result, bench.folder / "out.parquet")
        scale = result.output("prediction").attributes.get("scale", 1)
    with h5py.File(bench.output) as file:
        expected = file["prediction"][()] * np.float32(scale)
    assert np.array_equal(np.load(bench.folder / "out.npy"), expected, equal_nan=True)


def verified(bench):
    bench.score()
    assert verify(bench.output).faults == []


def in_blocks(bench):
    """Worlds that share the dataset give the very result of one."""
    assert run_in_blocks(bench.config, bench.dataset, bench.folder / "shared.h5").code == 0
    assert verify(bench.folder / "shared.h5").faults == []
    bench.same("shared")


VERBS = {
    "blocks": in_blocks,
    "resume": resume,
    "combine": combine,
    "adding a member": adding,
    "phases": phases,
    "several reducers": reducers,
    "masks": masks,
    "export": exported,
    "verify": verified,
}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.set_num_threads(1)
    yield Bench(tmp_path)
    sys.modules.pop("combined_models", None)


@pytest.mark.parametrize(("key", "beside", "outcome"), ROWS, ids=lambda part: part or "works")
def test_a_key_beside_another_and_with_each_verb_works_or_is_refused_by_name(bench, key, beside, outcome):
    def tried():
        if beside in VERBS:
            VERBS[beside](bench.configure(key, *(["bad_rows: mask"] if beside == "masks" else [])))
        else:
            bench.configure(key, beside).score()

    if outcome == WORKS:
        tried()
    else:
        with pytest.raises(HpcensError) as caught:
            tried()
        said = f"{caught.value} → {caught.value.remedy}"
        assert re.search(outcome, said), said


def test_a_member_is_added_under_a_calibration_of_both(bench):
    """What is stored of the first was never calibrated: it serves."""
    both = bench.configure("calibration").tree
    alone = {key: value for key, value in both.items() if key != "calibration"}
    datasets = {"datasets": ["prediction", "members"]}
    bench.config.write_text(json.dumps(alone | {"members": both["members"][:1], "output": datasets}))
    bench.score()
    bench.config.write_text(json.dumps(both))
    assert bench.score() == ("b",)
    bench.same("whole")


def test_a_calibration_of_other_members_is_refused_by_what_differs(bench):
    bench.configure("calibration")
    torch.save({key: value + 1 for key, value in torch.load(bench.folder / "a.pt").items()}, bench.folder / "a.pt")
    with pytest.raises(FingerprintMismatch, match=r"was fitted to something else:\n  members\.a\.weights: ") as caught:
        bench.score()
    assert caught.value.exit_code == 78 and "calibration: false" in caught.value.remedy
    bench.config.write_text(json.dumps(bench.tree | {"calibration": False, "output": {"datasets": ["prediction"]}}))
    bench.score()
    bench.config.write_text(json.dumps(bench.tree | {"calibration": False}))
    with pytest.raises(HpcensError, match="set comes of a calibration with coverage; name one: calibration:"):
        bench.score("none")
