"""Graphs from TorchScript and torch.export: the same values, and no code from a file is run."""

import importlib.util
import io
import json
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.member_files import Custom, X, exported, load, outputs, scripted
from torch._export.serde.schema import SCHEMA_VERSION
from torch._export.serde.serialize import serialize

from hpcens.engine.cuda import move_graphs
from hpcens.errors import MemberError
from hpcens.members.network import Network, Passes
from hpcens.specs import MemberSpec

of_today = pytest.mark.skipif(
    importlib.util.find_spec("torch.export.pt2_archive") is None, reason="this torch writes the earlier layout alone"
)


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

    @of_today
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

    @of_today
    def test_code_in_an_exported_program_is_not_run(self, linear, tmp_path, unpickled):
        exported(linear, tmp_path / "m.pt2", X)
        for evil in (f"open('{unpickled}','w')", "exec(s77)", "().__class__"):
            rewritten(tmp_path / "m.pt2", tmp_path / "evil.pt2", None, "", expression=evil)
            with pytest.raises(MemberError, match=r"member a: .*evil.pt2 has code where a size belongs"):
                load(MemberSpec(name="a", exported=tmp_path / "evil.pt2"))
        assert not unpickled.exists()

    def test_neither_is_run_of_the_layout_that_torch_2_6_wrote(self, linear, tmp_path, unpickled):
        content = io.BytesIO()
        torch.save(Custom(), content)
        earlier(linear, tmp_path / "m.pt2")
        member = load(MemberSpec(name="a", exported=tmp_path / "m.pt2"), space="logits")
        assert torch.equal(outputs(member, X), linear(X))
        for evil in (f"open('{unpickled}','w')", "exec(s77)"):
            earlier(linear, tmp_path / "evil.pt2", expression=evil)
            with pytest.raises(MemberError, match=r"member a: .*evil.pt2 has code where a size belongs"):
                load(MemberSpec(name="a", exported=tmp_path / "evil.pt2"))
        earlier(linear, tmp_path / "spoilt.pt2", weights=content.getvalue())
        with pytest.raises(MemberError, match=r"member a: .*spoilt.pt2"):
            load(MemberSpec(name="a", exported=tmp_path / "spoilt.pt2"))
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
            trust = {"trust": ("pickle",)} if key == "pickled" else {}
            spec = MemberSpec(name="a", **{key: file}, **(factory if key == "weights" else {}), **trust)
            with pytest.raises(MemberError, match=f"(?s)member a: .* {said}"):
                load(spec)

    def test_a_whole_module_needs_trust(self, linear, tmp_path):
        torch.save(linear, tmp_path / "whole.pt")
        spec = MemberSpec(name="a", pickled=tmp_path / "whole.pt")
        with pytest.raises(MemberError, match="a pickled module; unpickling it could run any code"):
            load(spec)
        got = outputs(load(replace(spec, trust=("pickle",)), space="logits"), X)
        assert torch.equal(got, linear(X))
        factory = MemberSpec(name="a", factory="nets:Linear", weights=tmp_path / "whole.pt", trust=("pickle",))
        assert torch.equal(outputs(load(factory, space="logits"), X), linear(X))
        torch.save(linear.state_dict(), tmp_path / "whole.pt")
        with pytest.raises(MemberError, match="holds OrderedDict, not a module"):
            load(replace(spec, trust=("pickle",)))


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


def earlier(module, path, weights=None, expression=None):
    """An exported program in the layout of torch 2.6, with a pickle for its weights or code for a size."""
    rows = torch.export.Dim("rows", min=2, max=1024)
    parts = serialize(torch.export.export(module, (X,), dynamic_shapes=({0: rows},)))
    program = parts.exported_program
    if expression:
        program = re.sub(rb'"expr_str": ?"[^"]*"', b'"expr_str": ' + json.dumps(expression).encode(), program)
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("version", ".".join(map(str, SCHEMA_VERSION)))
        made.writestr("serialized_exported_program.json", program)
        made.writestr("serialized_state_dict.pt", weights or parts.state_dict)
        made.writestr("serialized_constants.pt", parts.constants)
        made.writestr("serialized_example_inputs.pt", parts.example_inputs)


class Saves(torch.nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def forward(self, x):
        torch.save(x, self.path)
        return x


class Within(Saves):
    def __init__(self, path: str):
        super().__init__(path)
        self.inner = Saves(path)

    def forward(self, x):
        return self.inner(x)


def kept(x: torch.Tensor) -> torch.Tensor:
    return x + torch.from_file("secret", False, 4, dtype=torch.uint8).sum()


class Reads(torch.nn.Module):
    def forward(self, x):
        return kept(x)


class SavesAsItLoads(torch.nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self):
        return (self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), state[0])

    def forward(self, x):
        return x


class TestFileAccess:
    @pytest.mark.parametrize(
        ("make", "name"), [(Saves, "save"), (Within, "save"), (SavesAsItLoads, "save"), (None, "from_file")]
    )
    def test_a_graph_that_reaches_files_is_refused_unless_trusted(self, tmp_path, make, name):
        written = tmp_path / "written"
        scripted(make(str(written)) if make else Reads(), tmp_path / "m.pt", None)
        written.unlink(missing_ok=True)  # what exporting it may have left
        spec = MemberSpec(name="a", torchscript=tmp_path / "m.pt", output="values")
        with pytest.raises(MemberError, match=f"may read or write files as it runs: it names {name}") as caught:
            load(spec, space="values")
        assert "trust: [file_access] for member a" in caught.value.remedy and not written.exists()
        load(replace(spec, trust=("file_access",)), space="values")
        assert written.exists() == (make is SavesAsItLoads)

    @pytest.mark.parametrize(
        ("code", "name"),
        [
            ("    t = torch\n    t.save(x, 'f')\n    return x", "save"),
            ("    torch . save(x, 'f')\n    return x", "save"),
            ("    return torch.add(x, ops.image.read_file('f'))", "read_file"),
            ("    f = getattr(torch, 'from_file')\n    return f('f', False, 4)", "from_file"),
        ],
    )
    def test_however_it_is_written(self, tmp_path, code, name):
        scripted(torch.nn.ReLU(), tmp_path / "plain.pt", None)
        path = tmp_path / "m.pt"
        with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(path, "w") as made:
            for entry in plain.namelist():
                data = plain.read(entry)
                if entry.endswith(".py"):
                    data = data.rpartition(b"\n    return")[0] + f"\n{code}\n".encode()
                made.writestr(entry, data)
        with pytest.raises(MemberError, match=f"names {name}"):
            load(MemberSpec(name="a", torchscript=path, output="values"), space="values")

    def test_an_exported_graph_as_well(self, tmp_path):
        class Plain(torch.nn.Module):
            def forward(self, x):
                return torch.relu(x)

        exported(Plain(), tmp_path / "plain.pt2", X)
        path = tmp_path / "m.pt2"
        with zipfile.ZipFile(tmp_path / "plain.pt2") as plain, zipfile.ZipFile(path, "w") as made:
            for entry in plain.namelist():
                data = plain.read(entry)
                assert b"from_file" not in data
                made.writestr(entry, data.replace(b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default"))
        with pytest.raises(MemberError, match="names from_file"):
            load(MemberSpec(name="a", exported=path, output="values"), space="values")


def test_what_an_exported_program_makes_itself_is_made_where_it_runs(tmp_path):
    """Story: a program exported on a CPU made its positions there, and was refused on every GPU."""

    class Positions(torch.nn.Module):
        def forward(self, x):
            return x + torch.arange(3, device=x.device) + torch.zeros(3, device="cpu").to("cpu")

    exported(Positions(), tmp_path / "net.pt2", torch.zeros(2, 3))
    forward = load(MemberSpec(name="a", exported=tmp_path / "net.pt2", output="values"), space="values")
    elsewhere = torch.device("meta")
    move_graphs(forward, elsewhere)
    assert forward.to(elsewhere)(torch.zeros(2, 3, device=elsewhere)).device == elsewhere
