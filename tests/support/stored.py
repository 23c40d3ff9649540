"""A finished result with its members stored and columns passed through, written as a run writes it."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from hpcens.combining.combiner import Combiner
from hpcens.combining.digests import rule_digests
from hpcens.config import spec_to_json
from hpcens.files import write_atomically
from hpcens.result.description import describe_result
from hpcens.result.fingerprint import make_fingerprint
from hpcens.result.finished import Finished
from hpcens.result.form import Form
from hpcens.result.outputs import outputs_of
from hpcens.result.result import Result
from hpcens.runs import RunDirectory
from hpcens.specs import OutputSpec, RuleSpec, RunSpec
from hpcens.vocabulary import MemberNumerics, Numerics, Segmentation
from support.outputs import members, outputs
from support.project import ENSEMBLE

ROWS, SEGMENT, SHAPE = 50, 16, (4,)
STACK = outputs(5, 3, ROWS, SHAPE, "probabilities")
CLASSES = ("ant", "bee", "cat", "dog")


def spec(
    rule="mean",
    datasets=("prediction", "members"),
    dtype="float32",
    compression=None,
    weights=None,
    space=None,
    precisions=(None, None, None),
):
    made = members(weights or [None] * 3)
    return RunSpec(
        members=tuple(dataclasses.replace(m, precision=p) for m, p in zip(made, precisions, strict=True)),
        classes=CLASSES,
        rule=RuleSpec(name=rule, space=space),
        output=OutputSpec(datasets=datasets, dtype=dtype, compression=compression),
        search_path=ENSEMBLE,
    )


def scored(path, made, space="probabilities", stack=STACK):
    """A finished result, written as a run writes it."""
    digests = {member.name: {"weights": "0", "code": "1"} for member in made.members}
    numerics = Numerics(SEGMENT, {m.name: MemberNumerics(8, "eager") for m in made.members}, ("cpu",), "2.0")
    rule = rule_digests(made, space)
    tree = make_fingerprint(made, data={"rows": ROWS}, members=digests, rule=rule, space=space, numerics=numerics)
    described = {name: {"path": "/gone", **of} for name, of in digests.items()}
    form = Form(
        outputs=outputs_of(made, SHAPE, space),
        segmentation=Segmentation(ROWS, SEGMENT),
        attributes=describe_result(made, tree, members=described, datasets=[Path("data.h5")], library="MPI"),
        classes=CLASSES,
        documents={"plan": "{}", "config": spec_to_json(made)},
        compression=made.output.compression,
        columns=columns,
    )
    run = RunDirectory.of(path)
    run.path.mkdir()
    epoch = run.begin()
    write_atomically(run.fingerprint, json.dumps(tree))
    result = Result.open(run, epoch, form)
    combiner = Combiner(made, space, form.outputs, {})
    for segment in result.missing:
        rows = slice(*form.segmentation.bounds(segment))
        result.write(segment, combiner.combine(segment, [values[rows] for values in stack]), {})
    result.flush(result.missing)
    result.finish(path, {"rows": ROWS})
    result.close()
    return Finished(path)


COLUMNS = (
    "columns/id",
    "columns/meta/name",
    "columns/place",
    "columns/table.kind",
    "columns/table.x",
    "columns/tag",
)
TABLE = np.array([(b"k%d" % (i % 3), [i, -i]) for i in range(ROWS)], [("kind", "S4"), ("x", "<f8", 2)])
IDS = [f"röw {i}" for i in range(ROWS)]


def columns(file):
    """Passed through: text of any length, text of a fixed one, big-endian numbers, and more than one a row."""
    file["columns/meta/name"] = IDS
    file["columns/tag"] = np.array([b"t%d" % i for i in range(ROWS)], "S5")
    file["columns/id"] = np.arange(ROWS, dtype=">i8")
    file["columns/table"] = TABLE
    file["columns/place"] = np.arange(2 * ROWS, dtype="f4").reshape(ROWS, 2)
