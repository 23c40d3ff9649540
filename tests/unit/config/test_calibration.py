"""The file of a calibration: read where the YAML is, kept with the configuration, refused by name."""

import dataclasses
import json

import pytest
from support.calibrations import written
from support.configuration import loaded

from hpcens.config import load_mapping, spec_from_json, spec_to_json
from hpcens.config.written import yaml_of
from hpcens.errors import UsageError

MEMBERS = "members: [{name: a, torchscript: a.pt}]\ntask: multiclass\n"


def test_what_it_says_is_kept_with_the_configuration(file):
    made = written(file.with_name("c.json"), coverage=0.9, thresholds=(0.25,), made_of={"classes": ["é"]}, n=7)
    spec = loaded(file, MEMBERS + "calibration: {path: c.json}\n")
    assert spec.calibration == dataclasses.replace(made, path=file.with_name("c.json"))
    assert spec.output.datasets == ("prediction", "label", "set")
    made.path.unlink()
    assert spec_from_json(spec_to_json(spec)) == spec and spec_from_json(spec_to_json(spec)).calibration == made
    assert "calibration: " + str(made.path) in yaml_of(spec, file.parent)
    written(file.with_name("v.json"), kind="values", temperature=None, coverage=0.5, thresholds=(1.0, 2.0))
    tree = {"members": [{"name": "a", "torchscript": "a.pt"}], "task": "regression", "calibration": "v.json"}
    assert load_mapping(tree, file.parent).output.datasets == ("prediction", "interval")
    for none in ("", "calibration:", "calibration: false"):
        assert loaded(file, MEMBERS + none).calibration is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("calibration: gone.json", 'calibration: "gone.json": no such file'),
        ("calibration: [c.json]", "calibration: expected the path of a file, not a list; for example calibration: cal"),
        ("calibration: true", "calibration: expected the path of a file, not true"),
        ("calibration: run.yaml", 'calibration: "run.yaml": is no calibration; name the file that hpcens calibrate'),
        ("calibration: {path: c.json, temperature: 2}", r"calibration.temperature: unknown key; known here: path"),
        ("calibration: changed.json", '"changed.json": is not what hpcens calibrate wrote; write it again'),
        ("calibration: odd.json", '"odd.json": is no calibration; name the file'),
        ("calibration: later.json", '"later.json": is of format 2, not 1; write it again: hpcens calibrate'),
        ("calibration: v.json", "was fitted to values, and these are classes"),
        ("calibration: c.json\noutput: {datasets: [set]}", r"set is not of this calibration of classes; fit it with"),
        ("calibration: s.json\noutput: {datasets: [interval]}", "interval is not of this calibration.*ask for set"),
        ("output: {datasets: [prediction, set]}", "set comes of a calibration with coverage; name one"),
    ],
)
def test_what_is_no_calibration_of_these_is_refused(file, line, says):
    written(file.with_name("c.json"))
    written(file.with_name("s.json"), coverage=0.9, thresholds=(0.5,))
    written(file.with_name("v.json"), kind="values", temperature=None, coverage=0.9, thresholds=(0.5,))
    written(file.with_name("odd.json"), temperature="2")
    whole = json.loads(file.with_name("c.json").read_text())
    file.with_name("changed.json").write_text(json.dumps(whole | {"temperature": 1.0}))
    file.with_name("later.json").write_text(json.dumps(whole | {"format": 2}))
    with pytest.raises(UsageError, match=says) as refused:
        loaded(file, MEMBERS + line + "\n")
    assert len(str(refused.value).splitlines()) <= 2
