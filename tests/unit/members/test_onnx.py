"""Members from ONNX files."""

import os

import pytest
import torch
from onnx import TensorProto
from support.member_files import X, as_onnx, load, outputs
from support.project import ENSEMBLE

from hpcens.errors import MemberError, UsageError
from hpcens.members import member_digests
from hpcens.specs import MemberSpec


class TestOnnx:
    @pytest.mark.parametrize("batch", ["rows", 1, 4])
    @pytest.mark.parametrize("rows", [1, 4, 9])
    def test_gives_what_the_network_gives_under_any_batch_size(self, linear, tmp_path, batch, rows):
        as_onnx(linear, tmp_path / "m.onnx", batch)
        got = outputs(load(MemberSpec(name="a", onnx=tmp_path / "m.onnx"), space="logits"), X[:rows])
        torch.testing.assert_close(got, linear(X[:rows]))

    def test_floats_are_cast_to_what_the_file_takes(self, linear, tmp_path):
        as_onnx(linear, tmp_path / "m.onnx", kind=TensorProto.FLOAT16)
        got = outputs(load(MemberSpec(name="a", onnx=tmp_path / "m.onnx"), space="logits"), X)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, linear(X), rtol=0, atol=192 * 2**-11)

    def test_data_beside_the_file_is_part_of_the_digest(self, linear, tmp_path):
        as_onnx(linear, tmp_path / "m.onnx", external="m.data")
        spec = MemberSpec(name="a", onnx=tmp_path / "m.onnx")
        before = member_digests(spec, ENSEMBLE)
        assert "weights in m.data" in before
        torch.testing.assert_close(outputs(load(spec, space="logits", digests=before), X), linear(X))
        data = tmp_path / "m.data"
        data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
        assert member_digests(spec, ENSEMBLE) != before
        with pytest.raises(MemberError, match="changed since the run was planned"):
            load(spec, digests=before)
        data.unlink()
        with pytest.raises(MemberError, match=r"member a: onnx .*m.data: No such file"):
            member_digests(spec, ENSEMBLE)

    @pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "folder"])
    @pytest.mark.parametrize("name", ["m.data", "m.onnx"])
    def test_only_regular_files_are_read(self, linear, tmp_path, kind, name):
        """A pipe would be waited for, a device never end."""
        as_onnx(linear, tmp_path / "m.onnx", external="m.data")
        (tmp_path / name).unlink()
        if kind == "/dev/zero":
            (tmp_path / name).symlink_to(kind)
        else:
            (os.mkfifo if kind == "pipe" else os.mkdir)(tmp_path / name)
        with pytest.raises(MemberError, match=rf"member a: onnx .*{name}: it is a folder, a pipe or a device"):
            member_digests(MemberSpec(name="a", onnx=tmp_path / "m.onnx"), ENSEMBLE)

    def test_says_why_it_cannot(self, linear, tmp_path):
        as_onnx(linear, tmp_path / "m.onnx")
        spec = MemberSpec(name="a", onnx=tmp_path / "m.onnx")
        with pytest.raises(ValueError, match=r"takes 1 inputs \(x\), not 2"):
            outputs(load(spec, inputs=("images", "meta")), X, X)
        whole = spec.onnx.read_bytes()
        for content in (b"", b"nothing of the kind", whole[: len(whole) // 2]):
            spec.onnx.write_bytes(content)
            with pytest.raises(MemberError, match=r"member a: .*m.onnx is of an unknown format and cannot be read"):
                member_digests(spec, ENSEMBLE), load(spec)

    def test_the_packages_are_named_where_they_are_missing(self, linear, tmp_path, monkeypatch):
        as_onnx(linear, tmp_path / "m.onnx")
        monkeypatch.setattr("hpcens.members.onnx_files.find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r"onnx and onnxruntime is not installed") as caught:
            member_digests(MemberSpec(name="a", onnx=tmp_path / "m.onnx"), ENSEMBLE)
        assert caught.value.remedy == "pip install 'hpcens[onnx]'"


def test_on_a_gpu_it_is_said_that_it_stays_on_cpu_cores(linear, tmp_path, capfd):
    as_onnx(linear, tmp_path / "m.onnx")
    forward = load(MemberSpec(name="a", onnx=tmp_path / "m.onnx"))
    forward.to("cpu")
    assert capfd.readouterr().err == ""
    forward.to("meta"), forward.to("meta")
    assert capfd.readouterr().err.count("warning: member a: ONNX files are run on CPU cores") == 1
