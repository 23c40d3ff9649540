"""The fingerprint's formats: a tree of earlier code is equal while nothing means anything else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hpcens.checks import preflight
from hpcens.errors import FingerprintMismatch
from hpcens.planning.numerics import keep_fixed
from hpcens.result import fingerprint
from hpcens.result.fingerprint import AddedKey, in_format, made_of_but_data, make_fingerprint, numerics_of
from hpcens.result.mismatch import differences, require_same
from hpcens.specs import DatasetSpec, MemberSpec, RunSpec
from hpcens.vocabulary import DRIVER, MemberNumerics, Numerics, numerics_from_dict

# What code of format 1 wrote for this specification.
FORMAT_1 = """{"data": {"rows": 3}, "members": {"a.b": {"weights": "0", "output": "logits", "numerics": {"batch": 8,
"runtime": "eager", "precision": "float32"}}}, "rule": {"name": "mean", "space": "probabilities", "weights": {"a.b":
null}, "trim": null, "digests": {}}, "outputs": {"datasets": ["prediction", "label"], "dtype": "float32", "classes": [],
"bad_rows": "fail"}, "numerics": {"segment_rows": 16, "kinds": ["cpu"], "torch": "2.4"}}"""
SPEC = RunSpec(members=(MemberSpec(name="a.b", factory="m:f", weights=Path("a.pt")),))


def tree(spec=SPEC, **digests):
    return make_fingerprint(
        spec,
        data={"rows": 3},
        members={"a.b": {"weights": "0", **digests}},
        rule={},
        space="probabilities",
        numerics=Numerics(16, {"a.b": MemberNumerics(8, "eager")}, ("cpu",), "2.4"),
    )


@pytest.fixture
def added(monkeypatch):
    """Two keys that the format adds."""
    keys = (
        AddedKey(("members", "*", "turn of preprocess[]"), "left", "members[].preprocess[].turn: left"),
        AddedKey(("outputs", "sides"), 2, "sides: 2"),
    )
    monkeypatch.setattr(fingerprint, "FORMAT_2", fingerprint.FORMAT_2 + keys)


def test_a_tree_of_unchanged_meaning_is_that_of_format_1():
    assert json.dumps(tree()) == json.dumps(json.loads(FORMAT_1))


def test_an_added_key_is_left_out_at_its_old_meaning(added):
    assert tree(**{"turn of preprocess[3]": "left"}) == json.loads(FORMAT_1)
    right = tree(**{"turn of preprocess[3]": "right"})
    assert right["format"] == 2 and right["members"]["a.b"]["turn of preprocess[3]"] == "right"
    assert in_format(right) == right, "and it stays what it is"
    right["members"] = tree()["members"]
    assert in_format(right) == json.loads(FORMAT_1), "the format goes with the last key that needs it"
    right["outputs"]["sides"] = 3
    assert in_format(right)["format"] == 2
    assert "format" not in in_format(right | {"outputs": {"sides": 2}})


def test_a_refusal_names_the_key_and_what_restores_its_meaning(added):
    before = json.loads(FORMAT_1)
    now = tree(replace(SPEC, bad_rows="mask"), **{"turn of preprocess[3]": "right"})
    with pytest.raises(FingerprintMismatch) as caught:
        require_same(before, now, "run.h5")
    lines = str(caught.value).splitlines()
    assert [line.strip() for line in lines if " then, " in line] == [
        "members.a.b.turn of preprocess[3]: absent then, right now"
        " → members[].preprocess[].turn: left in the YAML is what it was made with",
        "outputs.bad_rows: fail then, mask now",
    ]
    with pytest.raises(FingerprintMismatch, match="right then, absent now"):
        require_same(now, before, "run.h5")


def test_code_that_was_not_looked_at_is_named_with_who_can_finish_it():
    before = json.loads(FORMAT_1)
    now = tree(**{"imports layers": "1", "library blocks": "2.0"})
    assert now["format"] == 2
    with pytest.raises(
        FingerprintMismatch, match="imports layers: absent then, 1 now → the earlier hpcens that made it"
    ):
        require_same(before, now, "run.h5")
    with pytest.raises(FingerprintMismatch, match=r"library blocks: 2\.0 then, 2\.1 now"):
        require_same(now, tree(**{"imports layers": "1", "library blocks": "2.1"}), "run.h5")


def test_libraries_of_gpus_are_part_of_what_a_result_was_made_of():
    numerics = Numerics(16, {"a.b": MemberNumerics(8, "eager")}, ("cuda A100",), "2.4", {"cudnn": "9.1"})
    of = dict(data={"rows": 3}, members={"a.b": {"weights": "0"}}, rule={}, space="probabilities")
    made = make_fingerprint(SPEC, **of, numerics=numerics)
    assert made["format"] == 2 and made["numerics"]["libraries"] == {"cudnn": "9.1"}
    assert numerics_from_dict(numerics_of(made)).libraries == {"cudnn": "9.1"}
    now = make_fingerprint(SPEC, **of, numerics=replace(numerics, libraries={"cudnn": "9.2"}))
    assert list(differences(made, now)) == ["numerics.libraries.cudnn: 9.1 then, 9.2 now"]
    assert keep_fixed(numerics, numerics) == numerics
    earlier = replace(numerics, libraries={})
    assert keep_fixed(numerics, earlier) == earlier, "the earlier code did not look at them"
    with pytest.raises(FingerprintMismatch, match=r"other libraries of GPUs: cudnn 9\.1 then, 9\.2 now"):
        keep_fixed(replace(numerics, libraries={"cudnn": "9.2"}), numerics)


def test_a_new_driver_of_gpus_is_told_and_ends_no_run(monkeypatch):
    """Nodes get one while a run goes on, and hosts without a GPU have none; the run keeps what it was begun under."""
    monkeypatch.setattr(preflight, "gpu_libraries", lambda: {"cudnn": "9.1"})
    members = {"a.b": MemberNumerics(8, "eager")}
    numerics = Numerics(16, members, ("cuda A100",), "2.4", {"cudnn": "9.1", DRIVER: "570.1"})
    of = dict(data={"rows": 3}, members={"a.b": {"weights": "0"}}, rule={}, space="probabilities")
    made = make_fingerprint(SPEC, **of, numerics=numerics)
    for libraries in ({"cudnn": "9.1", DRIVER: "575.2"}, {"cudnn": "9.1"}):
        assert keep_fixed(replace(numerics, libraries=libraries), numerics) == numerics
    now = numerics_from_dict(numerics_of(made) | preflight.versions_now(numerics_of(made)))
    assert now.libraries == numerics.libraries
    other = {"cudnn": "9.2", DRIVER: "575.2"}
    with pytest.raises(FingerprintMismatch, match=r"libraries of GPUs: cudnn 9\.1 then, 9\.2 now\n"):
        keep_fixed(replace(numerics, libraries=other), numerics)


def test_results_of_many_datasets_share_which_rows_are_meant_and_not_how_many_each_has():
    spec = RunSpec(
        members=(MemberSpec(name="a", factory="m:b", rows={"fold": (1,)}),),
        dataset=DatasetSpec(input="x", route={"fold": "fold"}),
    )
    one, other = (
        made_of_but_data(spec, {"a": {"weights": "1", "rows": f"{rows} of 9: abc"}}, {}, "logits", None)
        for rows in (3, 4)
    )
    assert one == other and one["member a: rows"] == "fold 1"
    apart = replace(spec, members=(replace(spec.members[0], rows={"fold": (2,)}),))
    assert made_of_but_data(apart, {"a": {"weights": "1"}}, {}, "logits", None) != one
    plain = replace(spec, members=(replace(spec.members[0], rows=None),), dataset=DatasetSpec(input="x"))
    assert "route" not in made_of_but_data(plain, {"a": {}}, {}, "logits", None)["dataset"]
