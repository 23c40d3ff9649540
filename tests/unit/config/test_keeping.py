"""Rows that a result is to keep: read, and refused by name where nothing can be chosen so."""

import pytest
from support.configuration import loaded

from hpcens.config.written import yaml_of
from hpcens.errors import UsageError

MEMBERS = "members: [{name: a, torchscript: a.pt}]\ntask: multiclass\nclasses: [cat, dog]\n"


@pytest.mark.parametrize(
    ("keep", "what"),
    [
        ("{top: 1000, by: {class: dog}}", "the 1,000 rows of the largest prediction of class dog"),
        ("{above: 0.25, by: {dataset: label}}", "the rows with label above 0.25"),
        ("{above: -1e3, by: {class: 1}}", "the rows with prediction of class 1 above -1000"),
    ],
)
def test_what_is_kept_is_said_in_words_and_written_again(file, keep, what):
    spec = loaded(file, MEMBERS + f"output: {{keep: {keep}}}\n")
    assert spec.output.keep.described == what
    again = loaded(file.with_name("again.yaml"), yaml_of(spec, file.parent))
    assert again.output == spec.output


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        ("{}", "output.keep: keeps nothing; for example keep: {top: 10000, by: {class: active}}"),
        ("{by: {class: dog}}", "output.keep: keeps nothing"),
        ("{top: 5, above: 0.5}", "output.keep.above: is one of two ways, top the other; keep one"),
        ("{top: 0}", "output.keep.top: 0 must be 1 or more"),
        ("{above: .inf}", "output.keep.above: .* must be finite"),
        ("{top: 5, by: {klass: dog}}", "output.keep.by.klass: unknown key; did you mean class"),
        ("{top: 5, by: {class: eel}}", 'output.keep.by.class: "eel" is none of the classes; correct it'),
        ("{top: 5, by: {dataset: entropy}}", 'output.keep.by.dataset: "entropy" is not among output.datasets'),
        ("{top: 5, by: {dataset: 3}}", "output.keep.by.dataset: expected text, not 3"),
        ("{top: 5, by: {class: [dog]}}", "output.keep.by.class: expected text, not a list"),
        ("{top: 5, by: {class: 1.5}}", "output.keep.by.class: expected text, not 1.5"),
        ("{top: 5, by: [dog]}", "output.keep.by: expected a mapping"),
        ("{bottom: 5}", "output.keep.bottom: unknown key; known here: top, above, by"),
        ("5", "output.keep: expected a mapping"),
    ],
)
def test_what_cannot_be_kept_is_refused(file, keep, says):
    with pytest.raises(UsageError, match=says):
        loaded(file, MEMBERS + f"output: {{datasets: [prediction, label], keep: {keep}}}\n")


def test_a_name_needs_classes_that_have_names(file):
    with pytest.raises(UsageError, match='"dog" is a name, and classes have none; name them, or give a number'):
        loaded(file, MEMBERS.replace("classes: [cat, dog]\n", "") + "output: {keep: {top: 5, by: {class: dog}}}\n")
