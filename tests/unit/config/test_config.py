"""What a run.yaml may say, and how each mistake in it is told: line, place, what is wrong, remedy."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.configuration import FULL, HEAD, loaded, plain, texts, told

from hpcens import config
from hpcens.errors import UsageError
from hpcens.specs import (
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


def test_every_key_of_a_full_file_arrives(file: Path) -> None:
    arguments = {"depth": 50, "widths": [1, 2.5, 0.001], "pretrained": False, "note": "naïve", "nothing": None}
    a = MemberSpec(
        name="a",
        factory="models:build",
        weights=file.parent / "a.safetensors",
        arguments=arguments,
        trust=("pickle",),
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
    assert spec == RunSpec(members=spec.members, search_path=file.parent, assumed=True)
    assert [str(member.file) for member in spec.members] == [
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
        assert [str(member.file) for member in spec.members] == [
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
    ("short", "long"),
    [
        ("scale: 1/255", "scale: 0.00392156862745098"),
        ("scale: -3.5 / 7", "scale: -0.5"),
        ("resize: [8, 9]", "resize: {size: [8, 9], mode: bilinear, antialias: false}"),
        ("resize: 8", "resize: {size: [8]}"),
        ("resize: {size: 8, mode: bicubic}", "resize: {size: [8], mode: bicubic}"),
        ("normalize: {mean: [1/2], std: [1/4]}", "normalize: {mean: [0.5], std: [0.25]}"),
    ],
)
def test_a_shorthand_of_a_step_is_its_long_form(file: Path, short: str, long: str) -> None:
    member = "members: [{{name: a, factory: 'm:b', weights: w, preprocess: [{{{}}}]}}]"
    assert loaded(file, member.format(short)) == loaded(file, member.format(long))


def test_a_resize_that_earlier_code_has_stored_is_read(file: Path) -> None:
    """It was a list of height and width."""
    spec = loaded(file, "members: [{name: a, factory: 'm:b', weights: w, preprocess: [{resize: [8, 9]}]}]")
    tree = json.loads(config.spec_to_json(spec))
    tree["members"][0]["preprocess"][0]["resize"] = [8, 9]
    assert config.spec_from_json(json.dumps(tree)) == spec
    job = Job(datasets=(Path("d.h5"),), output=Path("o.h5"), spec=spec)
    assert config.job_from_json(json.dumps(json.loads(config.job_to_json(job)) | {"spec": tree})) == job


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
    ("text", "dtype", "combined"),
    [
        (HEAD, "float32", "float32"),
        (HEAD + "    precision: float64", "float64", "float64"),
        (HEAD + "    precision: bfloat16", "float32", "float32"),
        (HEAD + "    precision: float64\noutput: {path: p.h5}", "float64", "float64"),
        (HEAD + "    precision: float64\noutput: {dtype: float32}", "float32", "float64"),
        (HEAD + "    precision: float64\noutput: {dtype: float16}", "float16", "float64"),
        (HEAD + "output: {dtype: float64}", "float64", "float64"),
    ],
)
def test_a_result_is_as_wide_as_its_members_by_default(file: Path, text: str, dtype: str, combined: str) -> None:
    spec = loaded(file, text)
    assert (spec.output.dtype, spec.combined_dtype) == (dtype, combined)
    wide = {member.name: member.output_dtype for member in spec.members}
    assert wide == {"a": "float32", "b": "float64" if "precision: float64" in text else "float32"}
    assert config.spec_from_json(config.spec_to_json(spec)) == spec


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
    for word in ("config is not given", "./hpcens.yaml", "$HPCENS_CONFIG", "hpcens init"):
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


def test_what_reads_configurations_is_made_once(monkeypatch, project):
    """Worlds read their job several times for every unit, and making it took 20 to 50 ms each time."""
    import pydantic

    config._adapter.cache_clear()
    made, real = [], pydantic.TypeAdapter
    monkeypatch.setattr(pydantic, "TypeAdapter", lambda kind: made.append(kind) or real(kind))
    job = Job(datasets=(Path("/a.h5"),), output=Path("/o.h5"), spec=config.load(project.folder / "hpcens.yaml"))
    for _ in range(3):
        assert config.job_from_json(config.job_to_json(job)) == job
    assert made == [RunSpec, Job]
