"""Stored members combined again, and exported: byte for byte what a run would give, and nothing half done."""

import csv
import dataclasses
import json

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from support.outputs import EVERYTHING, members
from support.stored import CLASSES, COLUMNS, IDS, ROWS, STACK, TABLE, scored, spec

from hpcens.combining.recombination import Recombination
from hpcens.combining.request import require_same_members, under_rule
from hpcens.config.partial import load_partial
from hpcens.errors import DataError, FingerprintMismatch, UsageError
from hpcens.result.export import export
from hpcens.result.fingerprint import outputs_branch, rule_branch
from hpcens.result.finished import Finished, fingerprint_of
from hpcens.result.form import Form
from hpcens.result.result import Result
from hpcens.result.verify import look_through
from hpcens.specs import CompressionSpec, OutputSpec, RuleSpec, RunSpec
from hpcens.vocabulary import Segmentation


def content(path):
    with h5py.File(path) as file:
        return {name: file[name][:].tobytes() for name in [*file.attrs["outputs"], "hpcens/checksums"]}


@pytest.mark.parametrize("compression", [None, CompressionSpec(name="lzf")])
@pytest.mark.parametrize("rule", ["vote", "geometric", "median", "weighted", "rules:confident"])
def test_combining_again_is_what_a_run_under_the_other_rule_gives(tmp_path, rule, compression):
    source = scored(tmp_path / "mean.h5", spec(compression=compression))
    other = spec(rule, EVERYTHING, weights=[1.0, 2.0, 0.5] if rule == "weighted" else None)
    Recombination(source, other, tmp_path / "again.h5").write()
    assert fingerprint_of(tmp_path / "again.h5") == scored(tmp_path / "direct.h5", other).fingerprint
    assert content(tmp_path / "again.h5") == content(tmp_path / "direct.h5")
    faults = look_through(tmp_path / "again.h5").faults
    assert faults == [f"member m{i}: /gone is gone, so its digest cannot be checked" for i in range(3)]
    assert Finished(tmp_path / "again.h5").columns == source.columns == tuple(sorted(COLUMNS))
    origin = json.loads(Finished(tmp_path / "again.h5").attributes["combined_from"])
    assert origin["path"] == str(tmp_path / "mean.h5") and len(origin["fingerprint"]) == 64
    assert Recombination(source, other, tmp_path / "again.h5").is_complete()
    assert not (tmp_path / "again.run").exists()


PRECISE = ("float64", None, "float64")
WIDE = [STACK[0] / 3.0 + 1e-12, STACK[1], STACK[2].astype(np.float64) ** 2]


@pytest.mark.parametrize("rule", ["vote", "geometric", "median", "weighted", "rules:confident"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_members_of_float64_are_combined_again_as_they_were_given(tmp_path, rule, dtype):
    """What is stored of a member of float32 beside them is that of float32 again."""
    source = scored(tmp_path / "mean.h5", spec(dtype="float64", precisions=PRECISE), stack=WIDE)
    assert stored(source, "members/m0").dtype == np.float64 and (stored(source, "members/m0") == WIDE[0]).all()
    weights = [1.0, 2.0, 0.5] if rule == "weighted" else None
    other = spec(rule, EVERYTHING, dtype=dtype, precisions=PRECISE, weights=weights)
    Recombination(source, other, tmp_path / "again.h5").write()
    assert fingerprint_of(tmp_path / "again.h5") == scored(tmp_path / "direct.h5", other, stack=WIDE).fingerprint
    assert content(tmp_path / "again.h5") == content(tmp_path / "direct.h5")


def test_outputs_that_were_rounded_are_not_combined_again(tmp_path):
    source = scored(tmp_path / "mean.h5", spec(precisions=PRECISE), stack=WIDE)
    with pytest.raises(UsageError, match="outputs as float32, rounded from what m0, m2 gave") as caught:
        Recombination(source, spec("vote", precisions=PRECISE), tmp_path / "other.h5")
    assert "output.dtype" in caught.value.remedy
    made = spec("max", precisions=PRECISE)
    alone = dataclasses.replace(made, members=made.members[1:2])
    Recombination(source, alone, tmp_path / "alone.h5").write()
    assert (stored(Finished(tmp_path / "alone.h5"), "prediction") == WIDE[1]).all()


@pytest.mark.parametrize(("then", "now"), [(PRECISE, (None, None, None)), ((None, None, None), PRECISE)])
def test_members_of_another_precision_are_refused(tmp_path, then, now):
    source = scored(tmp_path / "mean.h5", spec(dtype="float64", precisions=then), stack=WIDE)
    require_same_members(source, spec(precisions=then))
    said = f"members.m0.precision: {then[0] or 'float32'} then, {now[0] or 'float32'} now"
    with pytest.raises(FingerprintMismatch, match=said):
        require_same_members(source, spec(precisions=now))


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet"])
def test_float64_is_exported_as_it_is(tmp_path, ending):
    datasets = ("prediction", "variance", "members")
    result = scored(tmp_path / "wide.h5", spec(dtype="float64", datasets=datasets, precisions=PRECISE), stack=WIDE)
    for name in ("prediction", "variance", "members/m0"):
        file = tmp_path / f"{name.replace('/', '-')}.{ending}"
        export(result, file, [name])
        if ending == "npy":
            got = np.load(file)
        elif ending == "csv":
            got = np.loadtxt(file, delimiter=",", skiprows=1)
        else:
            got = np.array(pyarrow.parquet.read_table(file)[name].to_pylist())
        assert got.dtype == np.float64 and (got == stored(result, name)).all()
    assert (stored(result, "prediction") == np.mean([of.astype(np.float64) for of in WIDE], 0)).all()


def test_some_of_the_members_in_another_order(tmp_path):
    source = scored(tmp_path / "mean.h5", spec())
    made = spec("max")
    two = RunSpec(members=(made.members[2], made.members[0]), rule=made.rule, output=made.output)
    Recombination(source, two, tmp_path / "two.h5").write()
    with h5py.File(tmp_path / "two.h5") as file:
        assert (file["prediction"][:] == STACK[[0, 2]].max(0)).all()
        assert file.attrs["member_names"].tolist() == ["m2", "m0"] and "members/m1" not in file


def test_a_rule_alone_keeps_all_else(tmp_path):
    source = scored(tmp_path / "weighted.h5", spec("weighted", weights=[1.0, 2.0, 3.0], datasets=("label", "members")))
    made = under_rule(source, "median", tmp_path)
    assert made.rule == RuleSpec(name="median", space="probabilities")
    assert made.output.datasets == ("label", "members") and {m.weight for m in made.members} == {None}
    assert under_rule(source, "rules:mean", tmp_path).search_path == tmp_path
    for name in ("weighted", "trimmed", "stack"):
        with pytest.raises(UsageError, match="takes parameters"):
            under_rule(source, name, tmp_path)


def test_a_trimmed_mean_takes_its_share_behind_a_colon(tmp_path):
    source = scored(tmp_path / "mean.h5", spec())
    assert under_rule(source, "trimmed:0.34", tmp_path).rule == RuleSpec(
        name="trimmed", trim=0.34, space="probabilities"
    )
    for name, message in {"trimmed:a": "no number", "trimmed:0.2": "less than one", "trimmed:0.7": "below 0.5"}.items():
        with pytest.raises(UsageError, match=message):
            under_rule(source, name, tmp_path)
    with pytest.raises(UsageError, match=r'^rule: rule(\.name)?: "meen" is not one of'):
        under_rule(source, "meen", tmp_path)


@pytest.mark.parametrize(
    ("text", "rule", "datasets"),
    [
        ("rule: {name: trimmed, trim: 0.4}", RuleSpec(name="trimmed", trim=0.4), ("prediction", "members")),
        ("output: {datasets: [label, top-2]}", RuleSpec(name="weighted"), ("label", "top-2")),
        ("rule: vote\noutput: {datasets: [disagreement]}", RuleSpec(name="vote"), ("disagreement",)),
    ],
)
def test_a_configuration_without_members_has_a_rule_and_outputs_alone(tmp_path, text, rule, datasets):
    made = spec("weighted", weights=[1.0, 2.0, 3.0])
    (tmp_path / "other.yaml").write_text(text)
    loaded = load_partial(tmp_path / "other.yaml", made)
    assert (loaded.rule, loaded.output.datasets) == (rule, datasets) and loaded.classes == CLASSES
    source = scored(tmp_path / "mean.h5", made)
    if rule.name != "weighted":
        Recombination(source, loaded, tmp_path / "again.h5").write()
        assert fingerprint_of(tmp_path / "again.h5")["rule"]["name"] == rule.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule: mean\ndevices: {cpu: 1}", "other.yaml:2: devices: stands without members"),
        ("output: {datasets: [top-9]}", "top-9 of 4 classes"),
        ("rule: {name: trimmed, trim: 0.2}", "less than one"),
    ],
)
def test_what_does_not_fit_the_stored_members_is_refused(tmp_path, text, message):
    (tmp_path / "other.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_partial(tmp_path / "other.yaml", spec())


def test_export_knows_the_names_of_the_yaml(tmp_path):
    result = scored(tmp_path / "top.h5", spec(datasets=("prediction", "label", "top-2", "members")))
    export(result, tmp_path / "a.csv", ["top-2", "label", "m1", "id", "top_labels"])
    heads = "top_labels.0,top_labels.1,top_values.0,top_values.1,label,members/m1.ant,members/m1.bee,"
    assert (tmp_path / "a.csv").read_text().startswith(f"{heads}members/m1.cat,members/m1.dog,columns/id")
    export(result, tmp_path / "b.parquet", ["members"])
    assert pyarrow.parquet.read_table(tmp_path / "b.parquet").column_names == ["members/m0", "members/m1", "members/m2"]
    with pytest.raises(UsageError, match="top-7 is not stored; it has top-2"):
        export(result, tmp_path / "c.csv", ["top-7"])


class Stopped(Exception):
    """In the middle of it."""


def test_what_was_interrupted_is_continued_by_the_same_command(tmp_path, monkeypatch):
    source = scored(tmp_path / "mean.h5", spec())
    flushed = []
    whole = Result.flush

    def flush(result, segments):
        if flushed:
            raise Stopped
        flushed.extend(segments[:2])
        whole(result, segments[:2])

    monkeypatch.setattr(Result, "flush", flush)
    with pytest.raises(Stopped):
        Recombination(source, spec("vote"), tmp_path / "vote.h5").write()
    with pytest.raises(Stopped):
        Recombination(source, spec("vote"), tmp_path / "vote.h5").write()
    monkeypatch.setattr(Result, "flush", whole)
    read = []

    def noting(segment, names):
        read.append(segment)
        return Finished.read(source, segment, names)

    monkeypatch.setattr(source, "read", noting)
    with pytest.raises(FingerprintMismatch, match=r"rule.name: vote then, mean now"):
        Recombination(source, spec("mean"), tmp_path / "vote.h5").is_complete()
    assert not Recombination(source, spec("vote"), tmp_path / "vote.h5").is_complete()
    Recombination(source, spec("vote"), tmp_path / "vote.h5").write()
    assert read == [2, 3]
    scored(tmp_path / "direct.h5", spec("vote"))
    assert content(tmp_path / "vote.h5") == content(tmp_path / "direct.h5")


@pytest.mark.parametrize(
    ("stored", "asked", "says"),
    [
        (spec(), spec(space="logits"), "stores its members as probabilities; rule mean is to combine logits"),
        (spec(datasets=("prediction",)), spec(), "does not hold its members' outputs"),
        (spec(dtype="float16"), spec(), "holds its members' outputs as float16"),
    ],
)
def test_what_cannot_be_combined_again_is_told(tmp_path, stored, asked, says):
    source = scored(tmp_path / "mean.h5", stored)
    if asked.rule.space == "logits":
        asked = RunSpec(members=tuple(members([None] * 3, "logits")), rule=asked.rule)
    with pytest.raises(UsageError, match=says):
        Recombination(source, asked, tmp_path / "other.h5")
    assert not (tmp_path / "other.run").exists()


def test_the_output_is_never_the_input_or_somebody_elses(tmp_path):
    source = scored(tmp_path / "mean.h5", spec())
    (tmp_path / "link.h5").symlink_to(tmp_path / "mean.h5")
    (tmp_path / "mine.h5").write_text("mine")
    for name, says in [
        ("mean.h5", "is the input itself"),
        ("link.h5", "is the input itself"),
        ("mine.h5", "exists and is not a result"),
        ("nowhere/other.h5", "does not exist"),
    ]:
        with pytest.raises(UsageError, match=says):
            Recombination(source, spec("vote"), tmp_path / name)
    assert (tmp_path / "mine.h5").read_text() == "mine"
    more = RunSpec(members=(*spec().members, members([None] * 4)[3]))
    with pytest.raises(UsageError, match="has no member m3; it has m0, m1, m2"):
        Recombination(source, more, tmp_path / "other.h5")


def test_members_of_another_making_are_refused(tmp_path):
    source = scored(tmp_path / "mean.h5", spec())
    require_same_members(source, spec())
    other = RunSpec(members=(spec().members[0], members([None] * 2, "logits")[1]))
    with pytest.raises(FingerprintMismatch, match=r"members.m1.output: probabilities then, logits now"):
        require_same_members(source, other)


def test_damaged_rows_are_not_combined(tmp_path):
    source = scored(tmp_path / "mean.h5", spec())
    source.close()
    with h5py.File(tmp_path / "mean.h5", "r+") as file:
        file["members/m1"][20, 0] += 1
    with pytest.raises(DataError, match="rows 16–31 differ from their checksum"):
        Recombination(Finished(source.path), spec("vote"), tmp_path / "other.h5").write()
    assert not (tmp_path / "other.h5").exists()


@pytest.mark.parametrize("compression", [None, CompressionSpec(name="gzip")])
@pytest.mark.parametrize("name", ["meta/name", "tag", "id", "place", "table"])
def test_a_damaged_column_is_told(tmp_path, name, compression):
    source = scored(tmp_path / "mean.h5", spec(compression=compression))
    assert source.broken_columns == []
    source.close()
    with h5py.File(tmp_path / "mean.h5", "r+") as file:
        column = file[f"columns/{name}"]
        column[0], column[1] = column[1], column[0]
    fault = f"columns/{name} is not what was written"
    assert fault in look_through(tmp_path / "mean.h5").faults
    with pytest.raises(DataError, match=fault):
        Recombination(Finished(tmp_path / "mean.h5"), spec("vote"), tmp_path / "other.h5").write()
    with pytest.raises(DataError, match=fault):
        export(Finished(tmp_path / "mean.h5"), tmp_path / "all.csv")


# Export


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return scored(tmp_path_factory.mktemp("everything") / "all.h5", spec(datasets=EVERYTHING))


def stored(result, name):
    with h5py.File(result.path, locking=False) as file:
        return file[name][:]


def test_parquet_holds_every_dataset_with_its_types(everything, tmp_path):
    assert export(everything, tmp_path / "all.parquet") == ROWS
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    stored_names = [output.name for output in everything.outputs]
    named = {"label": "label_name", "top_labels": "top_label_names"}
    assert table.column_names == [*COLUMNS, *(n for name in stored_names for n in (name, named.get(name)) if n)]
    assert table["label_name"].to_pylist() == [CLASSES[i] for i in stored(everything, "label")]
    assert table["top_label_names"].to_pylist() == [
        [CLASSES[i] for i in row] for row in stored(everything, "top_labels")
    ]
    assert table["columns/meta/name"].to_pylist() == IDS and table["columns/tag"].to_pylist()[3] == "t3"
    assert table["columns/id"].to_pylist() == list(range(ROWS)) and table.schema.field("columns/id").type == "int64"
    assert table["columns/table.kind"].to_pylist()[:3] == ["k0", "k1", "k2"]
    assert np.array(table["columns/table.x"].to_pylist()).tolist() == TABLE["x"].tolist()
    for name in ["columns/place", *stored_names]:
        expected = stored(everything, name)
        assert (np.array(table[name].to_pylist(), expected.dtype) == expected).all(), name
    assert table.schema.field("prediction").metadata[b"classes"] == b"ant,bee,cat,dog"
    assert table.schema.field("label").type == "int32"
    assert json.loads(table.schema.metadata[b"fingerprint"]) == everything.fingerprint


def test_csv_gives_back_the_very_numbers(everything, tmp_path):
    export(everything, tmp_path / "all.csv")
    export(everything, tmp_path / "some.csv", ["label", "prediction", "top_values", "columns/meta/name"])
    with (tmp_path / "some.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    values = [*(f"prediction.{name}" for name in CLASSES), "top_values.0", "top_values.1"]
    assert head == ["label", *values, "columns/meta/name"]
    assert [row[-1] for row in rows] == IDS
    table = np.array(rows)
    assert (table[:, 0].astype(np.int32) == stored(everything, "label")).all()
    assert (table[:, 1:5].astype(np.float32) == stored(everything, "prediction")).all()


def test_npy_holds_one_dataset(everything, tmp_path):
    export(everything, tmp_path / "one.npy", ["members/m2"])
    assert (np.load(tmp_path / "one.npy") == stored(everything, "members/m2")).all()
    with pytest.raises(UsageError, match="holds one dataset, not prediction, label"):
        export(everything, tmp_path / "two.npy", ["prediction", "label"])
    export(everything, tmp_path / "id.npy", ["columns/id"])
    assert np.load(tmp_path / "id.npy").tolist() == list(range(ROWS))
    with pytest.raises(UsageError, match="columns/tag is text"):
        export(everything, tmp_path / "tag.npy", ["columns/tag"])


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet"])
def test_scaled_values_come_out_as_what_they_mean(tmp_path, ending):
    result = scored(tmp_path / "scaled.h5", spec(dtype="uint8"))
    export(result, tmp_path / f"out.{ending}", ["prediction"])
    if ending == "npy":
        got = np.load(tmp_path / "out.npy")
    elif ending == "csv":
        got = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1, dtype=np.float32)
    else:
        got = np.array(pyarrow.parquet.read_table(tmp_path / "out.parquet")["prediction"].to_pylist())
    assert np.abs(got - stored(result, "prediction") / 255).max() < 1e-7
    assert np.abs(got - STACK.mean(0)).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_halves_survive(tmp_path, dtype):
    result = scored(tmp_path / "half.h5", spec(dtype=dtype))
    export(result, tmp_path / "out.parquet")
    column = pyarrow.parquet.read_table(tmp_path / "out.parquet")["prediction"]
    assert (np.array(column.to_pylist(), np.float32) == stored(result, "prediction").astype(np.float32)).all()


def test_an_export_overwrites_nothing_and_leaves_nothing_half_done(everything, tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text("mine")
    for name, names, says in [
        ("mine.csv", [], "exists"),
        ("out.xlsx", [], r"known endings are .parquet, .csv, .npy"),
        ("out.csv", ["labels"], "has no dataset labels; "),
        ("nowhere/out.csv", [], "does not exist"),
    ]:
        with pytest.raises(UsageError, match=says):
            export(everything, tmp_path / name, names)
    (tmp_path / "damaged.h5").write_bytes(everything.path.read_bytes())
    with h5py.File(tmp_path / "damaged.h5", "r+") as file:
        file["label"][40] += 1
    for ending in ("csv", "npy", "parquet"):
        with pytest.raises(DataError, match="rows 32–47 differ"):
            export(Finished(tmp_path / "damaged.h5"), tmp_path / f"out.{ending}", ["prediction"])
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.h5", "mine.csv"]


def test_an_export_does_not_overwrite_what_came_meanwhile(everything, tmp_path, monkeypatch):
    def read(segment, names):
        (tmp_path / "out.csv").write_text("mine")
        return Finished.read(everything, segment, names)

    monkeypatch.setattr(everything, "read", read)
    with pytest.raises(UsageError, match="exists"):
        export(everything, tmp_path / "out.csv", ["label"])
    assert (tmp_path / "out.csv").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_all_that_changes_a_number_is_in_the_fingerprint():
    base = spec("trimmed")
    rules = [
        RuleSpec(name="trimmed", trim=0.4),
        RuleSpec(name="median"),
        RuleSpec(name="trimmed", space="logits"),
    ]
    outputs_ = [
        OutputSpec(datasets=("prediction",)),
        OutputSpec(datasets=("members", "prediction")),
        OutputSpec(datasets=("prediction", "members"), dtype="float16"),
    ]
    changed = [
        *(dataclasses.replace(base, rule=rule) for rule in rules),
        *(dataclasses.replace(base, output=output) for output in outputs_),
        dataclasses.replace(base, classes=CLASSES[::-1]),
        dataclasses.replace(base, members=tuple(members([1.0, 2.0, 3.0]))),
    ]

    def branches(made, digests):
        return json.dumps([rule_branch(made, digests, made.rule.space or "probabilities"), outputs_branch(made)])

    trees = {branches(made, {}) for made in (base, *changed)} | {branches(base, {"code": "0"})}
    assert len(trees) == 2 + len(changed)
    compressed = dataclasses.replace(
        base, output=dataclasses.replace(base.output, compression=CompressionSpec(name="lzf"))
    )
    assert branches(compressed, {}) == branches(base, {}), "compression changes no number"


def test_a_result_that_is_none_is_told(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        Finished(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(DataError, match="is not a result of hpcens"):
        Finished(tmp_path / "text.h5")


def test_a_result_describes_all_it_was_made_of(everything):
    said = everything.attributes
    assert said["rule"] == "mean" and said["space"] == "probabilities" and said["datasets"].tolist() == ["data.h5"]
    assert json.loads(said["precision"]) == {f"m{i}": "float32" for i in range(3)}
    assert json.loads(said["spaces"])["m0"] == "probabilities" and json.loads(said["weights"])["m1"] is None
    for name in ("hpcens", "python", "numpy", "h5py", "torch", "mpi"):
        assert said[name]
    assert everything.classes == CLASSES
    assert everything.output("entropy").attributes["units"] == "nat"


def test_a_hundred_thousand_classes_have_room(tmp_path):
    names = tuple(f"class {i}" for i in range(100_000))
    form = Form(
        outputs=(),
        segmentation=Segmentation(1, 1),
        attributes={"fingerprint": json.dumps({"classes": names})},
        classes=names,
        documents={},
    )
    from hpcens.result.working import create

    create(tmp_path / "many.h5", form)
    with h5py.File(tmp_path / "many.h5") as file:
        assert tuple(file["classes"].asstr()[:]) == names
        assert len(json.loads(file.attrs["fingerprint"])["classes"]) == 100_000
