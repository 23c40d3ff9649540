"""Members from a factory: ready to predict, or refused with the reason."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from support.member_files import load, module_of
from support.project import ENSEMBLE

from hpcens.errors import USAGE, MemberError, MemberMisnamed
from hpcens.members import member_digests


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
            ({"factory": "nets:Nothing"}, r"cannot import nets:Nothing: there is no Nothing in nets; nets has .*Conv"),
            ({"factory": "nets:nn"}, r"member conv: .*nets:nn is not callable"),
            ({"arguments": {"height": 3}}, r"member conv: nets:Conv\(height=3\): .*height"),
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
                r" gru.bias_ih_l0 and 1 more; unknown body.0.bias, body.0.weight; head.weight is \(4, 32\)",
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

    def test_names_what_was_meant_and_the_line_that_importing_ran(self, member, elsewhere):
        (elsewhere / "two_nets.py").write_text("class CNN:\n    pass\n\nclass MLP:\n    pass\n")
        with pytest.raises(MemberMisnamed) as caught:
            load(replace(member, factory="two_nets:MPL"), elsewhere)
        assert "there is no MPL in two_nets; did you mean MLP?; two_nets has CNN, MLP" in caught.value.what
        (elsewhere / "training.py").write_text("class Net:\n    pass\n\nopen('/no/such/table.csv')\n")
        with pytest.raises(MemberError) as caught:
            load(replace(member, factory="training:Net"), elsewhere)
        assert "FileNotFoundError" in caught.value.what and caught.value.what.endswith("(training.py:4)")
        assert caught.value.remedy.startswith("importing training.py runs it: put the class into a file of its own")

    def test_what_the_configuration_names_wrongly_is_a_fault_of_the_configuration(self, member, tmp_path):
        for changes in (
            {"factory": "nets:Nothing"},
            {"arguments": {"height": 3}},
            {"arguments": {"width": 8, "wdith": 9}},
        ):
            with pytest.raises(MemberMisnamed) as caught:
                load(replace(member, **changes))
            assert caught.value.exit_code == USAGE
        assert "nets:Conv takes " in caught.value.remedy
        for changes in ({"weights": tmp_path / "none"}, {"factory": "nowhere:Net"}):
            with pytest.raises(MemberMisnamed):
                member_digests(replace(member, **changes), ENSEMBLE)

    def test_weights_that_changed_since_the_plan(self, member, tmp_path):
        spec = replace(member, weights=tmp_path / "w.safetensors")
        state = module_of(load(member)).state_dict()
        save_file(state, spec.file)
        before = member_digests(spec, ENSEMBLE)
        state["head.bias"][0] += 1
        save_file(state, spec.file)
        with pytest.raises(MemberError, match=r"member conv: .*w.safetensors changed since the run was planned"):
            load(spec, digests=before)
        assert load(spec) is not None
