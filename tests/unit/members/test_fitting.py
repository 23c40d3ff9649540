"""State dicts that torch takes are taken, with what wrappers and trainers put around them; no other."""

import io
import re
import sys
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file, save_model
from support.member_files import load, module_of

from hpcens.errors import MemberError
from hpcens.members import member_digests
from hpcens.members.fitting import state_digest
from hpcens.specs import MemberSpec, WeightsSpec

CODE = """
import torch
from torch import nn

def seeded(make):
    def factory():
        torch.manual_seed(1)
        return make()
    return factory

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 7, bias=False)
        self.head.weight = self.embed.weight
    def forward(self, x):
        return self.head(self.embed(x))

class Noting(nn.Linear):
    note = None
    def get_extra_state(self):
        return {"note": self.note}
    def set_extra_state(self, state):
        self.note = state["note"]

class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.whole = nn.Parameter(torch.zeros(4))
        self.register_buffer("part", self.whole.data[:2])

tied = seeded(Tied)
linear = seeded(lambda: nn.Linear(2, 3))
net = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
normed = seeded(lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 4, 3)), nn.BatchNorm1d(4)))
lazy = seeded(lambda: nn.Sequential(nn.LazyLinear(3), nn.LazyLinear(2)))
noting = seeded(lambda: nn.Sequential(Noting(2, 3)))
half = seeded(Half)
def quantised():
    return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}, dtype=torch.qint8)
class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = net()
wrapped = seeded(Wrapped)
"""
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The factories of CODE, by name, and what loads a file into the module of one of them."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "fitted.py").write_text(CODE)
    names = {}
    exec(CODE, names)

    def fitted(factory, save, **weights):
        path = tmp_path / "w.pt"
        save(path) if callable(save) else torch.save(save, path)
        spec = MemberSpec(name="m", factory=f"fitted:{factory}", weights=WeightsSpec(path=path, **weights))
        return load(spec, tmp_path)

    yield names, fitted
    sys.modules.pop("fitted", None)


def changed(module):
    """The module with other numbers than its factory gives."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    return module


def same(forward, module):
    assert state_digest(module_of(forward)) == state_digest(module)


def test_tied_weights_may_be_saved_once(own):
    names, fitted = own
    module = changed(names["tied"]())
    same(fitted("tied", lambda path: save_model(module, path)), module)
    same(fitted("tied", {"embed.weight": module.embed.weight.detach()}), module)
    same(fitted("tied", {"head.weight": module.embed.weight.detach()}), module)
    with pytest.raises(MemberError, match="2 missing, 1 unknown"):
        fitted("tied", {"other": torch.zeros(1)})
    half = names["half"]()
    with pytest.raises(MemberError, match=r"1 missing, 0 unknown.*missing whole"):
        fitted("half", {"part": half.part.clone()})


def test_what_older_torch_has_saved_is_converted_by_torch(own):
    names, fitted = own
    module = changed(names["normed"]())
    new = module.state_dict()
    old = OrderedDict()
    for key, value in new.items():
        key = key.replace("parametrizations.weight.original0", "weight_g")
        key = key.replace("parametrizations.weight.original1", "weight_v")
        if not key.endswith("num_batches_tracked"):
            old[key] = value
    assert "0.weight_g" in old
    same(fitted("normed", old), module)
    same(fitted("normed", lambda path: save_file(dict(old), path)), module)


@pytest.mark.parametrize("factory", ["lazy", "noting", "quantised"])
def test_what_is_no_plain_tensor_is_loaded_as_well(own, factory):
    names, fitted = own
    module = names[factory]()
    if factory == "lazy":
        module(torch.ones(1, 2))
    if factory == "noting":
        module[0].note = "kept"
    got = fitted(factory, module.state_dict())
    if factory != "quantised":
        same(got, module)
    if factory == "noting":
        assert module_of(got)[0].note == "kept"
    x = torch.ones(3, 2)
    assert torch.equal(module_of(got)(x), module(x))
    same(fitted(factory, {"state_dict": module.state_dict(), "epoch": 3}), module) if factory == "noting" else None


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_prefix_that_is_the_only_difference_is_taken_off_and_said(own, prefix):
    names, fitted = own
    module = changed(names["net"]())
    got = fitted("net", {prefix + key: value for key, value in module.state_dict().items()})
    same(got, module)
    assert got.notes == (f"all keys of its weights begin with {prefix}, which is left out",)


def test_the_counter_of_an_averaged_model_is_left_out(own):
    names, fitted = own
    averaged = torch.optim.swa_utils.AveragedModel(changed(names["net"]()))
    same(fitted("net", averaged.state_dict()), averaged.module)
    with pytest.raises(MemberError, match="does not fit"):
        fitted("net", {"n_averaged": torch.tensor(1), **names["net"]().state_dict()})


def test_a_prefix_of_the_module_s_own_stays(own):
    names, fitted = own
    module = changed(names["wrapped"]())
    got = fitted("wrapped", module.state_dict())
    same(got, module)
    assert got.notes == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "2.bias"}, "1 missing, 0 unknown, 0 .*missing 2.bias"),
        (lambda s: s | {"3.bias": torch.zeros(1)}, "0 missing, 1 unknown, 0 .*unknown 3.bias"),
        (
            lambda s: s | {"2.bias": torch.zeros(3)},
            r"0 missing, 0 unknown, 1 of another shape.*2.bias is \(3,\) in the",
        ),
        (lambda s: {f"module.{k}": v for k, v in s.items()} | {"extra": torch.zeros(1)}, "missing 0.weight"),
        (lambda s: {f"module.{k}": v for k, v in s.items() if k != "2.bias"}, "4 missing, 3 unknown"),
        (lambda s: {f"net.{k}": v for k, v in s.items()}, "4 missing, 4 unknown"),
        (lambda s: s | {"2.bias": torch.zeros(2, dtype=torch.complex64)}, "2.bias is complex in the file, real in the"),
    ],
)
def test_what_torch_refuses_is_refused(own, change, said):
    names, fitted = own
    with pytest.raises(MemberError, match=f"(?s)member m: .*w.pt does not fit fitted:net .*{said}"):
        fitted("net", change(dict(names["net"]().state_dict())))


def test_what_is_not_listed_of_many_keys_is_counted_and_can_be_seen(own):
    names, fitted = own
    state = dict(names["net"]().state_dict())
    with pytest.raises(MemberError, match=r"missing .*weight, .* and 1 more; unknown .* and 1 more") as caught:
        fitted("net", {f"net.{key}": value for key, value in state.items()})
    assert re.search(r"\nto see all keys, in Python: .*load.*\(.*w\.pt'\)\), .* print\(\*net\(…\)", caught.value.remedy)
    with pytest.raises(MemberError, match="missing") as caught:
        fitted("net", {key: value for key, value in state.items() if key != "2.bias"})
    assert "to see all" not in caught.value.remedy and "more" not in str(caught.value)


class TestCheckpoints:
    """As Lightning and trainers with an average write them."""

    def checkpoint(self, names, **more):
        module = changed(names["net"]())
        state = {f"model.{key}": value for key, value in module.state_dict().items()}
        state |= {"loss.pos_weight": torch.ones(3), "metric.total": torch.zeros(1)}
        return module, {"state_dict": state, "epoch": 4, "optimizer_states": [{"state": {}}], **more}

    def test_key_prefix_and_ignore(self, own):
        names, fitted = own
        module, checkpoint = self.checkpoint(names)
        for key in ("state_dict", None):
            got = fitted("net", checkpoint, key=key, prefix="model.", ignore=("loss.*", "metric.*"))
            same(got, module)

    def test_what_to_write_is_said(self, own):
        names, fitted = own
        with pytest.raises(MemberError, match="does not fit") as caught:
            fitted("net", self.checkpoint(names)[1])
        assert 'weights: {path: w.pt, prefix: "model.", ignore: ["loss.*", "metric.*"]}' in caught.value.remedy

    @pytest.mark.parametrize(
        ("weights", "said"),
        [
            ({"prefix": "model."}, "2 unknown.*unknown loss.pos_weight, metric.total"),
            ({"prefix": "model.", "ignore": ("loss.*",)}, "1 unknown.*unknown metric.total"),
            ({"prefix": "model.", "ignore": ("*", "nothing.*")}, "ignore names nothing.*, and no unexpected key"),
            ({"prefix": "modle."}, "holds no key that begins with modle."),
            ({"key": "ema"}, "holds nothing under ema: it has no ema among state_dict, epoch"),
            ({"key": "state_dict.deeper"}, "it has no deeper among model.0.weight"),
            ({"key": "epoch"}, "holds int under epoch, not a state dict"),
        ],
    )
    def test_nothing_is_left_out_that_is_not_named(self, own, weights, said):
        names, fitted = own
        with pytest.raises(MemberError, match=f"(?s){said}"):
            fitted("net", self.checkpoint(names)[1], **weights)

    def test_nothing_may_be_missing_whatever_is_ignored(self, own):
        names, fitted = own
        _, checkpoint = self.checkpoint(names)
        del checkpoint["state_dict"]["model.0.bias"]
        with pytest.raises(MemberError, match=r"1 missing, 0 unknown.*missing 0.bias"):
            fitted("net", checkpoint, prefix="model.", ignore=("*",))

    def test_the_average_is_chosen_by_its_key(self, own):
        names, fitted = own
        average = changed(changed(names["net"]()))
        module, checkpoint = self.checkpoint(
            names, ema={"shadow": average.state_dict()}, **{"a.b": average.state_dict()}
        )
        checkpoint["state_dict"] = module.state_dict()
        same(fitted("net", checkpoint, key="ema.shadow"), average)
        same(fitted("net", checkpoint, key="a.b"), average)
        same(fitted("net", checkpoint, key="state_dict"), module)
        with pytest.raises(MemberError, match=r"several state dicts \(state_dict, a.b\)") as caught:
            fitted("net", checkpoint)
        assert "weights: {path: w.pt, key: state_dict}" in caught.value.remedy

    def test_a_safetensors_file_has_no_keys_around(self, own):
        names, fitted = own
        with pytest.raises(MemberError, match="holds one state dict alone"):
            fitted("net", lambda path: save_file(names["net"]().state_dict(), path), key="state_dict")

    def test_key_and_prefix_are_part_of_the_member(self, own, tmp_path):
        (tmp_path / "w").write_bytes(b"1")
        spec = MemberSpec(name="m", factory="fitted:net", weights=tmp_path / "w")
        plain = member_digests(spec, tmp_path)
        assert "weights" in plain and not any("of weights" in key for key in plain)
        seen = {str(plain)}
        for more in ({"key": "ema"}, {"prefix": "teacher."}, {"prefix": "student."}):
            seen.add(str(member_digests(replace(spec, weights=WeightsSpec(path=tmp_path / "w", **more)), tmp_path)))
        assert len(seen) == 4


class TestOfTheFactory:
    def spec(self):
        return MemberSpec(name="m", factory="fitted:net", weights=WeightsSpec())

    def test_weights_of_the_factory_are_digested(self, own, tmp_path):
        names, _ = own
        forward = load(self.spec(), tmp_path)
        assert forward.state == state_digest(names["net"]()) and len(forward.state) == 64
        digests = member_digests(self.spec(), tmp_path)
        assert digests["weights"] == "factory"
        load(self.spec(), tmp_path, digests | {"state": forward.state})
        with pytest.raises(MemberError, match="its factory loaded other weights than when it was tried"):
            load(self.spec(), tmp_path, digests | {"state": "0" * 64})

    def test_a_digest_sees_each_number_and_what_is_no_tensor(self, own):
        names, _ = own
        module = names["noting"]()
        before = state_digest(module)
        module[0].note = "other"
        assert state_digest(module) != before
        module[0].note = None
        with torch.no_grad():
            module[0].bias[2] += 1e-7
        assert state_digest(module) != before
        assert state_digest(names["quantised"]()) == state_digest(names["quantised"]())
        assert state_digest(names["linear"]().double()) != state_digest(names["linear"]())


def test_a_file_is_read_from_where_torch_left_it(own):
    """A state dict keeps its versions through a prefix, by which torch converts what older modules have saved."""
    names, fitted = own
    module = changed(names["normed"]())
    holder = torch.nn.Module()
    holder.module = module
    saved = io.BytesIO()
    torch.save(holder.state_dict(), saved)
    same(fitted("normed", torch.load(io.BytesIO(saved.getvalue()))), module)
