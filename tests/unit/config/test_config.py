"""What a run.yaml may say, and how each mistake in it is told: line, place, what is wrong, remedy."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import subprocess
import sys
import typing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcens import config
from hpcens.config.keys import KEYS
from hpcens.errors import UsageError
from hpcens.specs import (
    SOURCES,
    CompressionSpec,
    CpuSpec,
    CudaSpec,
    DatasetSpec,
    DevicesSpec,
    InputSpec,
    Job,
    MemberSpec,
    NodesSpec,
    NormalizeSpec,
    OutputSpec,
    PlanSpec,
    RuleSpec,
    RunSpec,
    SelectSpec,
    SlurmSpec,
    StepSpec,
)

HEAD = """\
members:
  - name: a
    factory: models:build
    weights: a.safetensors
  - name: b
    factory: models:build
    weights: /weights/b.safetensors
"""

FULL = """\
members:
  - &a
    name: a
    factory: models:build
    weights: a.safetensors
    trust: pickle
    inputs: [images, age]
    preprocess:
      - cast: float32
      - {normalize: {mean: [0.5], std: [0.25]}, input: age}
      - {call: models:prepare}
    precision: bfloat16
    select: 1
    classes: {kitty: cat, hound: dog, three: "3"}
    arguments: {depth: 50, widths: [1, 2.5, 1e-3], pretrained: false, note: "naïve", nothing: null}
    output: probabilities
    weight: 0.25
  - <<: *a
    name: b
    factory: package.models:Net.small
    weight: 1
dataset:
  inputs: {images: group/images, age: {path: table, field: age}}
  select: {start: 5, stop: 10}
  columns: [ids]
classes: [cat, dog, "3"]
rule:
  name: weighted
  space: probabilities
devices:
  cpu: {count: 2, cores: 4, memory: 4GiB}
  cuda: {count: all, memory: 2e9}
plan:
  planner: worst-fit
  batch_sizes: [64, 8, 16]
output:
  path: out/result.h5
  datasets: [prediction, top-2, members, mutual_information]
  dtype: float16
  compression: {name: gzip, level: 9}
bad_rows: mask
fsync_seconds: 0.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def loaded(file: Path, text: str) -> RunSpec:
    file.write_text(text, "utf-8")
    return config.load(file)


def told(file: Path, text: str | bytes) -> str:
    """What load says of the text, the folder taken off every line."""
    file.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    with pytest.raises(UsageError) as caught:
        config.load(file)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(file), file.name)


def test_every_key_of_a_full_file_arrives(file: Path) -> None:
    arguments = {"depth": 50, "widths": [1, 2.5, 0.001], "pretrained": False, "note": "naïve", "nothing": None}
    a = MemberSpec(
        name="a",
        factory="models:build",
        weights=file.parent / "a.safetensors",
        arguments=arguments,
        trust="pickle",
        inputs=("images", "age"),
        preprocess=(
            StepSpec(cast="float32"),
            StepSpec(normalize=NormalizeSpec(mean=(0.5,), std=(0.25,)), input="age"),
            StepSpec(call="models:prepare"),
        ),
        precision="bfloat16",
        select="1",
        output="probabilities",
        classes={"kitty": "cat", "hound": "dog", "three": "3"},
        weight=0.25,
    )
    assert loaded(file, FULL) == RunSpec(
        members=(a, dataclasses.replace(a, name="b", factory="package.models:Net.small", weight=1.0)),
        dataset=DatasetSpec(
            inputs={"images": InputSpec(path="group/images"), "age": InputSpec(path="table", field="age")},
            select=SelectSpec(start=5, stop=10),
            columns=("ids",),
        ),
        classes=("cat", "dog", "3"),
        rule=RuleSpec(name="weighted", space="probabilities"),
        devices=DevicesSpec(
            cpu=CpuSpec(count=2, cores=4, memory=4 * 2**30), cuda=CudaSpec(count=None, memory=2_000_000_000)
        ),
        plan=PlanSpec(planner="worst-fit", batch_sizes=(8, 16, 64)),
        output=OutputSpec(
            path=file.parent / "out/result.h5",
            datasets=("prediction", "top-2", "members", "mutual_information"),
            dtype="float16",
            compression=CompressionSpec(name="gzip", level=9),
        ),
        bad_rows="mask",
        fsync_seconds=0.5,
        search_path=file.parent,
    )


def test_what_is_not_said_has_the_default(file: Path) -> None:
    spec = loaded(file, HEAD)
    assert spec == RunSpec(members=spec.members, search_path=file.parent)
    assert [str(member.weights) for member in spec.members] == [
        f"{file.parent}/a.safetensors",
        "/weights/b.safetensors",
    ]


def test_a_rule_that_stacks_is_a_member_of_its_own(file: Path) -> None:
    text = HEAD + "rule: {name: stack, factory: 'models:Stacker', weights: s.safetensors, arguments: {hidden: 4}}"
    assert loaded(file, text).rule == RuleSpec(
        name="stack", factory="models:Stacker", weights=file.parent / "s.safetensors", arguments={"hidden": 4}
    )


THREE = HEAD + "  - {name: c, factory: 'm:b', weights: c}\n"


@pytest.mark.parametrize(("trim", "members", "cut"), [(0.34, 3, 1), (0.2, 5, 1), (0.3, 10, 3), (0.29, 100, 29)])
def test_a_share_of_the_members_is_trimmed(trim: float, members: int, cut: int) -> None:
    assert RuleSpec(name="trimmed", trim=trim).cut(members) == cut


def test_a_trim_that_leaves_out_nobody_is_told(file: Path) -> None:
    assert loaded(file, THREE + "rule: {name: trimmed, trim: 0.34}").rule.trim == 0.34
    error = told(file, THREE + "rule: {name: trimmed, trim: 0.3}")
    assert "rule.trim: 0.3 of 3 members is less than one, so none would be left out; write 0.34 or more" in error


def test_a_section_left_empty_has_the_default(file: Path) -> None:
    assert loaded(file, HEAD + "plan:\noutput:\nclasses:\nrule:\ndevices:\ndataset:\n") == loaded(file, HEAD)


def test_paths_start_at_the_folder_of_the_file(
    file: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(HEAD.replace("/weights", "~") + "output: ../out.h5\n")
    monkeypatch.setenv("HOME", "/home/of")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    for given_path in (file, Path(os.path.relpath(file))):
        spec = config.load(given_path)
        assert [str(member.weights) for member in spec.members] == [
            f"{file.parent}/a.safetensors",
            "/home/of/b.safetensors",
        ]
        assert str(spec.output.path) == f"{file.parent}/../out.h5"
        assert spec.search_path == file.parent


SHORTHANDS = [
    ("rule: vote", "rule: {name: vote}"),
    ("rule: rules:robust", "rule: {name: 'rules:robust'}"),
    ("output: {compression: lzf}", "output: {compression: {name: lzf}}"),
    ("dataset: images", "dataset: {input: images}"),
    ("dataset: {inputs: {x: a/b}}", "dataset: {inputs: {x: {path: a/b}}}"),
    ("dataset: {select: keep}", "dataset: {select: {path: keep}}"),
    ("output: p.h5", "output: {path: p.h5}"),
    ("classes: 3", 'classes: ["0", "1", "2"]'),
    ("devices: {cpu: 2}", "devices: {cpu: {count: 2}}"),
    ("devices: {cuda: 4}", "devices: {cuda: {count: 4}}"),
    ("devices: {cuda: all}", "devices: {cuda: {count: null}}"),
    ("devices: {cuda: {count: all}}", "devices: {cuda: {}}"),
    ("devices: {cpu: {count: 1, memory: 4GiB}}", "devices: {cpu: {count: 1, memory: 4294967296}}"),
    ("devices: {cpu: {count: 1, memory: 500 MB}}", "devices: {cpu: {count: 1, memory: 500000000}}"),
    ("devices: {cpu: {count: 1, memory: 1.5 KiB}}", "devices: {cpu: {count: 1, memory: 1536}}"),
    ("devices: {cpu: {count: 1, memory: 3kB}}", "devices: {cpu: {count: 1, memory: 3000}}"),
    ("devices: {cpu: {count: 1, memory: 2TiB}}", "devices: {cpu: {count: 1, memory: 2199023255552}}"),
    ("devices: {cpu: {count: 1, memory: 2e9}}", "devices: {cpu: {count: 1, memory: 2000000000}}"),
    ("devices: {cpu: {count: 1, memory: '2e9'}}", "devices: {cpu: {count: 1, memory: 2000000000}}"),
    ("devices: {cuda: {memory: 0.1GB}}", "devices: {cuda: {memory: 100000000}}"),
    ("    inputs: images", "    inputs: [images]"),
    ("    select: 1", "    select: '1'"),
    ("    classes: [b, a]\nclasses: [a, b]", "    classes: {b: b, a: a}\nclasses: [a, b]"),
]


@pytest.mark.parametrize(("short", "long"), SHORTHANDS)
def test_a_shorthand_is_its_long_form(file: Path, short: str, long: str) -> None:
    assert loaded(file, HEAD + short) == loaded(file, HEAD + long) != loaded(file, HEAD)


VALUES_ONLY = HEAD.replace("weights:", "output: values\n    weights:")


@pytest.mark.parametrize(
    ("text", "datasets"),
    [
        (VALUES_ONLY, ("prediction",)),
        (VALUES_ONLY + "output: {path: p.h5}", ("prediction",)),
        (VALUES_ONLY + "output: {datasets: [members]}", ("members",)),
        (HEAD, ("prediction", "label")),
    ],
)
def test_members_that_do_not_classify_get_no_label_by_default(file: Path, text: str, datasets: tuple[str, ...]) -> None:
    assert loaded(file, text).output.datasets == datasets


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-2e9", -2e9),
        (".5e1", 5.0),
        ("1e5x", "1e5x"),
        ("e5", "e5"),
        ("'1e3'", "1e3"),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-7", -7),
        (".inf", float("inf")),
        ("-.Inf", float("-inf")),
        ("no", False),
        ("True", True),
        ("~", None),
        ("", None),
        ("9223372036854775807", 2**63 - 1),
        ("[{a: [b]}]", [{"a": ["b"]}]),
    ],
)
def test_values_of_arguments_are_what_people_mean(file: Path, written: str, value: object) -> None:
    got = loaded(file, HEAD + f"    arguments: {{x: {written}}}").members[1].arguments["x"]
    assert (got, type(got)) == (value, type(value))


# text after HEAD (8 is its first line), line, place, and what the line must also say
MISTAKES = [
    ("rulle: mean", 8, "rulle", 'unknown key; did you mean "rule"?'),
    ("    wieght: 3", 8, "members[1].wieght", 'unknown key; did you mean "weight"?'),
    (
        "zzz: 1",
        8,
        "zzz",
        "unknown key; known here: members, dataset, classes, rule, devices, cluster, plan, output, slurm, bad_rows,"
        " fsync_seconds",
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
    ("output: {dtype: float64}", 8, "output.dtype", "not one of float32, float16, uint8; did you mean"),
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
    ("classes: cat", 8, "classes", 'expected a list, not "cat"; for example classes: [cat, dog]'),
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
        "rule vote counts classes, and values are none; write rule: mean",
    ),
    (
        "    output: values\noutput: {datasets: [prediction, label]}",
        9,
        "output.datasets[1]",
        "label needs members that classify",
    ),
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
    ("  - {name: c, onnx: o, precision: float16}", 8, "members[2].precision", "an ONNX file has its own; remove it"),
    ("  - {name: c, onnx: o, trust: pickle}", 8, "members[2].trust", "onnx is never unpickled; remove it"),
    ("  - {name: c, pickled: p}", 8, "members[2].trust", "if you trust it, write trust: pickle, else give factory and"),
    ("  - {name: c, pickled: p, trust: me}", 8, "members[2].trust", "not one of pickle; for example trust: pickle"),
    ("    inputs: []", 8, "members[1].inputs", "must not be empty; for example inputs: [images]"),
    ("    inputs: [a, a]", 8, "members[1].inputs[1]", '"a" is already members[1].inputs[0]; remove it'),
    (
        "    precision: fp16",
        8,
        "members[1].precision",
        "not one of float32, bfloat16, float16; for example precision: float32",
    ),
    ("    select: [1]", 8, "members[1].select", "expected text, not a list; for example select: logits"),
    ("    preprocess: {scale: 2.0}", 8, "members[1].preprocess", "expected a list, not a mapping; for example prepro"),
    ("    preprocess: [scale]", 8, "members[1].preprocess[0]", 'not "scale"; for example {scale: 0.00392}'),
    (
        "    preprocess: [{}]",
        8,
        "members[1].preprocess[0]",
        "names no step; for example {scale: 0.00392}, or one of cast",
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
    ("    preprocess: [{resize: 224}]", 8, "members[1].preprocess[0].resize", "expected a list, not 224; for example"),
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


# The file as a whole


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "run.yaml:1: is empty\n  → write a commented example to start from: hpcens init"),
        ("# nothing\n", "run.yaml:1: is empty"),
        ("\n- a\n", "run.yaml:2: the file must be a mapping of keys to values; for a commented example: hpcens init"),
        ("members", "run.yaml:1: the file must be a mapping"),
        ("~", "run.yaml:1: the file must be a mapping"),
        ("!!python/object:x {}", "run.yaml:1: is of the YAML type"),
        (b"a: 1\nb: \xff\xfe\n", "run.yaml:2: is not UTF-8 text\n  → save the file as UTF-8"),
        ("a: 1\nb: \x07", "run.yaml:2: holds a character that YAML does not allow"),
        ("a: b\n\tc: d", "run.yaml:2: is not YAML: while scanning for the next token found character '\\t'"),
        ("a: [b\nc: d", "run.yaml:2: is not YAML"),
        ("a: 1\nb: c: d", "run.yaml:2: is not YAML: mapping values are not allowed here\n  → check the indentation"),
        ("a: *b", "run.yaml:1: is not YAML: found undefined alias"),
        ("a: 1\n---\nb: 2", "run.yaml:2: is not YAML: expected a single document"),
        ('a: "\\UFFFFFFFF"', "run.yaml: is not YAML: "),
        ("%YAML 2.0\n---\na: 1", "run.yaml:1: is not YAML"),
        ("a: " + "[" * 2_000, "run.yaml: is nested too deeply\n  → flatten it"),
        ("a: " + "b" * 2**20, "run.yaml: is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(file: Path, text: str | bytes, says: str) -> None:
    assert told(file, text).startswith(says)


def test_a_byte_order_mark_is_no_mistake(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert config.load(file).member_names == ("a", "b")


def bomb(first: str, again: str) -> str:
    """Every level repeats the one before it nine times."""
    levels = [f"x{i}: &x{i} {again.replace('*', f'*x{i - 1}')}" for i in range(1, 12)]
    return "\n".join([f"x0: &x0 {first}", *levels])


@pytest.mark.parametrize(
    "text",
    [
        bomb("{k: lol}", "{a: *, b: *, c: *, d: *, e: *, f: *, g: *, h: *, i: *}"),
        "x0: &x0 " + "lol" * 10_000 + "\nx1: [" + "*x0, " * 100_000 + "]",
        "x0: &x0 {" + "lol" * 300 + ": 1}\nx1: [" + "*x0, " * 5_000 + "]",
    ],
    ids=["levels", "text", "keys"],
)
def test_aliases_that_explode_are_refused_at_once(file: Path, text: str) -> None:
    error = told(file, text)
    assert re.match(r"run\.yaml:\d+: .*aliases expand to more than 1048576 characters\n  → ", error)


def test_a_file_that_is_not_there_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def says(path: Path) -> str:
        with pytest.raises(UsageError) as caught:
            config.load(path)
        assert "hpcens init" in caught.value.remedy
        return caught.value.what

    assert says(file) == f"{file}: cannot be read: No such file or directory"
    assert says(file.parent) == f"{file.parent}: is a folder or a device, not a file"
    assert says(Path("/dev/zero")) == "/dev/zero: is a folder or a device, not a file"
    assert "cannot be read" in says(Path("n" * 300))
    assert "cannot be read" in says(Path("a\0b"))
    os.mkfifo(pipe := file.parent / "pipe")
    assert "not a file" in says(pipe)

    def refuse(*_: object) -> typing.NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    file.write_text(HEAD)
    monkeypatch.setattr(Path, "open", refuse)
    assert says(file) == f"{file}: cannot be read: Permission denied"


def test_merged_keys_yield_to_own_and_earlier_ones(file: Path) -> None:
    text = """\
members:
  - &a {name: a, factory: m:a, weights: a}
  - &b {name: b, factory: m:b, weights: b, arguments: {x: 1}}
  - name: c
    <<: [*a, *b]
    weights: c
"""
    assert loaded(file, text).members[2] == MemberSpec(
        name="c", factory="m:a", weights=file.parent / "c", arguments={"x": 1}
    )


# The three tables that must agree: specs, keys, template


def fields(kind: Any, place: str = "") -> dict[str, object]:
    """Every key a user may write under this spec, with its default."""
    found: dict[str, object] = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = [hints[field.name], *typing.get_args(hints[field.name])]
        specs = [one for one in inner if dataclasses.is_dataclass(one)]
        several = {tuple: "[]", dict: "{}"}.get(typing.get_origin(hints[field.name]), "")
        here = f"{place}{field.name}"
        found[here] = field.default
        for spec in specs:
            found |= fields(spec, f"{here}{several}.")
    return found


SETTABLE = fields(RunSpec)
del SETTABLE["search_path"]


def test_the_table_of_keys_is_that_of_the_specs() -> None:
    assert {key for key in KEYS if not key.endswith(("]", "}"))} == set(SETTABLE)


def around(pattern: str) -> dict[str, Any]:
    """A tree in which an example of the key has its place."""
    source = pattern.partition("[].")[2]
    member: dict[str, Any] = {"name": "a", "factory": "m:b", "weights": "w"}
    if source in SOURCES[1:]:
        member = {"name": "a"} | ({"trust": "pickle"} if source == "pickled" else {})
    elif source.startswith("preprocess[]."):
        triple = [1.0] if pattern.endswith("[]") else [1.0, 1.0, 1.0]
        steps = {key: {key: [1, 1]} for key in ("resize", "crop")} | {
            "input": {"scale": 2.0},
            "normalize": {"normalize": {"mean": triple, "std": triple}},
        }
        member["preprocess"] = [steps.get(source.split(".")[1].removesuffix("[]"), {})]
    tree: dict[str, Any] = {
        "members": [member],
        "classes": ["cat", "dog"],
        "devices": {"cpu": {"count": 1}, "cuda": {"count": 1}},
        "rule": {"name": "weighted" if pattern.endswith(".weight") else "mean"},
        "output": {"compression": {"name": "gzip"}},
    }
    if pattern == "rule.trim":
        tree["members"] = [member | {"name": f"m{i}"} for i in range(5)]
        tree["rule"] = {"name": "trimmed"}
    elif pattern in ("rule.factory", "rule.arguments", "rule.weights", "rule.output"):
        tree["rule"] = {"name": "stack", "factory": "m:s", "weights": "s"}
    elif ".field" in pattern:
        tree["dataset"] = {"inputs": {"x": {"path": "t"}}}
    elif pattern.startswith("cluster{}"):
        tree["cluster"] = {"x": {"nodes": 1, "kind": "k", "devices": 1, "memory": 1}}
    return tree


@pytest.mark.parametrize("pattern", [key for key in KEYS if key != "members[]"])
def test_every_example_in_a_remedy_is_right(file: Path, pattern: str) -> None:
    tree = around(pattern)
    keys = pattern.replace("[]", ".0").replace("{}", ".x").split(".")
    at: Any = tree
    for key, deeper in pairwise(keys):
        at = at[0] if isinstance(at, list) else at.setdefault(key, [None] if deeper == "0" else {})
    example = yaml.safe_load(KEYS[pattern].example)
    if keys == ["classes", "0"]:
        tree["classes"] = [example, "dog"]
    else:
        at[0 if keys[-1] == "0" else keys[-1]] = example
    loaded(file, yaml.safe_dump(tree))


def test_the_template_loads_and_states_the_defaults(file: Path) -> None:
    spec = loaded(file, config.template())
    default = RunSpec(members=spec.members, search_path=file.parent)
    assert spec == default
    assert all(
        member == MemberSpec(name=member.name, factory="models:build", weights=member.weights)
        for member in spec.members
    )


def keys(value: Any, place: str = "") -> set[str]:
    """Every key of a tree, by its pattern."""
    if place in (".dataset.inputs", ".cluster"):
        return {p for inner in value.values() for p in keys(inner, f"{place}{{}}")}
    if isinstance(value, dict):
        return {f"{place}.{k}" for k in value} | {p for k, v in value.items() for p in keys(v, f"{place}.{k}")}
    return {p for item in value for p in keys(item, f"{place}[]")} if isinstance(value, list) else set()


def test_the_template_holds_every_key_once_uncommented(file: Path) -> None:
    head, _, rest = config.template().partition("\nmembers:")
    text = re.sub(r"(?m)^( *)# ( *(?:- \{)?[-\w]+:)", r"\1\2", "members:" + rest).replace(
        "name: mean", "name: weighted"
    )
    tree = yaml.safe_load(text.replace("weights: weights/second", "weight: 1\n    weights: weights/second"))
    assert "is required" in head

    assert {key.removeprefix(".") for key in keys(tree) if ".arguments." not in key} == set(SETTABLE)
    del tree["dataset"]["input"], tree["dataset"]["select"]["path"]  # of two ways each, keep one
    others = [key for key in SOURCES if key != "factory"]
    first, second = tree["members"]
    for source in others:
        member = {"name": "a", source: first[source]} | ({"trust": first["trust"]} if source == "pickled" else {})
        assert loaded(file, yaml.safe_dump({"members": [member]})).members[0].source == source
    pair = [{key: value for key, value in first.items() if key not in others}, second]
    for name, own in {"trimmed": {"trim"}, "stack": {"factory", "arguments", "weights", "output"}}.items():
        left = {key: value for key, value in tree["rule"].items() if key in own or key == "space"}
        members = [{k: v for k, v in m.items() if k != "weight"} | {"name": f"m{i}"} for i, m in enumerate(3 * pair)]
        loaded(file, yaml.safe_dump(tree | {"rule": left | {"name": name}, "members": members}))
    left = {key: value for key, value in tree["rule"].items() if key == "space"} | {"name": "weighted"}
    spec = loaded(file, yaml.safe_dump(tree | {"rule": left, "members": pair}))
    assert spec.members[0].weight == 0.5 and spec.members[0].trust == "pickle"
    steps = ["cast", "layout", "scale", "resize", "crop", "normalize", "call"]
    assert [step.kind for step in spec.members[0].preprocess] == steps


# Between processes

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts
plain = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
paths = texts.map(Path) | st.just(Path(os.fsdecode(b"/data/\xff")))
members = st.builds(
    MemberSpec,
    name=texts,
    factory=texts,
    weights=paths,
    arguments=st.dictionaries(texts, plain, max_size=3),
    onnx=st.none() | paths,
    inputs=st.none() | st.lists(texts, max_size=2).map(tuple),
    preprocess=st.lists(
        st.builds(StepSpec, crop=st.just((2, 3)))
        | st.builds(StepSpec, normalize=st.just(NormalizeSpec(mean=(0.5,), std=(0.25,)))),
        max_size=2,
    ).map(tuple),
    select=st.none() | texts,
    classes=st.none() | st.dictionaries(texts, texts, max_size=3),
    output=st.sampled_from(["logits", "probabilities", "values"]),
    weight=st.none() | st.floats(0),
)
counts = st.integers(1, 2**60)
specs = st.builds(
    RunSpec,
    members=st.lists(members, max_size=3).map(tuple),
    dataset=st.builds(
        DatasetSpec,
        input=st.none() | texts,
        inputs=st.dictionaries(texts, st.builds(InputSpec, path=texts, field=st.none() | texts), max_size=2),
        select=st.none() | st.builds(SelectSpec, start=st.none() | counts, path=st.none() | texts),
        columns=st.lists(texts, max_size=2).map(tuple),
    ),
    classes=st.none() | st.lists(texts, max_size=3).map(tuple),
    rule=st.builds(
        RuleSpec,
        name=texts,
        space=st.none() | st.just("logits"),
        trim=st.none() | st.floats(0, 1),
        factory=st.none() | texts,
        arguments=st.dictionaries(texts, plain, max_size=3),
        weights=st.none() | paths,
        output=st.none() | st.just("values"),
    ),
    devices=st.builds(
        DevicesSpec,
        cpu=st.none() | st.builds(CpuSpec, count=counts, cores=counts, memory=st.none() | counts),
        cuda=st.none() | st.builds(CudaSpec, count=st.none() | counts, memory=st.none() | counts),
    ),
    slurm=st.builds(
        SlurmSpec, nodes=st.none() | counts, time=st.none() | texts, arguments=st.dictionaries(texts, plain, max_size=2)
    ),
    cluster=st.dictionaries(
        texts, st.builds(NodesSpec, nodes=counts, kind=texts, devices=counts, memory=counts), max_size=2
    ),
    plan=st.builds(PlanSpec, planner=st.just("greedy"), batch_sizes=st.lists(counts, max_size=3).map(tuple)),
    output=st.builds(
        OutputSpec,
        path=st.none() | paths,
        datasets=st.lists(texts, max_size=3).map(tuple),
        dtype=st.just("uint8"),
        compression=st.none() | st.builds(CompressionSpec, name=st.just("zstd"), level=st.none() | counts),
    ),
    bad_rows=st.sampled_from(["fail", "mask"]),
    fsync_seconds=st.floats(0.01, 1e9),
    search_path=paths,
)
jobs = st.builds(
    Job, datasets=st.lists(paths, min_size=1, max_size=3).map(tuple), output=paths, spec=specs, limit=st.none() | counts
)


@settings(max_examples=30, deadline=None)
@given(jobs)
def test_a_job_survives_json_unchanged(job: Job) -> None:
    assert repr(config.job_from_json(config.job_to_json(job))) == repr(job)
    assert repr(config.spec_from_json(config.spec_to_json(job.spec))) == repr(job.spec)
    assert config.spec_from_json(config.spec_to_json(job.spec)) == job.spec
    assert "\n" not in config.job_to_json(job)


def test_a_loaded_spec_survives_json(file: Path) -> None:
    spec = loaded(file, FULL)
    assert config.spec_from_json(config.spec_to_json(spec)) == spec


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"members": [], "more": 1}', "{", "9" * 5000])
def test_json_that_is_no_spec_is_told(text: str) -> None:
    for from_json in (config.spec_from_json, config.job_from_json):
        with pytest.raises(UsageError, match="cannot be read"):
            from_json(text)


# The command line's edges


def test_the_configuration_is_found_in_three_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPCENS_CONFIG", raising=False)
    with pytest.raises(UsageError) as caught:
        config.find(None)
    for word in ("--config", "./hpcens.yaml", "$HPCENS_CONFIG", "hpcens init"):
        assert word in str(caught.value)
    monkeypatch.setenv("HPCENS_CONFIG", "")
    with pytest.raises(UsageError):
        config.find(None)
    monkeypatch.setenv("HPCENS_CONFIG", "/site/run.yaml")
    assert config.find(None) == Path("/site/run.yaml")
    (tmp_path / "hpcens.yaml").touch()
    assert config.find(None) == Path("hpcens.yaml")
    assert config.find(Path("mine.yaml")) == Path("mine.yaml")


def test_the_result_is_named_after_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.default_output([Path("/data/set.v2.h5")], None) == tmp_path / "set.v2.predictions.h5"
    assert config.default_output([Path("set.h5")], 100) == tmp_path / "set.first-100.predictions.h5"
    assert config.default_output([Path("a.h5"), Path("b.h5")], None) == tmp_path / "a.and-1-more.predictions.h5"


def test_importing_config_loads_nothing_heavy() -> None:
    heavy = ["torch", "h5py", "mpi4py", "submitit", "numpy", "pydantic", "yaml"]
    code = f"import sys, hpcens.config; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Whatever the file holds

ODD = [
    "&a", "*a", "<<: *a", "<<:", "!!binary x", "!!python/name:os.system", "!t", "? ", "- ", ": ", "[", "]", "{", "}",
    "'", '"', "|", ">", "%YAML 1.1", "---", "...", "\t", "#", "\ufeff", "\x85", "\u2028", "~", ".inf", ".nan", "-0",
    "1e999", "0o7", "1:2", "=", "9" * 5000, "0x" + "f" * 300, '"\\UFFFFFFFF"', '"\\ud800"', '"\\0"', "yes", "[[[[]]]]",
    "{a: {a: {}}}", "members:", "rule: weighted", "devices: {cpu: &a [*a]}", "classes: 99999", "memory: 1e99 TiB", "🦆",
]  # fmt: skip
edits = st.lists(
    st.tuples(
        st.sampled_from(["delete", "double", "line", "value", "key", "swap", "indent", "bytes"]),
        st.integers(0, 40),
        st.integers(0, 40),
        st.sampled_from(ODD) | st.text(max_size=12),
    ),
    min_size=1,
    max_size=4,
)


def edited(text: str, edits: list[tuple[str, int, int, str]]) -> bytes:
    lines = text.splitlines()
    raw: list[tuple[int, bytes]] = []
    for kind, one, other, odd in edits:
        i, j = one % len(lines), other % len(lines)
        key, colon, value = lines[i].partition(":")
        match kind:
            case "delete":
                lines[i : i + 1 + other % 3] = [""]
            case "double":
                lines.insert(j, lines[i])
            case "line":
                lines[i] = odd
            case "value":
                lines[i] = f"{key}: {odd}"
            case "key":
                lines[i] = f"{key[: len(key) - len(key.lstrip(' -'))]}{odd}{colon}{value}"
            case "swap":
                lines[i], lines[j] = f"{key}:{lines[j].partition(':')[2]}", f"{lines[j].partition(':')[0]}:{value}"
            case "indent":
                lines[i] = "  " + lines[i]
            case "bytes":
                raw.append((one * 20 + other, odd.encode("utf-8", "surrogatepass")[::-1]))
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    for at, odd_bytes in raw:
        data = data[:at] + odd_bytes + data[at:]
    return data


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits)
def test_a_damaged_file_is_refused_or_read_but_never_crashes(
    file: Path, edits: list[tuple[str, int, int, str]]
) -> None:
    data = edited(FULL, edits)
    file.write_bytes(data)
    try:
        spec = config.load(file)
    except UsageError as error:
        str(error).encode("utf-8")
        first, *rest = str(error).split("\n")
        assert all(line.startswith((f"{file}:", "  → ", "… and ")) for line in (first, *rest))
    else:
        assert repr(config.spec_from_json(config.spec_to_json(spec))) == repr(spec)
    assert file.read_bytes() == data


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(sorted({*RunSpec.__slots__, "odd"})), plain, max_size=4))
def test_any_tree_in_the_place_of_any_key_is_refused_or_read(file: Path, tree: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(HEAD) | tree, allow_unicode=True), "utf-8")
    try:
        config.load(file)
    except UsageError as error:
        assert str(error).startswith(str(file))  # noqa: PT017
