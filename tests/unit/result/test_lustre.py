"""Results on Lustre."""

import pytest
from support.results import EXPECTED, content, directory, score

from hpcens.result.disk import Disk

LFS = """#!/bin/sh
echo "$@" >>"$0.said"
case $1 in
getstripe) echo {stripes} ;;
setstripe) set -C; eval "last=\\${{$#}}"; : >"$last" ;;
esac
"""


@pytest.mark.parametrize(("stripes", "asked"), [("1", True), ("4", False), ("'': not on Lustre; exit 1'", False)])
def test_a_result_on_lustre_is_striped_unless_its_folder_says_how(tmp_path, monkeypatch, stripes, asked):
    (tmp_path / "bin").mkdir()
    lfs = tmp_path / "bin" / "lfs"
    lfs.write_text(LFS.format(stripes=stripes))
    lfs.chmod(0o755)
    monkeypatch.setenv("PATH", str(lfs.parent), prepend=":")
    run = directory(tmp_path)
    making = run.path / "working-0001.making"
    making.touch()  # a start was killed while it made the file
    score(run, tmp_path, Disk())
    said = (tmp_path / "bin" / "lfs.said").read_text().splitlines()
    assert said[0] == f"getstripe -c {run.path}"
    assert said[1:] == ([f"setstripe -c 8 -S 4M {making}"] if asked else [])
    assert content(tmp_path / "out.h5") == EXPECTED
