"""What a cast may cost: complex numbers stay complex, float64 stays float64 or is refused, lost numbers are found."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto
from support import precise
from support.member_files import X, as_onnx, exported, load, module_of, outputs, traced
from support.precise import seeded
from support.project import ENSEMBLE

from hpcens.errors import MemberError
from hpcens.members.casting import Cast
from hpcens.members.preprocess import Preprocessing
from hpcens.specs import MemberSpec, NormalizeSpec, ResizeSpec, StepSpec

WIDE = X.double()
SUPPORT = Path(precise.__file__).parent
COMPLEX = ["Spectral", "Rotary"]


@pytest.fixture
def spec(elsewhere):
    """The spec of a network, in a file of any kind."""
    shutil.copy(SUPPORT / "precise.py", elsewhere / "networks.py")

    def of(network, source="factory", state=None, **more):
        module = seeded(getattr(precise, network))
        file = elsewhere / f"m{source}.pt"
        if source == "factory":
            torch.save(module.state_dict() if state is None else state, file)
            more = {"factory": f"networks:{network}", "weights": file} | more
        elif source == "torchscript":
            traced(module, file, X)
            more["torchscript"] = file
        elif source == "exported":
            more["exported"] = file.with_suffix(".pt2")
            exported(module, more["exported"], WIDE if network == "Energies" else X)
        else:
            import networks

            torch.save(seeded(getattr(networks, network)), file)
            more |= {"pickled": file, "trust": "pickle"}
        return MemberSpec(**{"name": "a", "output": "values"} | more)

    return of


def given(member, rows=X, folder=None):
    return outputs(load(member, folder or member.file.parent, space="values"), rows)


class TestComplexNumbers:
    @pytest.mark.parametrize("network", COMPLEX)
    @pytest.mark.parametrize("source", ["factory", "torchscript", "exported", "pickled"])
    def test_stay_complex_in_every_kind_of_file(self, spec, network, source, monkeypatch):
        if (network, source) == ("Spectral", "exported") and torch.__version__.startswith("2.6."):
            pytest.skip("torch 2.6 cannot export a Fourier transform")
        monkeypatch.syspath_prepend(spec("Single").file.parent)
        got = given(spec(network, source))
        torch.testing.assert_close(got, seeded(getattr(precise, network))(X), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("network", COMPLEX)
    def test_are_as_wide_as_the_real_ones(self, spec, network):
        got = given(spec(network, precision="float64"), WIDE)
        plain = seeded(getattr(precise, network))
        plain._apply(lambda x: x.to(torch.complex128 if x.is_complex() else torch.float64))
        assert got.dtype == torch.float64 and torch.equal(got, plain(WIDE))

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_stay_complex_beside_narrow_real_ones(self, spec, precision):
        module = module_of(load(spec("Spectral", precision=precision), spec("Spectral").file.parent, space="values"))
        assert module.weight.dtype == torch.complex64 and module.out.weight.dtype == getattr(torch, precision)
        assert torch.equal(module.weight, seeded(precise.Spectral).weight)

    def test_are_not_put_into_real_ones(self, spec):
        state = {k: v.to(torch.complex64) for k, v in seeded(precise.Single).state_dict().items()}
        with pytest.raises(MemberError, match=r"net\.1\.weight, .* is complex in the file, real in the module"):
            given(spec("Single", state=state | {"offset": torch.tensor(-1.0)}))


class TestFloat64:
    @pytest.mark.parametrize("source", ["factory", "torchscript", "exported", "pickled"])
    def test_is_refused_until_the_precision_is_written(self, spec, source, monkeypatch):
        monkeypatch.syspath_prepend(spec("Single").file.parent)
        with pytest.raises(MemberError, match=r"member a holds float64 \(\S+, .*and float32 would round it") as caught:
            given(spec("Energies", source))
        assert "precision: float64" in caught.value.remedy and "precision: float32" in caught.value.remedy
        plain = seeded(precise.Energies)
        exact = given(spec("Energies", source, precision="float64"), WIDE)
        assert exact.dtype == torch.float64 and torch.equal(exact, plain(WIDE))
        if source == "factory":  # a graph may have dtypes of its own
            rounded = given(spec("Energies", precision="float32"))
            assert rounded.dtype == torch.float32 and torch.equal(rounded, plain.float()(X))

    @pytest.mark.parametrize("tensor", ["parameter", "buffer", "complex"])
    def test_is_recognised_in_one_tensor_of_many(self, spec, tensor):
        made = spec("Single").file.with_name("w.pt")
        torch.save(precise.Wide(tensor).state_dict(), made)
        member = MemberSpec(name="a", factory="networks:Wide", arguments={"kind": tensor}, weights=made)
        with pytest.raises(MemberError, match=r"member a holds float64 \(wide\)"):
            load(member, made.parent)

    def test_weights_are_not_rounded_to_what_the_factory_builds(self, spec):
        state = seeded(precise.Energies).state_dict()
        got = given(spec("Single", state=state, precision="float64"), WIDE)
        assert torch.equal(got, seeded(precise.Energies)(WIDE))

    def test_what_does_not_compute_in_it_is_refused(self, spec):
        with pytest.raises(MemberError, match=r"member a returned float32 \(9, 2\) under precision: float64"):
            given(spec("Rounding", precision="float64"), WIDE)

    def test_an_onnx_graph_of_doubles_is_run_as_it_says(self, linear, tmp_path):
        def member(kind, precision):
            as_onnx(linear, tmp_path / "m.onnx", kind=kind)
            return MemberSpec(name="a", onnx=tmp_path / "m.onnx", precision=precision, output="values")

        with pytest.raises(MemberError, match=r"member a takes float64 \(x\), and float32 would round it"):
            given(member(TensorProto.DOUBLE, None))
        assert given(member(TensorProto.DOUBLE, "float32")).dtype == torch.float32
        got = given(member(TensorProto.DOUBLE, "float64"), WIDE)
        assert got.dtype == torch.float64
        torch.testing.assert_close(got, linear.double()(WIDE), rtol=0, atol=1e-14)
        with pytest.raises(MemberError, match=r"takes x as tensor\(float\), and precision: float64 is written"):
            given(member(TensorProto.FLOAT, "float64"))

    def test_steps_compute_in_it(self):
        def prepared(rows, *steps):
            member = MemberSpec(name="a", preprocess=steps, precision="float64")
            [made] = Preprocessing(member, ["x"], ENSEMBLE)(torch.from_numpy(rows))
            assert made.dtype == torch.float64
            return made.numpy()

        rows = np.random.default_rng(2).normal(1e6, 1, (4, 3, 6, 6))
        whole = np.random.default_rng(2).integers(0, 255, (4, 3, 6, 6)).astype(np.uint8)
        normalize = StepSpec(normalize=NormalizeSpec(mean=(1e6, 1e6 + 1, 1e6 - 1), std=(0.1, 0.2, 0.3)))
        mean, std = (np.reshape(v, (3, 1, 1)) for v in ((1e6, 1e6 + 1, 1e6 - 1), (0.1, 0.2, 0.3)))
        assert (prepared(rows) == rows).all()
        assert (prepared(whole) == whole).all()
        assert (prepared(rows, StepSpec(scale=0.1)) == rows * 0.1).all()
        assert (prepared(whole, StepSpec(cast="uint8"), StepSpec(scale=0.1)) == whole * 0.1).all()
        np.testing.assert_allclose(prepared(rows, normalize), (rows - mean) / std, rtol=1e-14)
        assert (prepared(rows, StepSpec(crop=(2, 2))) == rows[:, :, 2:4, 2:4]).all()
        halved = prepared(rows, StepSpec(resize=ResizeSpec(size=(3, 3))))
        np.testing.assert_allclose(halved, rows.reshape(4, 3, 3, 2, 3, 2).mean((3, 5)), rtol=1e-15)
        assert (prepared(rows, StepSpec(call="nets:halved")) == rows / 2).all()


BIG = 2**24
LOST = [
    # as stored, the dtype it is cast to, whether that is written, the numbers, and which of them are lost
    ("i4", "float32", False, [0, BIG, BIG + 1, -BIG, -BIG - 1, 2 * BIG], [2, 4, 5]),
    ("u4", "float32", False, [0, BIG, BIG + 1, 2**32 - 1], [2, 3]),
    ("i8", "float32", False, [0, BIG + 1, -(2**63), 2**63 - 1], [1, 2, 3]),
    ("u8", "float32", False, [0, BIG, 2**63, 2**64 - 1], [2, 3]),
    ("i8", "float64", False, [BIG + 1, 2**53, 2**53 + 1, -(2**53) - 1], [2, 3]),
    ("u8", "float64", False, [2**53, 2**53 + 1, 2**64 - 1], [1, 2]),
    ("i2", "float32", False, [-(2**15), 2**15 - 1], []),
    ("u1", "float32", False, [0, 255], []),
    ("?", "float32", False, [True, False], []),
    ("i4", "float32", True, [BIG + 1], []),
    ("u8", "float32", True, [2**64 - 1], []),
    ("i8", "float32", True, [-(2**63)], []),
    ("i4", "float16", True, [65504, 65520, -70000], [1, 2]),
    ("i4", "bfloat16", True, [2**31 - 1], []),
    ("f8", "float32", False, [1.1, 1e38, 1e39, -1e39, np.inf, np.nan], [2, 3]),
    ("f8", "float64", False, [1e300, np.inf, np.nan], []),
    ("f4", "float16", True, [6e4, 7e4], [1]),
    ("f4", "float32", False, [3e38, np.inf], []),
    ("f4", "uint8", True, [0.9, 255.9, 256, -0.9, -1, np.nan, np.inf], [2, 4, 5, 6]),
    ("f8", "int64", True, [9.2e18, 9.3e18, -9.3e18], [1, 2]),
    ("i2", "uint8", True, [0, 255, 256, -1], [2, 3]),
    ("u8", "int64", True, [2**63 - 1, 2**63], [1]),
    ("u2", "int32", True, [2**16 - 1], []),
    ("i4", "int64", True, [-(2**31)], []),
]


@pytest.mark.parametrize(("stored", "dtype", "written", "numbers", "lost"), LOST)
@pytest.mark.parametrize("row", [(), (3,), (2, 2)])
def test_rows_whose_numbers_a_cast_does_not_keep(stored, dtype, written, numbers, lost, row):
    rows = np.zeros((len(numbers), *row), stored)
    rows.reshape(len(numbers), -1)[:, -1] = np.array(numbers, stored)
    into = getattr(torch, dtype)
    assert Cast(into, written, into).lost(torch.from_numpy(rows)) == lost


def test_a_narrow_member_is_fed_as_it_computes_where_no_step_lies_between():
    rows = torch.tensor([[6e4], [7e4]])

    def lost(*steps):
        member = MemberSpec(name="a", precision="float16", preprocess=steps)
        [cast] = Preprocessing(member, ["x"], ENSEMBLE).casts
        return cast.lost(rows)

    assert lost() == [1] and lost(StepSpec(scale=0.1)) == []
