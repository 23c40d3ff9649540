"""Members: what cannot be loaded says why; digests change with all that makes the member, and need no torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.project import ENSEMBLE

from hpcens.errors import MemberError
from hpcens.members import digest_of, member_digests
from hpcens.specs import MemberSpec, NormalizeSpec, StepSpec


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
            f"found = member_digests(MemberSpec(name='a', factory={factory!r}, weights=Path({str(member.file)!r})),"
            f" Path({str(tmp_path)!r}));"
            "print(found['code']); sys.exit('torch' in sys.modules)"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
        )
        import hashlib

        assert told.returncode == 0, told.stderr
        assert told.stdout.strip() == hashlib.sha256(b"import torch\n").hexdigest()
