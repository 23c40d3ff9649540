"""Mistakes in a run.yaml, each told with its line, its place and a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.configuration import HEAD, loaded, told

# text after HEAD (8 is its first line), line, place, and what the line must also say
MISTAKES = [
    ("rulle: mean", 8, "rulle", 'unknown key; did you mean "rule"?'),
    ("    wieght: 3", 8, "members[1].wieght", 'unknown key; did you mean "weight"?'),
    (
        "zzz: 1",
        8,
        "zzz",
        "unknown key; known here: members, features, dataset, classes, class_axis, task, rule, calibration, cascade,"
        " devices, cluster, plan, output, slurm, bad_rows, fsync_seconds",
    ),
    ("search_path: .", 8, "search_path", "unknown key"),
    ("batch_sizes: [8]", 8, "batch_sizes", "unknown key; it belongs under plan"),
    ("plan: {members: 8}", 8, "plan.members", "unknown key; it belongs under the top level"),
    ("devices:\n  cpu:\n    cores: 4", 9, "devices.cpu.count", "is missing; for example count: 2"),
    ("  - {factory: 'm:b', weights: c}", 8, "members[2].name", "is missing; for example name: resnet50"),
    ("    output: logit", 8, "members[1].output", 'not one of logits, probabilities, values; did you mean "logits"?'),
    (
        "    output: 3",
        8,
        "members[1].output",
        "3 is not one of logits, probabilities, values; for example output: logits",
    ),
    (
        "rule: meen",
        8,
        "rule",
        '"meen" is not one of mean, weighted, geometric, vote, median, trimmed, min, max, stack, or'
        ' package.module:function; did you mean "mean"?',
    ),
    ("rule: my/rules.py:robust", 8, "rule", "or package.module:function; for example"),
    (
        "rule: {name: geometric, space: logits}",
        8,
        "rule.space",
        "rule geometric combines probabilities, not logits; remove it, or write rule: mean",
    ),
    ("rule: trimmed", 8, "rule", "is missing: rule trimmed needs it; for example trim: 0.2"),
    ("rule: {name: trimmed, trim: 0.5}", 8, "rule.trim", "0.5 must be above 0 and below 0.5; for example trim: 0.2"),
    ("rule: {name: trimmed, trim: 0.2}", 8, "rule.trim", "0.2 of 2 members is less than one"),
    (
        "rule: {trim: 0.2}",
        8,
        "rule.trim",
        "is for rule trimmed, but the rule is mean; remove it, or write name: trimmed",
    ),
    ("rule: {factory: 'm:b'}", 8, "rule.factory", "is for rule stack, but the rule is mean"),
    ("rule: {arguments: {}}", 8, "rule.arguments", "is for rule stack"),
    (
        "rule: {name: stack, weights: w}",
        8,
        "rule.factory",
        "is missing: rule stack needs it; for example factory: models:Stacker",
    ),
    ("rule: {name: stack, factory: 'm:b'}", 8, "rule.weights", "is missing: rule stack needs it; for example weights"),
    (
        "rule: {name: stack, factory: 'm:b', weights: w, space: logits, output: values}",
        8,
        "rule.output",
        "values are not logits, which the rule combines; write output: logits",
    ),
    ("output: {datasets: [top-0]}", 8, "output.datasets[0]", '"top-0" is not one of prediction, label, top-K, members'),
    ("output: {datasets: [top-K]}", 8, "output.datasets[0]", "with a number for K; "),
    ("output: {datasets: [entropie]}", 8, "output.datasets[0]", 'did you mean "entropy"?'),
    ("classes: 3\noutput: {datasets: [top-4]}", 9, "output.datasets[0]", "top-4 of 3 classes; ask for fewer"),
    ("output: {datasets: [top-2, top-3]}", 8, "output.datasets[1]", "top-3 besides top-2: only one is kept"),
    ("output: {dtype: float46}", 8, "output.dtype", "not one of float32, float16, uint8, float64; did you mean"),
    ("rule: {space: logits}\noutput: {dtype: uint8}", 9, "output.dtype", "uint8 is for probabilities, not logits"),
    ("output: {compression: gzip9}", 8, "output.compression", 'did you mean "gzip"?'),
    ("output: {compression: {level: 3}}", 8, "output.compression.name", "is missing; for example name: gzip"),
    ("output: {compression: {name: gzip, level: 12}}", 8, "output.compression.level", "gzip has levels 0 to 9"),
    ("output: {compression: {name: lzf, level: 2}}", 8, "output.compression.level", "lzf has no levels"),
    ("output: {compression: {name: zstd, level: 99}}", 8, "output.compression.level", "99 must be 0 to 22"),
    (
        "    output: values\noutput: {datasets: [prediction, entropy]}",
        9,
        "output.datasets[1]",
        "entropy needs members that classify",
    ),
    ("rule: VOTE", 8, "rule", 'did you mean "vote"?'),
    ("rule:\n  name: Vote", 9, "rule.name", 'did you mean "vote"?'),
    ("plan:\n  planner: xx", 9, "plan.planner", "not one of optimal, greedy, worst-fit; for example planner: optimal"),
    ("output: {datasets: [labels]}", 8, "output.datasets[0]", 'did you mean "label"?'),
    ("rule: 3", 8, "rule", "expected a mapping (key: value), not 3; for example rule: mean"),
    ("rule: [mean]", 8, "rule", "not a list"),
    ("plan: optimal", 8, "plan", 'not "optimal"; for example plan: {planner: optimal}'),
    ("    arguments: [1]", 8, "members[1].arguments", "not a list; for example arguments: {depth: 50}"),
    ("  - 7", 8, "members[2]", "expected a mapping (key: value), not 7; for example {name: small"),
    (
        "classes: cat",
        8,
        "classes",
        '"cat": no such file; name a file with a class a line, or write classes: [cat, dog]',
    ),
    ("classes: [cat, no]", 8, "classes[1]", "expected text, not false; put it in quotes, for example cat"),
    ("classes:\n- cat\n- 2", 10, "classes[1]", "expected text, not 2; put it in quotes"),
    ("classes: [cat, {}]", 8, "classes[1]", "expected text, not a mapping; for example cat"),
    ("classes: [cat]", 8, "classes", "needs at least 2 classes; for example classes: [cat, dog]"),
    ("classes: [cat, dog, cat]", 8, "classes[2]", '"cat" is already classes[0]'),
    ("classes: 1", 8, "classes", "1 is not 2 to 100000"),
    ("classes: 1000000000000", 8, "classes", "is not 2 to 100000; for example classes: 10"),
    ("classes: 100001", 8, "classes", "is not 2 to 100000"),
    ("classes: true", 8, "classes", "expected a list, not true"),
    ("devices: {cpu: two}", 8, "devices.cpu", 'expected a mapping (key: value), not "two"; for example cpu: 2'),
    ("devices: {cpu: all}", 8, "devices.cpu", 'not "all"; for example cpu: 2'),
    ("devices: {cuda: any}", 8, "devices.cuda", 'not "any"; for example cuda: all'),
    ("devices:\n  cuda:", 9, "devices.cuda", "is empty; write for example cuda: all, or remove the key"),
    ("devices: {cpu: true}", 8, "devices.cpu", "expected a mapping (key: value), not true"),
    ("devices: {cpu: 0}", 8, "devices.cpu", "0 must be 1 or more; for example"),
    ("devices: {cuda: {count: -1}}", 8, "devices.cuda.count", "-1 must be 1 or more; for example count: 4"),
    ("devices: {cpu: {count: 1.5}}", 8, "devices.cpu.count", "expected a whole number, not 1.5; for example count: 2"),
    ("devices: {cpu: {count: '2'}}", 8, "devices.cpu.count", 'expected a whole number, not "2"'),
    ("devices: {cpu: {count: 2, cores: 0}}", 8, "devices.cpu.cores", "must be 1 or more"),
    (
        "devices: {cpu: {count: 2, memory: 0}}",
        8,
        "devices.cpu.memory",
        "0 must be above 0 and finite; for example memory: 4GiB",
    ),
    ("devices: {cpu: {count: 2, memory: 4 GiX}}", 8, "devices.cpu.memory", "for example 4GiB or 500 MB"),
    ("devices: {cuda: {memory: 4G}}", 8, "devices.cuda.memory", '"4G" is no amount of memory'),
    (
        "devices: {cuda: {memory: 1.5}}",
        8,
        "devices.cuda.memory",
        "1.5 is no amount of memory; for example 4GiB or 500 MB",
    ),
    ("devices: {cuda: {memory: .inf}}", 8, "devices.cuda.memory", "Infinity is no amount of memory"),
    ("devices: {cuda: {memory: 1e30}}", 8, "devices.cuda.memory", "is no amount of memory"),
    ("devices: {cuda: {memory: -4GiB}}", 8, "devices.cuda.memory", "is no amount of memory"),
    ("plan: {batch_sizes: 8}", 8, "plan.batch_sizes", "expected a list, not 8; for example batch_sizes: [8, 16, 32]"),
    ("plan: {batch_sizes: []}", 8, "plan.batch_sizes", "must not be empty"),
    ("plan: {batch_sizes: [8, 0]}", 8, "plan.batch_sizes[1]", "0 must be 1 or more; for example 32"),
    ("plan: {batch_sizes: [8, 16, 8]}", 8, "plan.batch_sizes[2]", "8 is already plan.batch_sizes[0]"),
    ("fsync_seconds: 0", 8, "fsync_seconds", "0 must be above 0 and finite; for example fsync_seconds: 2.0"),
    ("fsync_seconds: .inf", 8, "fsync_seconds", "Infinity must be above 0 and finite"),
    ("fsync_seconds: .nan", 8, "fsync_seconds", "NaN must be above 0 and finite"),
    ("fsync_seconds: soon", 8, "fsync_seconds", 'expected a number, not "soon"; for example fsync_seconds: 2.0'),
    ("fsync_seconds: 1e400", 8, "fsync_seconds", '"1e400" is too large'),
    ("fsync_seconds: 010", 8, "fsync_seconds", '"010" is no decimal number; write one, or put text in quotes'),
    ("fsync_seconds: 1:30", 8, "fsync_seconds", '"1:30" is no decimal number'),
    ("dataset: ''", 8, "dataset", '"" must not be empty; for example input: data/images'),
    ("dataset: {inputs: {}}", 8, "dataset.inputs", "must not be empty"),
    ("dataset: {inputs: [a]}", 8, "dataset.inputs", "not a list; for example inputs: {images: data/images"),
    ("dataset: {inputs: {a: 3}}", 8, "dataset.inputs.a", "expected a mapping (key: value), not 3; for example a: data"),
    ("dataset: {inputs: {a: ''}}", 8, "dataset.inputs.a", '"" must not be empty; for example path: table'),
    ("dataset: {inputs: {a: {field: x}}}", 8, "dataset.inputs.a.path", "is missing; for example path: table"),
    ("dataset: {inputs: {a: {path: t, fild: x}}}", 8, "dataset.inputs.a.fild", 'did you mean "field"?'),
    ("dataset: {inputs: {'': t}}", 8, "dataset.inputs", "has no name"),
    ("dataset: {input: a, inputs: {b: c}}", 8, "dataset.input", "is one of two ways"),
    ("dataset: {imput: a}", 8, "dataset.imput", 'did you mean "input"?'),
    ("dataset: {select: {}}", 8, "dataset.select", "selects nothing; for example select: {start: 0, stop: 1000}"),
    ("dataset: {select: {start: -1}}", 8, "dataset.select.start", "-1 must be 0 or more"),
    ("dataset: {select: {stop: 0}}", 8, "dataset.select.stop", "0 must be 1 or more"),
    ("dataset: {select: {start: 5, stop: 5}}", 8, "dataset.select.stop", "5 is not above start, which is 5"),
    ("dataset: {select: {path: m, stop: 5}}", 8, "dataset.select.path", "keep one"),
    ("dataset: {select: [1, 2]}", 8, "dataset.select", "not a list; for example select: {start: 0"),
    ("dataset: {route: {}}", 8, "dataset.route", "must not be empty; for example route: {fold: data/fold}"),
    ("dataset: {route: {fold: 3}}", 8, "dataset.route.fold", "expected text, not 3; put it in quotes"),
    ("dataset: {route: {fold: f}}", 8, "dataset.route.fold", "is named by no members[].rows, so it routes nothing"),
    (
        "    rows: {path: m}\ndataset: {route: {path: f}}",
        9,
        "dataset.route.path",
        "is a word of members[].rows; choose another name",
    ),
    ("    rows: 3", 8, "members[1].rows", "expected a mapping (key: value), not 3; for example rows: {fold: 3}"),
    ("    rows: {}", 8, "members[1].rows", "must not be empty; for example rows: {fold: 3}"),
    (
        "    rows: {fold: 3}",
        8,
        "members[1].rows.fold",
        "is no route of the dataset; write dataset.route: {fold: data/fold}",
    ),
    (
        "    rows: {fld: 3, fold: 2}\ndataset: {route: {fold: f}}",
        8,
        "members[1].rows.fld",
        "is no route of the dataset, which has fold; write",
    ),
    (
        "    rows: {fold: 1.5}",
        8,
        "members[1].rows.fold",
        "1.5 is neither a value nor a list of them; for example fold:",
    ),
    ("    rows: {fold: {but: 3}}", 8, "members[1].rows.fold", "or fold: {not: [1, 2]}"),
    ("    rows: {fold: []}", 8, "members[1].rows.fold", "neither a value nor a list"),
    ("    rows: {path: 3}", 8, "members[1].rows.path", "3 is no path of a mask; for example path: data/mask"),
    (
        "    rows: {path: m, fold: 3}\ndataset: {route: {fold: f}}",
        8,
        "members[1].rows.path",
        "names a mask, which stands by itself",
    ),
    (
        "    rows: {path: m}\noutput: {dtype: uint8}",
        9,
        "output.dtype",
        "uint8 has no NaN for the rows that a member does not score (members[].rows); write float16 or float32",
    ),
    (
        "    rows: {path: m}\nrule: {name: stack, factory: 'm:b', weights: w}",
        9,
        "rule.name",
        "stack is fed with all members, and members[].rows leaves some out of a row; write rule: mean",
    ),
    ("dataset: {columns: ids}", 8, "dataset.columns", 'expected a list, not "ids"; for example columns: [ids, names]'),
    ("dataset: {columns: [a, a]}", 8, "dataset.columns[1]", '"a" is already dataset.columns[0]'),
    ("dataset: [a]", 8, "dataset", "not a list; for example dataset: images"),
    ("output: {path: 3}", 8, "output.path", "expected text, not 3; put it in quotes, for example path: predictions.h5"),
    ("output: ''", 8, "output", '"" must not be empty; for example path: predictions.h5'),
    ("output: {datasets: []}", 8, "output.datasets", "must not be empty"),
    ("output: {datasets: [label, label]}", 8, "output.datasets[1]", '"label" is already output.datasets[0]'),
    ("    arguments: {x: 9223372036854775808}", 8, "members[1].arguments.x", "is too large; write a number below 2^63"),
    ("    arguments: {x: " + "9" * 5000 + "}", 8, "members[1].arguments.x", "999…"),
    ("    arguments: {x: 0x" + "f" * 5000 + "}", 8, "members[1].arguments.x", "is too large"),
    (
        "    arguments: {x: 2020-01-01}",
        8,
        "members[1].arguments.x",
        '"timestamp", which is not accepted; put text in quotes',
    ),
    ("    arguments: {x: !!set {a}}", 8, "members[1].arguments.x", '"set", which is not accepted'),
    ("    arguments: {x: !mine a}", 8, "members[1].arguments.x", '"!mine", which is not accepted'),
    ("    arguments: {x: !!null a}", 8, "members[1].arguments.x", '"null", which is not accepted'),
    ("    arguments: {x: !!bool a}", 8, "members[1].arguments.x", '"bool", which is not accepted'),
    ("    arguments: {x: !!int [a]}", 8, "members[1].arguments.x", '"int", which is not accepted'),
    (
        "    arguments: !!python/object/apply:os.system [ls]",
        8,
        "members[1].arguments",
        '"python/object/apply:os.system"',
    ),
    ("    arguments: {x: {1: a}}", 8, "members[1].arguments.x", 'has a key that is not text: "1"; put it in quotes'),
    ("1: 2", 8, "has a key that is not text", '"1"; put it in quotes'),
    ("plan:\n  planner: greedy\n  yes: 2", 10, "plan", 'has a key that is not text: "yes"; put it in quotes'),
    ("? [a]\n: b", 8, "has a key that is not text", "put it in quotes"),
    ('"a\\0": b', 8, "has a key that is not text", '"a\\u0000"'),
    ('dataset: "a\\0b"', 8, "dataset", "holds NUL or half a surrogate pair, which no text may hold; remove it"),
    ('dataset: "a\\ud800b"', 8, "dataset", "holds NUL or half a surrogate pair"),
    ('"a\\u2028b\\n": 1', 8, '"a\\u2028b\\n"', "unknown key"),
    ("rule: mean\nrule: vote", 9, "rule", "is given again, first in line 8; keep one"),
    ("    name: c", 8, "members[1].name", "is given again, first in line 5; keep one"),
    ("    arguments:\n      x: 1\n      y: 1\n      x: 1", 11, "members[1].arguments.x", "first in line 9"),
    ("    arguments: &x {a: {b: *x}}", 8, "members[1].arguments.a.b", "is an alias of what contains it"),
    ("    arguments: &x {a: [*x]}", 8, "members[1].arguments.a[0]", "is an alias of what contains it"),
    ("    arguments: &x {<<: *x}", 8, "members[1].arguments", "is an alias of what contains it"),
    ("    arguments: {<<: 3}", 8, "members[1].arguments", "<< merges mappings only; for example <<: *defaults"),
    (
        "    arguments: {x: " + "[" * 40 + "]" * 40 + "}",
        8,
        "members[1].arguments.x[0]",
        "is nested more than 32 deep; flatten it",
    ),
    (
        "rule: weighted",
        2,
        "members[0].weight",
        "is missing: rule weighted needs one of every member; for example weight: 0.5",
    ),
    ("    weight: 3\nrule: weighted", 2, "members[0].weight", "is missing"),
    (
        "    weight: 3",
        8,
        "members[1].weight",
        "is for rule weighted, but the rule is mean; remove it, or write rule: weighted",
    ),
    ("    weight: -1", 8, "members[1].weight", "-1 must be 0 or more and finite; for example weight: 0.5"),
    ("    weight: .nan", 8, "members[1].weight", "NaN must be 0 or more and finite"),
    ("    weight: .inf", 8, "members[1].weight", "Infinity must be 0 or more and finite"),
    ("    weight: heavy", 8, "members[1].weight", 'expected a number, not "heavy"; for example weight: 0.5'),
    ("    output: values", 8, "members[1].output", "values cannot be combined as probabilities; set rule.space"),
    (
        "    output: probabilities\nrule: {space: logits}",
        8,
        "members[1].output",
        "probabilities cannot be combined as logits",
    ),
    ("rule: {space: values}", 2, "members[0].output", "logits cannot be combined as values; set rule.space"),
    (
        "    output: values\nrule: vote",
        8,
        "members[1].output",
        "rule vote counts classes, and values are none; write rule: mean, or logits here",
    ),
    ("task: regression\nrule: vote", 9, "rule", "vote counts classes, and task: regression has none; write rule: mean"),
    (
        "    output: values\noutput: {datasets: [prediction, label]}",
        9,
        "output.datasets[1]",
        "label needs members that classify",
    ),
    (
        "class_axis: 0",
        8,
        "class_axis",
        "0 must be an axis, rows being 0: 1 or more, or -1 for the last; for example class",
    ),
    ("    class_axis: 0", 8, "members[1].class_axis", "0 must be an axis, rows being 0"),
    ("class_axis: last", 8, "class_axis", 'expected a whole number, not "last"; for example class_axis: 1'),
    ("task: regression\nclass_axis: 1", 9, "class_axis", "is the axis of classes, and the members give values; remove"),
    ("task: classification", 8, "task", "not one of binary, multiclass, multilabel, regression; for example"),
    ("    output: logits\ntask: regression", 8, "members[1].output", "logits of classes, and the task is regression"),
    (
        "    output: values\ntask: binary",
        8,
        "members[1].output",
        "values are no classes, and the task is binary; write",
    ),
    ("task: binary\nclasses: [a, b, c]", 9, "classes", "task binary has two, the negative one first, and 3 are named"),
    ("task: binary\noutput: {datasets: [top-3]}", 9, "output.datasets[0]", "top-3 of the two classes of task binary"),
    ("task: multilabel\nrule: vote", 9, "rule", "vote is for classes that exclude one another, and the task is multi"),
    ("task: multilabel\nrule: geometric", 9, "rule", "geometric is for classes that exclude one another"),
    (
        "task: multilabel\noutput: {datasets: [prediction, top-2]}",
        9,
        "output.datasets[1]",
        "top-2 is chosen between classes that exclude one another, and the task is multilabel; remove it",
    ),
    ("task: multilabel\noutput: {datasets: [disagreement]}", 9, "output.datasets[0]", "disagreement is chosen between"),
    (
        "    classes: {x: a, y: a, z: b}\ntask: multilabel\nclasses: [a, b]",
        8,
        "members[1].classes",
        "several are mapped to a, and labels that do not exclude one another cannot be added; map one to each",
    ),
    ("task: regression\noutput: {datasets: [label]}", 9, "output.datasets[0]", "label needs members that classify"),
    ("rule: {name: mean, normalize: true}", 8, "rule.normalize", "is for rules whose probabilities need not add up to"),
    ("rule: {name: vote, normalize: true}", 8, "rule.normalize", "and those of vote do; remove it"),
    ("rule: {name: min, space: logits, normalize: true}", 8, "rule.normalize", "is for probabilities, and the rule co"),
    (
        "task: multilabel\nrule: {name: min, normalize: true}",
        9,
        "rule.normalize",
        "labels that do not exclude one another need not add up to 1",
    ),
    (
        "rule: {name: min, normalize: 1}",
        8,
        "rule.normalize",
        "expected true or false, not 1; for example normalize: true",
    ),
    ("    bad_rows: mask", 8, "members[1].bad_rows", '"mask" is not one of pass; for example bad_rows: pass'),
    ("assumed: true", 8, "assumed", "unknown key"),
    ("  - {name: a, factory: 'm:b', weights: c}", 8, "members[2].name", '"a" is already members[0].name'),
    ("  - {name: c}", 8, "members[2].factory", "is missing; for example factory: models.resnet:build, or one of torch"),
    ("  - {name: c, factory: 'm:b'}", 8, "members[2].weights", "is missing; for example weights: weights/resnet50.saf"),
    ("  - {name: c, onnx: o, exported: e}", 8, "members[2].onnx", "is a second source beside exported; keep one"),
    ("    torchscript: t", 8, "members[1].torchscript", "is a second source beside factory; keep one"),
    (
        "  - {name: c, onnx: o, weights: w}",
        8,
        "members[2].weights",
        "is for a factory, and onnx brings its own; remove",
    ),
    (
        "  - {name: c, onnx: o, arguments: {a: 1}}",
        8,
        "members[2].arguments",
        "is for a factory, and onnx brings its own",
    ),
    (
        "    precision: float64\nplan: {runtime: openvino}",
        8,
        "members[1].precision",
        "float64 cannot be computed by plan.runtime: openvino; write runtime: auto, or remove precision",
    ),
    (
        "    precision: tf32\ndevices: {cpu: 2}",
        8,
        "members[1].precision",
        "tf32 is of GPUs, and devices.cpu has members run on CPUs; write precision: float32, which a CPU computes",
    ),
    (
        "    precision: tf32\ndevices: {cuda: 1, cpu: 2}",
        8,
        "members[1].precision",
        "tf32 is of GPUs, and devices.cpu has members run on CPUs too; write precision: float32, which a CPU computes",
    ),
    (
        "    precision: tf32\nplan: {runtime: frozen}",
        8,
        "members[1].precision",
        "tf32 is of GPUs, and plan.runtime: frozen of CPUs; write runtime: auto",
    ),
    (
        "plan: {precision_tolerance: 0.1}",
        8,
        "plan.precision_tolerance",
        "is for members with precision: auto, and there are none; remove it",
    ),
    ("  - {name: c, onnx: o, precision: auto}", 8, "members[2].precision", "an ONNX file has its own; remove it"),
    ("rule: {precision: float64}", 8, "rule.precision", "is for rule stack, but the rule is mean; remove it"),
    (
        "rule: {name: stack, factory: 'm:s', weights: w, precision: float16}",
        8,
        "rule.precision",
        '"float16" is not one of float32, float64',
    ),
    ("  - {name: c, onnx: o, precision: float16}", 8, "members[2].precision", "an ONNX file has its own; remove it"),
    ("  - {name: c, onnx: o, trust: pickle}", 8, "members[2].trust", "onnx is never unpickled; remove it"),
    ("  - {name: c, pickled: p}", 8, "members[2].trust", "if you trust it, write trust: pickle, else give factory and"),
    (
        "  - {name: c, factory: m:f, weights: w, trust: file_access}",
        8,
        "members[2].trust",
        "for the graphs of torchscript and exported",
    ),
    (
        "  - {name: c, factory: m:f, weights: {key: a}}",
        8,
        "members[2].weights.path",
        "is missing; for example path: last",
    ),
    ("  - {name: c, factory: m:f, weights: {}}", 8, "members[2].weights.path", "is missing; for example path: last"),
    ("  - {name: c, factory: m:f, weights: {path: w, strict: no}}", 8, "members[2].weights.strict", "unknown key"),
    (
        "  - {name: c, factory: m:f, weights: factory, trust: pickle}",
        8,
        "members[2].trust",
        "factory names none; remove",
    ),
    ("  - {name: c, onnx: o, weights: factory}", 8, "members[2].weights", "is for a factory, and onnx brings its own"),
    ("  - {name: c, onnx: o, gradients: true}", 8, "members[2].gradients", "onnx is a graph without it; remove it"),
    (
        "  - {name: c, onnx: o, passes: 20}",
        8,
        "members[2].passes",
        "onnx is a graph without any; remove it, or give fac",
    ),
    ("  - {name: c, exported: o, passes: 20}", 8, "members[2].passes", "exported is a graph without any; remove it"),
    ("  - {name: c, torchscript: o, passes: 20}", 8, "members[2].passes", "torchscript is a graph without any; remove"),
    ("    passes: 1", 8, "members[1].passes", "1 must be 2 or more: the output is the mean over passes; for example"),
    ("    passes: {seed: 3}", 8, "members[1].passes.count", "is missing; for example count: 20"),
    ("    passes: {count: 3, seed: -1}", 8, "members[1].passes.seed", "-1 must be 0 or more; for example seed: 0"),
    ("    passes: many", 8, "members[1].passes", 'expected a mapping (key: value), not "many"; for example passes: 20'),
    ("    passes: {count: 3, samples: 2}", 8, "members[1].passes.samples", "unknown key"),
    (
        "    passes: 20\ntask: regression",
        8,
        "members[1].passes",
        "is for members that classify so far, and this one gives values; remove it",
    ),
    (
        "  - {name: c, factory: m:f, weights: w, passes: 3}\nplan: {runtime: frozen}",
        8,
        "members[2].passes",
        "runs in eager alone, and plan.runtime is frozen; write runtime: auto or eager",
    ),
    (
        "    passes: 20\nrule: {space: logits}\noutput: {datasets: [prediction, entropy]}",
        8,
        "members[1].passes",
        "have entropies of probabilities, and rule.space is logits beside output.datasets with entropy",
    ),
    (
        "  - {name: c, factory: m:f, weights: w, gradients: true}\nplan: {runtime: frozen}",
        8,
        "members[2].gradients",
        "runtime: auto or eager",
    ),
    (
        "  - {name: c, pickled: p, trust: me}",
        8,
        "members[2].trust",
        "not one of pickle, file_access; for example pickle",
    ),
    ("    views: hflip", 8, "members[1].views", 'not "hflip"; for example views: [identity, hflip]'),
    ("    views: []", 8, "members[1].views.apply", "must not be empty; for example apply: [identity, hflip]"),
    ("    views: {space: logits}", 8, "members[1].views.apply", "is missing; for example apply: [identity, hflip]"),
    ("    views: [identity]", 8, "members[1].views", "identity alone is what a member without views sees; add hflip"),
    ("    views:\n      - identity\n      - hfilp", 10, "members[1].views.apply[1]", 'did you mean "hflip"?'),
    ("    views: [hflip, 3]", 8, "members[1].views", "expected a mapping (key: value), not 3"),
    (
        "    views: [hflip, flips/turn.py:f]",
        8,
        "members[1].views",
        "transverse, or package.module:function; for example",
    ),
    ("    views: [hflip, {undo: m:g}]", 8, "members[1].views.apply[1].call", "is missing; for example call: hflip"),
    (
        "    views: [hflip, {call: vflip, undo: m:g}]",
        8,
        "members[1].views.apply[1].undo",
        "vflip undoes itself; remove",
    ),
    (
        "    views: [hflip, vflip, hflip]",
        8,
        "members[1].views",
        '"hflip" is already members[1].views.apply[0]; remove it',
    ),
    (
        "    views: {apply: [hflip], keep: true}",
        8,
        "members[1].views.keep",
        "write a member for each, of the same weights",
    ),
    ("    views: {apply: [hflip], space: values}", 8, "members[1].views.space", "is taken of probabilities or logits"),
    (
        "    views: {apply: [hflip], space: probabilities}\nrule: {space: logits}",
        8,
        "members[1].views.space",
        '"probabilities": the mean over views is taken of logits, which the rule combines or the member gives; write',
    ),
    (
        "    views: [hflip]\n    gradients: true",
        8,
        "members[1].views",
        "nothing turns its arrows back; remove views, or",
    ),
    (
        "    views: [hflip, rot90]\n    preprocess: [{resize: [9, 9]}, {crop: [4, 6]}, {scale: 2.0}]",
        8,
        "members[1].views",
        "rot90 exchanges height and width, and the preprocessing ends with 4 × 6; crop or resize to a square",
    ),
    ("    views: {apply: [hflip], kep: no}", 8, "members[1].views.kep", 'unknown key; did you mean "keep"?'),
    ("    views: {apply: [hflip], keep: 1}", 8, "members[1].views.keep", "expected true or false"),
    ("    inputs: []", 8, "members[1].inputs", "must not be empty; for example inputs: [images]"),
    ("    inputs: [a, a]", 8, "members[1].inputs[1]", '"a" is already members[1].inputs[0]; remove it'),
    (
        "    precision: fp16",
        8,
        "members[1].precision",
        "not one of float32, tf32, bfloat16, float16, float64, auto; for example precision: float32",
    ),
    ("    select: [1]", 8, "members[1].select", "expected text, not a list; for example select: logits"),
    ("    preprocess: {scale: 2.0}", 8, "members[1].preprocess", "expected a list, not a mapping; for example prepro"),
    ("    preprocess: [scale]", 8, "members[1].preprocess[0]", 'not "scale"; for example {scale: 1/255}'),
    (
        "    preprocess: [{}]",
        8,
        "members[1].preprocess[0]",
        "names no step; for example {scale: 1/255}, or one of cast",
    ),
    ("    preprocess: [{input: a}]", 8, "members[1].preprocess[0]", "names no step"),
    (
        "    preprocess: [{scale: 2.0, cast: uint8}]",
        8,
        "members[1].preprocess[0]",
        "names 2 steps: cast, scale; write each as an item of its own",
    ),
    ("    preprocess: [{scael: 2.0}]", 8, "members[1].preprocess[0].scael", 'unknown key; did you mean "scale"?'),
    ("    preprocess: [{cast: float}]", 8, "members[1].preprocess[0].cast", "not one of float32, float64, float16"),
    ("    preprocess: [{scale: 0}]", 8, "members[1].preprocess[0].scale", "0 must be finite, not 0; for example scale"),
    ("    preprocess: [{scale: 1/0}]", 8, "members[1].preprocess[0].scale", '"1/0" divides by 0; correct it'),
    ("    preprocess: [{scale: 1/x}]", 8, "members[1].preprocess[0].scale", 'not "1/x"; for example scale: 1/255'),
    ("    preprocess: [{scale: 0/5}]", 8, "members[1].preprocess[0].scale", "must be finite, not 0"),
    ("    preprocess: [{resize: x}]", 8, "members[1].preprocess[0].resize", 'not "x"; for example resize: {size: 256,'),
    ("    preprocess: [{resize: 0}]", 8, "members[1].preprocess[0].resize", "0 must be 1 or more; for example 256"),
    (
        "    preprocess: [{resize: [1, 2, 3]}]",
        8,
        "members[1].preprocess[0].resize.size",
        "must be height and width, or one number for the shorter side; for example size: 256",
    ),
    (
        "    preprocess: [{resize: {size: 9, mode: cubic}}]",
        8,
        "members[1].preprocess[0].resize.mode",
        'did you mean "bicubic"?',
    ),
    (
        "    preprocess: [{resize: {size: 9, antialias: 1}}]",
        8,
        "members[1].preprocess[0].resize.antialias",
        "expected true or false, not 1; for example antialias: true",
    ),
    (
        "    preprocess: [{resize: {size: 9, mode: area, antialias: true}}]",
        8,
        "members[1].preprocess[0].resize.antialias",
        "is for bilinear or bicubic, and the mode is area; remove it, or write mode: bicubic",
    ),
    (
        "    preprocess: [{crop: [1, 2, 3]}]",
        8,
        "members[1].preprocess[0].crop",
        "must be height and width; for example",
    ),
    ("    preprocess: [{crop: [0, 2]}]", 8, "members[1].preprocess[0].crop[0]", "0 must be 1 or more; for example 224"),
    ("    preprocess: [{layout: NHWC}]", 8, "members[1].preprocess[0].layout", "one letter an axis, before and after"),
    ("    preprocess: [{layout: NHC->HNC}]", 8, "members[1].preprocess[0].layout", "for example layout: NHWC->NCHW"),
    ("    preprocess: [{call: f}]", 8, "members[1].preprocess[0].call", "must be an import path package.module:callab"),
    (
        "    preprocess: [{normalize: {mean: [1.0]}}]",
        8,
        "members[1].preprocess[0].normalize.std",
        "is missing; for example std: [0.229, 0.224, 0.225]",
    ),
    (
        "    preprocess: [{normalize: {mean: [1, 2, 3], std: [1]}}]",
        8,
        "members[1].preprocess[0].normalize",
        "has 3 means and 1 stds; give one of each a channel",
    ),
    (
        "    preprocess: [{normalize: {mean: [1], std: [0]}}]",
        8,
        "members[1].preprocess[0].normalize.std[0]",
        "0 must be above 0 and finite; for example 0.229",
    ),
    (
        "    inputs: [images]\n    preprocess: [{scale: 2.0, input: meta}]",
        9,
        "members[1].preprocess[0].input",
        '"meta" is no input of this member; add it to inputs, or remove it',
    ),
    (
        "    inputs: [meta]\ndataset: group/images",
        8,
        "members[1].inputs[0]",
        '"meta" is no input of the dataset (images); add it there, or correct it',
    ),
    (
        "    preprocess: [{scale: 2.0, input: x}]\ndataset: {inputs: {images: a, meta: b}}",
        8,
        "members[1].preprocess[0].input",
        '"x" is no input of this member; add it to inputs, or remove it',
    ),
    ("    classes: [a, b]", 8, "members[1].classes", "are mapped onto those of the ensemble, which are missing; write"),
    ("    classes: 2\nclasses: [a, b]", 8, "members[1].classes", "expected a list or a mapping, not 2; for example"),
    ("    classes: [no, a]\nclasses: [a, b]", 8, "members[1].classes", "expected text, not false; put it in quotes"),
    ("    classes: [a, a, b]\nclasses: [a, b]", 8, "members[1].classes", '"a" is named twice; to add classes up, map'),
    (
        "    classes: {x: a}\nclasses: [a, b, c]",
        8,
        "members[1].classes",
        "nothing is mapped to b, c: every class of the ensemble needs one of the member's; map every class",
    ),
    (
        "    classes: {x: a, y: b, z: d}\nclasses: [a, b]",
        8,
        "members[1].classes",
        "z is mapped to d, which is no class of the ensemble (a, b); map every class",
    ),
    (
        "    classes: {x: a, y: b, z: b}\nclasses: [a, b]\nrule: {space: logits}",
        8,
        "members[1].classes",
        "several are mapped to b, and only probabilities can be added, not logits; set rule.space: probabilities",
    ),
]


@pytest.mark.parametrize(("text", "line", "place", "says"), MISTAKES)
def test_a_mistake_is_told_with_line_place_and_remedy(file: Path, text: str, line: int, place: str, says: str) -> None:
    error = told(file, HEAD + text)
    assert [said for said in error.splitlines() if said.startswith(f"run.yaml:{line}: {place}") and says in said], error


@pytest.mark.parametrize("text", [text for text, line, _, _ in MISTAKES if text != "rule: {space: values}"])
def test_one_mistake_is_told_once(file: Path, text: str) -> None:
    allowed = 2 if text == "rule: weighted" or "output: values\noutput:" in text else 1
    if text.startswith("    weight: ") and "rule" not in text:
        allowed = 2  # wrong, and out of place
    assert len(told(file, HEAD + text).splitlines()) <= allowed


MEMBER = "members:\n  - {{name: {}, factory: {}, weights: w}}"


@pytest.mark.parametrize("name", ["a/b", ".", "..", "''", "' a'", '"a\\tb"', '"a\\u202eb"', "n" * 101])
def test_a_name_must_do_for_files_and_links(file: Path, name: str) -> None:
    assert "run.yaml:2: members[0].name: " in (error := told(file, MEMBER.format(name, "m:b")))
    assert 'must be 1 to 100 printable characters, no "/", not "." or ".."; for example name: resnet50' in error


@pytest.mark.parametrize("name", ["a b", "ä-1.2", ".hidden", "'1'", "n" * 100])
def test_other_names_do(file: Path, name: str) -> None:
    assert loaded(file, MEMBER.format(name, "m:b")).members[0].name == name.strip("'")


@pytest.mark.parametrize(
    "factory", ["m", "m.b", "':b'", "'m:'", "m:b:c", "m/n.py:b", "m:b()", ".m:b", "m..n:b", "m:1", "m:class"]
)
def test_a_factory_is_an_import_path(file: Path, factory: str) -> None:
    assert "run.yaml:2: members[0].factory: " in (error := told(file, MEMBER.format("a", factory)))
    assert "must be an import path package.module:callable; for example factory: models.resnet:build" in error


def test_weights_must_not_all_be_zero_or_add_up_to_infinity(file: Path) -> None:
    text = HEAD.replace("    weights", "    weight: 0\n    weights") + "rule: weighted"
    assert "run.yaml:1: members: the weights add up to 0" in told(file, text)
    assert "members: the weights add up to inf" in told(file, text.replace("weight: 0", "weight: 1e308"))
    assert loaded(file, text.replace("weight: 0", "weight: 1", 1)).members[1].weight == 0


@pytest.mark.parametrize("member", ["3", "{name: b, factory: 'm:b', weights: w, weight: heavy}"])
def test_a_weight_that_is_wrong_is_not_also_missing(file: Path, member: str) -> None:
    text = MEMBER.format("a", "m:b").replace("weights", "weight: 1, weights") + f"\n  - {member}\nrule: weighted"
    assert re.fullmatch(r"run\.yaml:3: members\[1\](\.weight)?: expected a .*", told(file, text))


@pytest.mark.parametrize(
    "outputs",
    [
        ("logits", "probabilities", None),
        ("logits", "logits", "logits"),
        ("values", "values", "values"),
        ("values", "values", None),
    ],
)
def test_outputs_that_share_a_space_combine(file: Path, outputs: tuple[str, str, str | None]) -> None:
    text = HEAD.replace("weights:", "output: {}\n    weights:").format(*outputs[:2])
    assert loaded(file, text + (f"rule: {{space: {outputs[2]}}}" if outputs[2] else "")).rule.space == outputs[2]


@pytest.mark.parametrize("text", ["members:\n", "members: []\n", "plan: {}\n"])
def test_there_must_be_a_member(file: Path, text: str) -> None:
    assert re.match(
        r"run\.yaml:1: members: (is missing|needs at least one member); for example members: \[\{name", told(file, text)
    )


def test_all_mistakes_are_told_at_once_in_the_order_of_lines(file: Path) -> None:
    error = told(
        file,
        """\
members:
  - name: a
    factory: m:b
    wieghts: w
    output: logit
  - {name: a, factory: x, weights: 3, output: values}
  - name: !!python/object/apply:os.system [ls]
    factory: "m:c"
    weights: w
rule: meen
plan: {batch_sizes: [0, 8, 8]}
devices: {cpu: 0, cuda: {memory: 3 GiX}}
plan: {}
fsync_seconds: 010
""",
    )
    assert [line.split(" ")[0].removeprefix("run.yaml:") + " " + line.split(" ")[1] for line in error.splitlines()] == [
        "2: members[0].weights:",
        "4: members[0].wieghts:",
        "5: members[0].output:",
        "6: members[1].factory:",
        "6: members[1].name:",
        "6: members[1].output:",
        "6: members[1].weights:",
        "7: members[2].name:",
        "10: rule:",
        "11: plan.batch_sizes[0]:",
        "11: plan.batch_sizes[2]:",
        "12: devices.cpu:",
        "12: devices.cuda.memory:",
        "13: plan:",
        "14: fsync_seconds:",
    ]


def test_a_flood_of_mistakes_is_cut(file: Path) -> None:
    error = told(file, HEAD + "classes: [" + "1, " * 2000 + "]")
    assert len(error.splitlines()) == 101
    assert error.endswith("… and 1900 more")


@pytest.mark.parametrize(
    ("written", "rows"),
    [
        ("{fold: 3}", {"fold": (3,)}),
        ("{fold: [1, 2]}", {"fold": (1, 2)}),
        ("{fold: {not: 3}}", {"not fold": (3,)}),
        ("{fold: {not: [1, a]}}", {"not fold": (1, "a")}),
        ("{fold: 3, site: [north, 'no']}", {"fold": (3,), "site": ("north", "no")}),
        ("{fold: true}", {"fold": (1,)}),
        ("{path: masks/a}", {"path": ("masks/a",)}),
    ],
)
def test_rows_are_written_out_as_a_list_of_values(file: Path, written: str, rows: dict[str, object]) -> None:
    routes = ", ".join(f"{key}: x" for key in ("fold", "site") if key in written)
    dataset = f"dataset: {{route: {{{routes}}}}}" if routes else ""
    assert loaded(file, f"{HEAD}    rows: {written}\n{dataset}").members[1].rows == rows


def test_a_member_of_no_weight_cannot_score_rows_alone(file: Path) -> None:
    text = f"{HEAD}    rows: {{path: m}}\n    weight: 0\nrule: weighted".replace(
        "name: a\n", "name: a\n    weight: 1\n"
    )
    assert "members[1].weight: 0 leaves nothing of the rows" in told(file, text)
