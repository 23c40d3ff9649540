"""What a refusal says of what differs, and the ways out: commands that work when they are followed to the letter."""

import json
import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcens.dataset.source import Source
from hpcens.errors import FingerprintMismatch
from hpcens.result import require_same
from hpcens.specs import DatasetSpec

OUTPUTS = {"datasets": ["prediction", "members"], "dtype": "float32", "classes": [], "bad_rows": "fail"}


def identity(*paths):
    source = Source(paths, DatasetSpec())
    try:
        return json.loads(json.dumps(source.facts().identity))
    finally:
        source.close()


def refused(old, new, where="out.run", **more):
    with pytest.raises(FingerprintMismatch) as caught:
        require_same(old, new, where, **more)
    return caught.value.what.splitlines()[1:], caught.value.remedy.splitlines()


def test_a_file_that_was_only_touched_is_given_its_time_back_by_the_command(tmp_path):
    data, output = tmp_path / "two words.h5", tmp_path / "out.h5"
    with h5py.File(data, "w") as file:
        file["x"] = np.arange(12.0).reshape(6, 2)
    os.utime(data, ns=(0, 1_795_753_224_856_433_429))
    before = {"data": identity(data)}
    os.utime(data, ns=(0, 1_795_753_357_244_439_538))
    lines, ways = refused(before, {"data": identity(data)}, output=output, files=(data,))
    assert len(lines) == 1
    assert lines[0].startswith("  data.files.1.modified (two words.h5): 2026-11-27 04:20:24.856433429 UTC then, 20")
    touch = next(way for way in ways if "touch" in way)
    assert "if nothing in it was changed" in touch
    subprocess.run(
        touch[touch.index("touch -d") :].removesuffix(", and run the same command again"), shell=True, check=True
    )
    require_same(before, {"data": identity(data)}, "out.run")
    assert "put back what it was made of" in ways[1] and not any("rm -r" in way for way in ways), "nothing is there"
    with h5py.File(data, "r+") as file:
        file["x"][0] = 7
    assert not any("touch" in way for way in refused(before, {"data": identity(data)}, output=output, files=(data,))[1])


def test_of_many_touched_files_a_few_are_named(tmp_path):
    def of(time):
        return {"data": {"files": {str(n): {"rows": 1, "modified": time + n} for n in range(1, 9)}}}

    _, ways = refused(of(10**18), of(2 * 10**18), files=[Path(f"part-{n}.h5") for n in range(1, 9)])
    assert sum("touch -d" in way for way in ways) == 3 and "and so for 5 more files, …" in ways


def test_code_that_changed_is_named_once_with_its_file():
    def of(digest, other="1" * 64):
        call = json.dumps({"call": "json.decoder:JSONDecoder"})
        code = {"code": digest * 64, "factory": "hpcens.errors:HpcensError", "imports nowhere": digest * 64}
        steps = {"preprocess[0]": call, "code of preprocess[0]": other}
        return {
            "members": {f"m{i}": {"weights": "0" * 64, **code, **steps} for i in range(5)},
            "rule": {"name": "hpcens.shell:quoted", "digests": {"code": digest * 64}},
        }

    lines, _ = refused(of("a"), of("b", "2" * 64))
    assert lines == [
        "  the code of m0 and 4 more changed: hpcens/errors.py",
        "  the code of m0 and 4 more changed: module nowhere",
        "  the code of m0 and 4 more changed: json/decoder.py",
        "  the code of the rule changed: hpcens/shell.py",
    ]
    other = of("a")
    for member in other["members"].values():
        member["weights"] = "f" * 64
    assert refused(of("a"), other)[0] == [
        "  members.m0.weights: 000000000000… then, ffffffffffff… now (and of 4 more members)"
    ]


def test_another_rule_of_a_result_with_its_members_is_a_matter_of_combining(tmp_path):
    def of(name, datasets=("prediction", "members")):
        member = {"numerics": {"precision": "float32"}}
        rule = {"name": name, "space": "probabilities"}
        return {"members": {"m": member}, "rule": rule, "outputs": OUTPUTS | {"datasets": list(datasets)}}

    output = tmp_path / "out.h5"
    output.touch()
    (tmp_path / "out.run").mkdir()
    _, ways = refused(of("mean"), of("vote"), output, output=output)
    combine = f"hpcens combine {output} -c hpcens.yaml -o out.combined.h5"
    assert f"to combine its members anew: {combine}" in ways
    assert f"to begin anew, and lose what is there: rm -r {output} {tmp_path / 'out.run'}" in ways
    assert "to have both: write another output in the YAML, output: {path: out.new.h5}" in ways
    for unfit in (of("mean", ["prediction"]), of("mean") | {"data": 1}):
        assert not any("combine" in way for way in refused(unfit, of("vote"), output, output=output)[1])
    assert not any("combine" in way for way in refused(of("mean"), of("vote"), tmp_path / "out.run", output=output)[1])


def test_views_that_changed_are_named_one_by_one_and_their_code_by_its_file():
    def of(*views, code="a"):
        seen = {f"views[{i}]": view for i, view in enumerate(views)} | {"space of views": "probabilities"}
        return {"members": {"m": {"code of views[1]": "1" * 64, "code of views[1].undo": code * 64, **seen}}}

    own = "json.decoder:JSONDecoder, undone by hpcens.shell:quoted"
    assert refused(of("identity", own), of("identity", own, code="b"))[0] == [
        "  the code of m changed: hpcens/shell.py"
    ]
    assert refused(of("identity", own, "hflip"), of("identity", own))[0] == [
        "  members.m.views[2]: hflip then, absent now"
    ]
    lines, _ = refused({"members": {"m": {}}}, {"members": {"m": {"views[0]": "hflip"}}})
    assert lines == [
        "  members.m.views[0]: absent then, hflip now → no members[].views in the YAML is what it was made with"
    ]
