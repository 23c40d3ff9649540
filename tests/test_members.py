"""Members: what cannot be loaded says why; digests change with all that makes the member, and need no torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ENSEMBLE
from safetensors.torch import save_file

from hpcens.errors import MemberError
from hpcens.runtimes.members import digest_of, load, member_digests
from hpcens.specs import MemberSpec


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


class TestLoad:
    def test_gives_the_module_with_its_weights_ready_to_predict(self, member):
        module = load(member, ENSEMBLE, member_digests(member, ENSEMBLE))
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
            load(replace(member, **changes), ENSEMBLE)

    def test_says_so_where_the_factorys_module_fails(self, member, elsewhere):
        (elsewhere / "broken_nets.py").write_text("1 / 0")
        with pytest.raises(MemberError, match="cannot import broken_nets:Net: ZeroDivisionError"):
            load(replace(member, factory="broken_nets:Net"), elsewhere)

    @pytest.mark.parametrize("content", [b"", b"no such thing", b"\x80\x02}q\x00."])
    def test_a_file_that_is_not_safetensors(self, member, tmp_path, content):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(MemberError, match=r"member conv: .*bad is not a safetensors file"):
            load(replace(member, weights=tmp_path / "bad"), ENSEMBLE)

    def test_weights_that_changed_since_the_plan(self, member, tmp_path):
        spec = replace(member, weights=tmp_path / "w.safetensors")
        state = load(member, ENSEMBLE).state_dict()
        save_file(state, spec.weights)
        before = member_digests(spec, ENSEMBLE)
        state["head.bias"][0] += 1
        save_file(state, spec.weights)
        with pytest.raises(MemberError, match=r"member conv: .*w.safetensors changed since the run was planned"):
            load(spec, ENSEMBLE, before)
        assert load(spec, ENSEMBLE) is not None


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
            "from hpcens.runtimes.members import member_digests;"
            f"found = member_digests(MemberSpec(name='a', factory={factory!r}, weights=Path({str(member.weights)!r})),"
            f" Path({str(tmp_path)!r}));"
            "print(found['code']); sys.exit('torch' in sys.modules)"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent
        )
        import hashlib

        assert told.returncode == 0, told.stderr
        assert told.stdout.strip() == hashlib.sha256(b"import torch\n").hexdigest()
