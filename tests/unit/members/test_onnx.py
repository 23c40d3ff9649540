"""Members from ONNX files."""

import ctypes
import os
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from support.member_files import X, as_onnx, load, outputs
from support.project import ENSEMBLE

from hpcens.errors import MemberError, UsageError
from hpcens.members import member_digests
from hpcens.members.onnx import load_onnx
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


class OnACard:
    """A session of onnxruntime-gpu, as far as the module knows it: it takes pointers, and gives what has no name."""

    made = ()

    def __init__(self, file, options, providers):
        OnACard.made = (*OnACard.made, providers)
        self._inner = REAL(file, options, providers=["CPUExecutionProvider"])
        self._providers = [of if isinstance(of, str) else of[0] for of in providers]

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def get_providers(self):
        return self._providers

    def run(self, *of):
        assert self._providers == ["CPUExecutionProvider"], "its inputs would come to the host"
        return self._inner.run(*of)

    def io_binding(self):
        return SimpleNamespace(
            bind_input=lambda *of: self.inputs.append(of),
            bind_output=lambda *of: self.outputs.append(of),
            get_outputs=lambda: self.given,
            inputs=self.__dict__.setdefault("inputs", []),
            outputs=self.__dict__.setdefault("outputs", []),
        )

    def run_with_iobinding(self, binding):
        arrays = {}
        for name, device, _, kind, shape, place in binding.inputs:
            assert device == "cuda"
            size = int(np.prod(shape)) * np.dtype(kind).itemsize
            arrays[name] = np.frombuffer(ctypes.string_at(place, size), kind).reshape(shape)
        wanted = [name for name, *_ in binding.outputs]
        self.given = [SimpleNamespace(numpy=lambda values=values: values) for values in self._inner.run(wanted, arrays)]


REAL = onnxruntime.InferenceSession


@pytest.mark.parametrize("providers", [["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]])
def test_on_a_gpu_it_runs_there_or_says_that_it_does_not(linear, tmp_path, monkeypatch, capfd, providers):
    waited = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", OnACard)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr("hpcens.members.onnx._finish", lambda: waited.append(1))
    monkeypatch.setattr(OnACard, "made", ())
    as_onnx(linear, tmp_path / "m.onnx")
    module = load_onnx(MemberSpec(name="a", onnx=tmp_path / "m.onnx"), 1).module
    wanted = module(X)
    module.follow(torch.device("cuda", 1))
    assert torch.equal(module(X.double()), wanted)
    if len(providers) == 2:
        [_, [(name, options), _]] = OnACard.made
        assert name == "CUDAExecutionProvider" and options["device_id"] == "1" and options["use_tf32"] == "0"
        assert options["cudnn_conv_algo_search"] == "HEURISTIC" and waited == [1] and capfd.readouterr().err == ""
    else:
        assert "member a: ONNX files are run on CPU cores" in capfd.readouterr().err and waited == []
