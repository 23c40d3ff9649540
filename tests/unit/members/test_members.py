"""Members: what cannot be loaded says why; digests change with all that makes the member, and need no torch."""

import io
import json
import os
import re
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from support.project import ENSEMBLE

from hpcens import members
from hpcens.errors import MemberError, UsageError
from hpcens.members import digest_of, member_digests
from hpcens.members.network import Network, Passes
from hpcens.specs import MemberSpec, NormalizeSpec, RunSpec, StepSpec


@pytest.fixture
def member(weights):
    return MemberSpec(name="conv", factory="nets:Conv", weights=weights / "conv.safetensors")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of the test's own to import factories from; what is imported from it is forgotten again."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def load(member, folder=ENSEMBLE, digests=None, inputs=("images",), space="probabilities", classes=None):
    spec = RunSpec(members=(member,), search_path=folder, classes=classes)
    return members.load(member, spec, inputs=inputs, space=space, digests=digests)


def module_of(forward):
    return forward.passes.module


def outputs(forward, *rows):
    with torch.inference_mode():
        return forward(*rows)


class TestFactory:
    def test_gives_the_module_with_its_weights_ready_to_predict(self, member):
        module = module_of(load(member, ENSEMBLE, member_digests(member, ENSEMBLE)))
        torch.manual_seed(7)
        import nets

        nets.Linear()
        wanted = nets.Conv().state_dict()
        assert all(torch.equal(wanted[key], value) for key, value in module.state_dict().items())
        assert not module.training and not any(p.requires_grad for p in module.parameters())

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"factory": "nowhere:Net"}, r"member conv: cannot import nowhere:Net: ModuleNotFoundError"),
            ({"factory": "nets:Nothing"}, r"member conv: cannot import nets:Nothing: AttributeError.*Nothing"),
            ({"factory": "nets:nn"}, r"member conv: .*nets:nn is not callable"),
            ({"arguments": {"height": 3}}, r"member conv: nets:Conv\(height=3\) raised TypeError: .*height"),
            ({"factory": "builtins:dict"}, r"member conv: builtins:dict returned dict, not a torch.nn.Module"),
            (
                {"factory": "sys:exit", "arguments": {}},
                r"member conv: sys:exit\(\) raised SystemExit: exit\(\) was called",
            ),
            (
                {"arguments": {"width": 9}},
                r"\(0 missing, 0 unknown, 3 of another shape\): body.0.weight is \(8, 3, 3, 3\) in the file,"
                r" \(9, 3, 3, 3\) in the module; body.0.bias is \(8,\)",
            ),
            (
                {"factory": "nets:Recurrent"},
                r"\(4 missing, 2 unknown, 1 of another shape\): missing gru.weight_ih_l0, gru.weight_hh_l0,"
                r" gru.bias_ih_l0; unknown body.0.bias, body.0.weight; head.weight is \(4, 32\)",
            ),
        ],
    )
    def test_says_why_it_cannot(self, member, changes, said):
        with pytest.raises(MemberError, match=said):
            load(replace(member, **changes))

    @pytest.mark.parametrize(
        ("code", "said"), [("1 / 0", "ZeroDivisionError"), ("exit('no')", r"SystemExit: exit\(no\) was called")]
    )
    def test_says_so_where_the_factorys_module_fails(self, member, elsewhere, code, said):
        (elsewhere / "broken_nets.py").write_text(code)
        with pytest.raises(MemberError, match=f"cannot import broken_nets:Net: {said}"):
            load(replace(member, factory="broken_nets:Net"), elsewhere)

    def test_weights_that_changed_since_the_plan(self, member, tmp_path):
        spec = replace(member, weights=tmp_path / "w.safetensors")
        state = module_of(load(member)).state_dict()
        save_file(state, spec.weights)
        before = member_digests(spec, ENSEMBLE)
        state["head.bias"][0] += 1
        save_file(state, spec.weights)
        with pytest.raises(MemberError, match=r"member conv: .*w.safetensors changed since the run was planned"):
            load(spec, digests=before)
        assert load(spec) is not None


class Custom:
    """What only a pickle can hold; leaves a trace where it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, (os.environ["UNPICKLED"],))


@pytest.fixture
def state(member):
    return module_of(load(member)).state_dict()


@pytest.fixture
def unpickled(tmp_path, monkeypatch):
    """A path that exists once something was unpickled."""
    monkeypatch.setenv("UNPICKLED", str(tmp_path / "unpickled"))
    return tmp_path / "unpickled"


class TestStateDicts:
    @pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.safetensors"])
    @pytest.mark.parametrize("around", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
    @pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
    def test_of_torch_are_read_whatever_they_are_called(self, member, state, tmp_path, name, around, options):
        torch.save(around(state), tmp_path / name, **options)
        got = module_of(load(replace(member, weights=tmp_path / name))).state_dict()
        assert all(torch.equal(state[key], value) for key, value in got.items())

    @pytest.mark.parametrize(
        ("holds", "said"),
        [
            (lambda s: {"model": s, "ema": s}, "holds several state dicts \\(model, ema\\)"),
            (lambda s: {"epoch": 3}, "holds no state dict under its keys epoch"),
            (lambda s: [1, 2], "holds list, not a state dict"),
            (lambda s: torch.zeros(3), "holds Tensor, not a state dict"),
            (lambda s: {}, "holds no state dict"),
        ],
    )
    def test_that_are_none_or_ambiguous_are_refused(self, member, state, tmp_path, holds, said):
        torch.save(holds(state), tmp_path / "w.pt")
        with pytest.raises(MemberError, match=f"member conv: .*w.pt {said}"):
            load(replace(member, weights=tmp_path / "w.pt"))

    @pytest.mark.parametrize("holds", [lambda s: s | {"extra": Custom()}, lambda s: Custom()])
    @pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
    def test_nothing_is_unpickled_unless_the_member_is_trusted(
        self, member, state, tmp_path, unpickled, holds, options
    ):
        torch.save(holds(dict(state)), tmp_path / "w.pt", **options)
        spec = replace(member, weights=tmp_path / "w.pt")
        with pytest.raises(
            MemberError, match=r"member conv: .*w.pt holds an object of posix.mkdir; unpickling"
        ) as caught:
            load(spec)
        assert "torch.save(module.state_dict(), FILE)" in caught.value.remedy
        assert "trust: pickle for member conv" in caught.value.remedy
        assert not unpickled.exists()
        with pytest.raises(MemberError, match=r"member conv: .*w.pt holds (no state dict|NoneType)"):
            load(replace(spec, trust="pickle"))
        assert unpickled.exists()

    def test_an_array_of_objects_is_refused(self, member, tmp_path):
        torch.save({"a": np.array([{}, 1], object)}, tmp_path / "w.pt")
        with pytest.raises(MemberError, match=r"member conv: .*w.pt holds an object of numpy"):
            load(replace(member, weights=tmp_path / "w.pt"))

    @pytest.mark.parametrize(
        "content", [b"", b"no such thing", b"\x80\x02}q\x00.", b"PK\x03\x04 cut off", b"12345678{"]
    )
    def test_a_damaged_file(self, member, tmp_path, content):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(MemberError, match=r"member conv: .*bad (is|holds) "):
            load(replace(member, weights=tmp_path / "bad"))

    def test_a_cut_off_checkpoint(self, member, state, tmp_path):
        torch.save(state, tmp_path / "w.pt")
        whole = (tmp_path / "w.pt").read_bytes()
        for size in (10, 100, len(whole) // 2, len(whole) - 1):
            (tmp_path / "w.pt").write_bytes(whole[:size])
            with pytest.raises(MemberError, match=r"member conv: .*w.pt is "):
                load(replace(member, weights=tmp_path / "w.pt"))


def scripted(module, path, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(path)


def exported(module, path, x, batch=torch.export.Dim.AUTO):
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},) if batch else None)
    torch.export.save(program, path)


def as_onnx(module, path, batch="rows", kind=TensorProto.FLOAT, external=""):
    """The Linear network, as an ONNX graph."""
    given = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "w", "b"], ["logits"], transB=1),
        ],
        "linear",
        [helper.make_tensor_value_info("x", kind, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", kind, [batch, 4])],
        [
            numpy_helper.from_array(given["head.weight"].astype(dtype), "w"),
            numpy_helper.from_array(given["head.bias"].astype(dtype), "b"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(
        made, path, **{"save_as_external_data": True, "location": external, "size_threshold": 0} if external else {}
    )


@pytest.fixture
def linear(weights):
    return module_of(
        load(MemberSpec(name="linear", factory="nets:Linear", weights=weights / "linear.safetensors"))
    ).eval()


X = torch.from_numpy(np.random.default_rng(0).random((9, 3, 8, 8), np.float32))


class TestGraphs:
    def test_torchscript_is_what_it_was_scripted_from(self, linear, tmp_path):
        scripted(linear, tmp_path / "m.pt", X)
        got = outputs(load(MemberSpec(name="a", torchscript=tmp_path / "m.pt"), space="logits"), X)
        assert torch.equal(got, linear(X))

    @pytest.mark.parametrize("rows", [1, 2, 4, 5, 9])
    @pytest.mark.parametrize(
        "batch", [None, torch.export.Dim.AUTO, torch.export.Dim("rows", min=3, max=4), torch.export.Dim("rows", max=6)]
    )
    def test_an_exported_program_runs_under_any_batch_size(self, linear, tmp_path, batch, rows):
        exported(linear, tmp_path / "m.pt2", X[:4], batch)
        got = outputs(load(MemberSpec(name="a", exported=tmp_path / "m.pt2"), space="logits"), X[:rows])
        assert got.shape == (rows, 4)
        torch.testing.assert_close(got, linear(X[:rows]))

    def test_a_piece_is_padded_with_its_last_row(self):
        seen = []

        def double(x):
            seen.append(x.clone())
            return 2 * x

        class Doubling(torch.nn.Module):
            def forward(self, x):
                return double(x)

        x = torch.arange(6.0).reshape(6, 1)
        assert torch.equal(Passes(Network(Doubling(), 4, 4), lambda values: values)(x), 2 * x)
        assert [piece.flatten().tolist() for piece in seen] == [[0, 1, 2, 3], [4, 5, 5, 5]]

    @given(rows=st.integers(1, 40), least=st.integers(1, 9), more=st.none() | st.integers(0, 9))
    def test_pieces_are_the_rows_and_of_admitted_sizes(self, rows, least, more):
        most = None if more is None else least + more
        pieces = list(Network(torch.nn.Identity(), least, most).slices(rows))
        assert [i for start, stop, _ in pieces for i in range(start, stop)] == list(range(rows))
        assert all(least <= stop - start + padding <= (most or rows + least) for start, stop, padding in pieces)

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    @pytest.mark.parametrize("source", ["torchscript", "exported"])
    def test_run_in_lower_precision(self, linear, tmp_path, source, precision):
        {"torchscript": scripted, "exported": exported}[source](linear, tmp_path / "m", X)
        file = (tmp_path / "m").rename(tmp_path / "m.pt2")
        got = outputs(load(MemberSpec(name="a", precision=precision, **{source: file}), space="logits"), X)
        dtype = getattr(torch, precision)
        assert torch.equal(got, linear.to(dtype)(X.to(dtype)).float())

    def test_a_pickle_in_an_exported_program_is_not_unpickled(self, linear, tmp_path, unpickled):
        exported(linear, tmp_path / "m.pt2", X)
        content = io.BytesIO()
        torch.save(Custom(), content)
        for put, config in (("weight", "weights"), ("sample", "")):
            spoilt = tmp_path / f"{put}.pt2"
            rewritten(tmp_path / "m.pt2", spoilt, content.getvalue(), config)
            with pytest.raises(MemberError, match=f"member a: .*{put}.pt2 holds pickled tensors.*unpickling"):
                load(MemberSpec(name="a", exported=spoilt))
        assert not unpickled.exists()
        assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ

    def test_code_in_an_exported_program_is_not_run(self, linear, tmp_path, unpickled):
        exported(linear, tmp_path / "m.pt2", X)
        for evil in (f"open('{unpickled}','w')", "exec(s77)", "().__class__"):
            rewritten(tmp_path / "m.pt2", tmp_path / "evil.pt2", None, "", expression=evil)
            with pytest.raises(MemberError, match=r"member a: .*evil.pt2 has code where a size belongs"):
                load(MemberSpec(name="a", exported=tmp_path / "evil.pt2"))
        assert not unpickled.exists()

    def test_what_belongs_under_another_key_is_told(self, linear, tmp_path, weights):
        scripted(linear, files := tmp_path / "script", X)
        exported(linear, tmp_path / "e.pt2", X)
        torch.save(linear.state_dict(), tmp_path / "state")
        torch.save(linear, tmp_path / "whole")
        factory = {"factory": "nets:Linear"}
        for key, file, said in [
            ("weights", files, "is a TorchScript file.*give it as torchscript: in the YAML, not weights"),
            ("weights", tmp_path / "e.pt2", "is an exported program.*give it as exported: in the YAML, not weights"),
            ("weights", tmp_path / "whole", "holds an object of .*Linear; unpickling it could run any code"),
            ("torchscript", tmp_path / "e.pt2", "is an exported program.*give it as exported"),
            ("torchscript", tmp_path / "state", "is a torch file.*give it as weights"),
            ("exported", files, "is a TorchScript file.*give it as torchscript"),
            ("exported", weights / "linear.safetensors", "is a safetensors file.*give it as weights"),
            ("pickled", files, "is a TorchScript file.*give it as torchscript"),
            ("torchscript", Path(__file__), "is of an unknown format and cannot be read"),
            ("exported", Path(__file__), "is of an unknown format and cannot be read"),
        ]:
            trust = {"trust": "pickle"} if key == "pickled" else {}
            spec = MemberSpec(name="a", **{key: file}, **(factory if key == "weights" else {}), **trust)
            with pytest.raises(MemberError, match=f"(?s)member a: .* {said}"):
                load(spec)

    def test_a_whole_module_needs_trust(self, linear, tmp_path):
        torch.save(linear, tmp_path / "whole.pt")
        spec = MemberSpec(name="a", pickled=tmp_path / "whole.pt")
        with pytest.raises(MemberError, match="a pickled module; unpickling it could run any code"):
            load(spec)
        got = outputs(load(replace(spec, trust="pickle"), space="logits"), X)
        assert torch.equal(got, linear(X))
        factory = MemberSpec(name="a", factory="nets:Linear", weights=tmp_path / "whole.pt", trust="pickle")
        assert torch.equal(outputs(load(factory, space="logits"), X), linear(X))
        torch.save(linear.state_dict(), tmp_path / "whole.pt")
        with pytest.raises(MemberError, match="holds OrderedDict, not a module"):
            load(replace(spec, trust="pickle"))


def rewritten(path, to, content, config, expression=None):
    """An exported program with a pickle in place of a weight or of its sample inputs, or code for a size."""
    with zipfile.ZipFile(path) as given, zipfile.ZipFile(to, "w") as made:
        for name in given.namelist():
            data = given.read(name)
            if content and name.endswith("sample_inputs/model.pt" if not config else f"{config}/weight_0"):
                data = content
            if config and name.endswith(f"model_{config}_config.json"):
                tree = json.loads(data)
                next(of for of in tree["config"].values() if of["path_name"] == "weight_0")["use_pickle"] = True
                data = json.dumps(tree).encode()
            if expression and name.endswith("models/model.json"):
                data = re.sub(rb'"expr_str": "[^"]*"', b'"expr_str": ' + json.dumps(expression).encode(), data)
            made.writestr(name, data)


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
        monkeypatch.setattr("hpcens.members.onnx.find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r"onnx and onnxruntime is not installed") as caught:
            member_digests(MemberSpec(name="a", onnx=tmp_path / "m.onnx"), ENSEMBLE)
        assert caught.value.remedy == "pip install 'hpcens[onnx]'"


class TestDigests:
    def test_change_with_weights_code_factory_and_arguments(self, member, elsewhere):
        code = elsewhere / "own_nets.py"
        code.write_text("class A: ...\nclass B: ...\n")
        weights = elsewhere / "w"
        weights.write_bytes(b"1")
        spec = replace(member, factory="own_nets:A", weights=weights)
        seen = [digest_of(member_digests(spec, elsewhere))]
        assert digest_of(member_digests(replace(spec, name="other", weight=2.0), elsewhere)) == seen[0]
        for changed in (replace(spec, factory="own_nets:B"), replace(spec, arguments={"a": 1})):
            seen.append(digest_of(member_digests(changed, elsewhere)))
        for use in (
            {"inputs": ("a", "b")},
            {"inputs": ("b", "a")},
            {"select": "0"},
            {"classes": {"a": "a", "b": "b"}},
            {"classes": {"b": "b", "a": "a"}},
            {"preprocess": (StepSpec(scale=2.0), StepSpec(crop=(2, 2)))},
            {"preprocess": (StepSpec(crop=(2, 2)), StepSpec(scale=2.0))},
            {"preprocess": (StepSpec(normalize=NormalizeSpec(mean=(0.5,), std=(0.5,))),)},
            {"preprocess": (StepSpec(call="own_nets:A"),)},
            {"preprocess": (StepSpec(call="own_nets:B"),)},
        ):
            seen.append(digest_of(member_digests(replace(spec, **use), elsewhere)))
        code.write_text("class A: pass\nclass B: ...\n")
        seen.append(digest_of(member_digests(spec, elsewhere)))
        weights.write_bytes(b"2")
        seen.append(digest_of(member_digests(spec, elsewhere)))
        assert len(set(seen)) == len(seen)

    def test_do_not_depend_on_the_order_of_arguments(self, member):
        one, other = ({"width": 8, "classes": 4}, {"classes": 4, "width": 8})
        assert member_digests(replace(member, arguments=one), ENSEMBLE) == member_digests(
            replace(member, arguments=other), ENSEMBLE
        )

    def test_say_what_is_not_there(self, member, tmp_path):
        with pytest.raises(MemberError, match=r"member conv: weights .*none: No such file"):
            member_digests(replace(member, weights=tmp_path / "none"), ENSEMBLE)
        with pytest.raises(MemberError, match=r"member a: exported .*none: No such file"):
            member_digests(MemberSpec(name="a", exported=tmp_path / "none"), ENSEMBLE)
        with pytest.raises(MemberError, match=r"member conv: there is no module 'nowhere'"):
            member_digests(replace(member, preprocess=(StepSpec(call="nowhere:f"),)), ENSEMBLE)
        for factory in ("nowhere:Net", "nowhere.deeper:Net", "nets.deeper:Net", "email.nowhere:Net"):
            with pytest.raises(MemberError, match="member conv: there is no module"):
                member_digests(replace(member, factory=factory), ENSEMBLE)

    @pytest.mark.parametrize("around", ["import torch", "1 / 0", None])
    @pytest.mark.parametrize("depth", [0, 1, 2])
    def test_run_no_code_of_the_member_and_import_no_torch(self, member, tmp_path, around, depth):
        folder = tmp_path.joinpath(*["own"] * depth)
        folder.mkdir(parents=True, exist_ok=True)
        for package in [folder, *folder.parents][:depth]:
            if around is not None:
                (package / "__init__.py").write_text(around)
        (folder / "nets.py").write_text("import torch\n")
        factory = ".".join(["own"] * depth + ["nets"]) + ":Conv"
        code = (
            "import sys; from pathlib import Path; from hpcens.specs import MemberSpec;"
            "from hpcens.members import member_digests;"
            f"found = member_digests(MemberSpec(name='a', factory={factory!r}, weights=Path({str(member.weights)!r})),"
            f" Path({str(tmp_path)!r}));"
            "print(found['code']); sys.exit('torch' in sys.modules)"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
        )
        import hashlib

        assert told.returncode == 0, told.stderr
        assert told.stdout.strip() == hashlib.sha256(b"import torch\n").hexdigest()
