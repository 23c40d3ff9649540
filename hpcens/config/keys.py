"""The keys a user may write: an example of each, and the limits its type does not say."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

from hpcens.config.document import Place
from hpcens.config.words import TIME, is_command, is_import_path, is_name, is_output, is_permutation, is_rule, is_view
from hpcens.specs import (
    BadRows,
    CastName,
    CheckMembers,
    CompressionName,
    DatasetTrust,
    Decode,
    DtypeName,
    MemberBadRows,
    OutputDtype,
    OutputName,
    PlannerName,
    Precision,
    ResizeMode,
    RuleName,
    RuntimeName,
    Space,
    Task,
    Trust,
    ViewName,
)


class Key(NamedTuple):
    """A key a user may write: an example of it, and where its type admits more than is allowed, the limit.

    choices  the words it may be; where others are possible as well, `holds` knows them and `otherwise` says so
    """

    example: str
    holds: Callable[[Any], bool] = lambda value: True
    otherwise: str = ""
    choices: tuple[str, ...] = ()


def _count(example: str) -> Key:
    return Key(example, lambda n: n >= 1, "must be 1 or more")


def _amount(example: str) -> Key:
    return Key(example, lambda n: 0 < n < math.inf, "must be above 0 and finite")


def _filled(example: str) -> Key:
    return Key(example, lambda v: len(v) > 0, "must not be empty")


def _height_and_width(example: str) -> Key:
    return Key(example, lambda size: len(size) == 2, "must be height and width")


def _axis(example: str) -> Key:
    return Key(example, lambda axis: 0 < abs(axis) < 64, "must be an axis, rows being 0: 1 or more, or -1 for the last")


def _choice(literal: object) -> Key:
    return Key(get_args(literal)[0], choices=get_args(literal))


_MEMBER = "{name: small, factory: models:build, weights: small.safetensors}"
_FEATURES = "{factory: models:Features, inputs: [species, positions]}"
_NODES = "{nodes: 16, kind: NVIDIA A100-SXM4-40GB, devices: 4, memory: 40GiB}"
_KEYS: dict[str, Key] = {
    "members": Key(f"[{_MEMBER}]", lambda members: len(members) > 0, "needs at least one member"),
    "members[]": Key(_MEMBER),
    "members[].name": Key("resnet50", is_name, 'must be 1 to 100 printable characters, no "/", not "." or ".."'),
    "members[].factory": Key("models.resnet:build", is_import_path, "must be an import path package.module:callable"),
    "members[].arguments": Key("{depth: 50}"),
    "members[].weights": Key("weights/resnet50.safetensors"),
    "members[].weights.path": _filled("last.ckpt"),
    "members[].weights.key": _filled("state_dict"),
    "members[].weights.prefix": _filled("model."),
    "members[].weights.ignore": _filled('["loss.*"]'),
    "members[].weights.ignore[]": _filled("loss.*"),
    "members[].torchscript": _filled("resnet50.pt"),
    "members[].exported": _filled("resnet50.pt2"),
    "members[].onnx": _filled("resnet50.onnx"),
    "members[].pickled": _filled("resnet50.pt"),
    "members[].trust": _filled("[pickle]"),
    "members[].trust[]": _choice(Trust),
    "members[].files": _filled("[scaler.npz]"),
    "members[].files[]": _filled("scaler.npz"),
    "members[].gradients": Key("true"),
    "members[].passes": Key("20"),
    "members[].passes.count": Key("20", lambda n: n >= 2, "must be 2 or more: the output is the mean over passes"),
    "members[].passes.seed": Key("0", lambda n: n >= 0, "must be 0 or more"),
    "members[].features": _filled("aev"),
    "members[].inputs": _filled("[images]"),
    "members[].inputs[]": _filled("images"),
    "members[].preprocess": Key("[{scale: 1/255}]"),
    "members[].preprocess[]": Key("{scale: 1/255}"),
    "members[].preprocess[].input": _filled("images"),
    "members[].preprocess[].cast": _choice(CastName),
    "members[].preprocess[].scale": Key("1/255", lambda by: by != 0 and math.isfinite(by), "must be finite, not 0"),
    "members[].preprocess[].normalize": Key("{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"),
    "members[].preprocess[].normalize.mean": _filled("[0.485, 0.456, 0.406]"),
    "members[].preprocess[].normalize.mean[]": Key("0.485", math.isfinite, "must be finite"),
    "members[].preprocess[].normalize.std": _filled("[0.229, 0.224, 0.225]"),
    "members[].preprocess[].normalize.std[]": _amount("0.229"),
    "members[].preprocess[].resize": Key("{size: 256, mode: bicubic, antialias: true}"),
    "members[].preprocess[].resize.size": Key(
        "256", lambda size: len(size) in (1, 2), "must be height and width, or one number for the shorter side"
    ),
    "members[].preprocess[].resize.size[]": _count("256"),
    "members[].preprocess[].resize.mode": _choice(ResizeMode),
    "members[].preprocess[].resize.antialias": Key("true"),
    "members[].preprocess[].crop": _height_and_width("[224, 224]"),
    "members[].preprocess[].crop[]": _count("224"),
    "members[].preprocess[].layout": Key("NHWC->NCHW", is_permutation, "must be one letter an axis, before and after"),
    "members[].preprocess[].call": Key(
        "models:prepare", is_import_path, "must be an import path package.module:callable"
    ),
    "members[].precision": _choice(Precision),
    "members[].select": _filled("logits"),
    "members[].output": _choice(Space),
    "members[].class_axis": _axis("1"),
    "members[].classes": _filled("[cat, dog]"),
    "members[].weight": Key("0.5", lambda weight: 0 <= weight < math.inf, "must be 0 or more and finite"),
    "members[].bad_rows": _choice(MemberBadRows),
    "members[].views": Key("[identity, hflip]"),
    "members[].views.apply": _filled("[identity, hflip]"),
    "members[].views.apply[]": Key("hflip"),
    "members[].views.apply[].call": Key("hflip", is_view, "or package.module:function", get_args(ViewName)),
    "members[].views.apply[].undo": Key(
        "models:shifted_back", is_import_path, "must be an import path package.module:callable"
    ),
    "members[].views.space": _choice(Space),
    "members[].views.keep": Key("false"),
    "members[].rows": _filled("{fold: 3}"),
    "members[].rows{}": Key("3"),
    "features": _filled(f"{{aev: {_FEATURES}}}"),
    "features{}": Key(_FEATURES),
    "dataset": Key("images"),
    "dataset.input": _filled("data/images"),
    "dataset.inputs": _filled("{images: data/images, ages: {path: table, field: age}}"),
    "dataset.inputs{}": Key("data/images"),
    "dataset.inputs{}.path": _filled("table"),
    "dataset.inputs{}.field": _filled("age"),
    "dataset.inputs{}.axis": Key("1", lambda axis: -32 <= axis < 32, "must be the number of an axis, from 0"),
    "dataset.inputs{}.decode": _choice(Decode),
    "dataset.inputs{}.fill": Key("0", math.isfinite, "must be finite"),
    "dataset.inputs{}.bytes": Key("true"),
    "dataset.inputs{}.length": _count("128"),
    "dataset.inputs{}.lengths": Key("true"),
    "dataset.select": Key("{start: 0, stop: 1000}"),
    "dataset.select.start": Key("0", lambda n: n >= 0, "must be 0 or more"),
    "dataset.select.stop": _count("1000"),
    "dataset.select.path": _filled("data/mask"),
    "dataset.columns": _filled("[ids, names]"),
    "dataset.columns[]": _filled("ids"),
    "dataset.route": _filled("{fold: data/fold}"),
    "dataset.route{}": _filled("data/fold"),
    "dataset.trust": _filled("[file_access]"),
    "dataset.trust[]": _choice(DatasetTrust),
    "classes": Key("[cat, dog]", lambda classes: len(classes) >= 2, "needs at least 2 classes"),
    "classes[]": Key("cat"),
    "class_axis": _axis("1"),
    "task": _choice(Task),
    "rule": Key("mean"),
    "rule.name": Key("mean", is_rule, "or package.module:function", get_args(RuleName)),
    "rule.space": _choice(Space),
    "rule.trim": Key("0.2", lambda share: 0 < share < 0.5, "must be above 0 and below 0.5"),
    "rule.factory": Key("models:Stacker", is_import_path, "must be an import path package.module:callable"),
    "rule.arguments": Key("{hidden: 16}"),
    "rule.weights": _filled("weights/stacker.safetensors"),
    "rule.output": _choice(Space),
    "rule.precision": _choice(OutputDtype),
    "rule.normalize": Key("true"),
    "calibration": Key("calibration.json"),
    "calibration.path": _filled("calibration.json"),
    "cascade": _filled("[{members: [a, b], accept: {entropy: {below: 0.1}}}, {members: [c, d]}]"),
    "cascade[]": Key("{members: [a, b], accept: {entropy: {below: 0.1}}}"),
    "cascade[].members": _filled("[a, b]"),
    "cascade[].members[]": Key("a"),
    "cascade[].accept": Key("{entropy: {below: 0.1}}"),
    "cascade[].accept{}": Key("{below: 0.1}"),
    "cascade[].accept{}.below": Key("0.1"),
    "cascade[].accept{}.above": Key("0.9"),
    "devices": Key("{cuda: all}"),
    "devices.cpu": Key("2"),
    "devices.cpu.count": _count("2"),
    "devices.cpu.cores": _count("4"),
    "devices.cpu.memory": _amount("4GiB"),
    "devices.cuda": Key("all"),
    "devices.cuda.count": _count("4"),
    "devices.cuda.memory": _amount("40GiB"),
    "cluster": _filled(f"{{gpu: {_NODES}}}"),
    "cluster{}": Key(_NODES),
    "cluster{}.nodes": _count("16"),
    "cluster{}.kind": _filled("NVIDIA A100-SXM4-40GB"),
    "cluster{}.devices": _count("4"),
    "cluster{}.memory": _amount("40GiB"),
    "plan": Key("{planner: optimal}"),
    "plan.planner": _choice(PlannerName),
    "plan.batch_sizes": _filled("[8, 16, 32]"),
    "plan.batch_sizes[]": _count("32"),
    "plan.runtime": _choice(RuntimeName),
    "plan.tolerance": _amount("0.0001"),
    "plan.precision_tolerance": _amount("0.01"),
    "output": Key("predictions.h5"),
    "output.path": _filled("predictions.h5"),
    "output.folder": _filled("predictions"),
    "output.datasets": _filled("[prediction, label]"),
    "output.datasets[]": Key("prediction", is_output, "with a number for K", get_args(OutputName)),
    "output.dtype": _choice(DtypeName),
    "output.keep": Key("{top: 10000, by: {class: active}}"),
    "output.keep.top": _count("10000"),
    "output.keep.above": Key("0.9", math.isfinite, "must be finite"),
    "output.keep.by": Key("{dataset: prediction, class: active}"),
    "output.keep.by{}": Key("active"),
    "output.compression": Key("gzip"),
    "output.compression.name": _choice(CompressionName),
    "output.compression.level": Key("5", lambda level: 0 <= level <= 22, "must be 0 to 22"),
    "slurm": Key("{partition: gpu, time: 240}"),
    "slurm.nodes": _count("4"),
    "slurm.tasks_per_node": _count("6"),
    "slurm.gpus_per_node": _count("4"),
    "slurm.cpus_per_task": _count("8"),
    "slurm.memory": _amount("64GiB"),
    "slurm.time": Key('"4:00:00"', lambda time: TIME.fullmatch(time) is not None, "is no time as sbatch takes it"),
    "slurm.partition": _filled("gpu"),
    "slurm.account": _filled("physics"),
    "slurm.qos": _filled("normal"),
    "slurm.constraint": _filled("a100"),
    "slurm.setup": _filled('["module load openmpi"]'),
    "slurm.setup[]": _filled("module load openmpi"),
    "slurm.mpi": _filled("pmix"),
    "slurm.python": Key(
        "apptainer exec --nv /site/hpcens.sif python3",
        is_command,
        "must be a command as nodes find it: on their PATH, or an absolute path; nothing of it is expanded ($, ~)",
    ),
    "slurm.srun": Key("{container-image: /site/hpcens.sqsh}"),
    "slurm.drain_seconds": _count("90"),
    "slurm.start_seconds": _count("900"),
    "slurm.requeues": Key("10", lambda n: n >= 0, "must be 0 or more"),
    "slurm.check_members": _choice(CheckMembers),
    "slurm.arguments": Key("{reservation: night}"),
    "bad_rows": _choice(BadRows),
    "fsync_seconds": _amount("2.0"),
}
_OF_FEATURES = ("factory", "arguments", "weights", "trust", "files", "inputs", "preprocess", "precision")
KEYS: Mapping[str, Key] = _KEYS | {
    key.replace("members[]", "features{}"): value
    for key, value in _KEYS.items()
    if key.removeprefix("members[].").partition(".")[0].partition("[")[0] in _OF_FEATURES
    and key.startswith("members[].")
}


_NAMED = (
    "dataset.inputs",
    "dataset.route",
    "features",
    "cluster",
    "members[].rows",
    "output.keep.by",
    "cascade[].accept",
)
"""Keys under which a user may write any name."""


def pattern(place: Place) -> str:
    """Return the key of `KEYS` for a place: `[]` for any number, `{}` for any name."""
    key = ""
    for part in place:
        key += "[]" if isinstance(part, int) else "{}" if key in _NAMED else f".{part}" if key else part
    return key


def example(place: Place) -> str:
    """Show how a place may be written."""
    key = f"{place[-1]}: " if isinstance(place[-1], str) else ""
    return f"for example {key}{KEYS[pattern(place)].example}"
