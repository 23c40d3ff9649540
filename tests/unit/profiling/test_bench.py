"""Profiles: batch sizes until memory or time is used up, and runtimes held against eager."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.engines import Cpu, Cuda
from support.profiles import ROWS, keys, profile, profile_within, profiles
from support.project import ENSEMBLE
from torch import nn

import hpcens.profiling.bench
from hpcens.errors import DeviceOutOfMemory, MemberError, RuntimeUnsuited
from hpcens.profiling import ProfileBook
from hpcens.profiling.bench import difference, measure, precise
from hpcens.specs import MemberSpec, RunSpec
from hpcens.vocabulary import Measurement, cpu_devices

pytestmark = pytest.mark.usefixtures("one_thread")


class TestProfile:
    @pytest.mark.parametrize(("name", "factory"), [("linear", "Linear"), ("conv", "Conv"), ("recurrent", "Recurrent")])
    def test_of_real_networks(self, weights, name, factory, monkeypatch):
        monkeypatch.setattr(hpcens.profiling.bench, "_WORTH_GOING_ON", 0.0)
        spec = MemberSpec(name=name, factory=f"nets:{factory}", weights=weights / f"{name}.safetensors")
        got = profile(spec, (4, 1, 16))
        assert got.output_shape == (4,) and got.tried == (1, 4, 16) and list(got.batches) == [1, 4, 16]
        parameters = (weights / f"{name}.safetensors").stat().st_size
        assert got.weights >= parameters - 2000 and got.context > 1 << 20 and got.load_seconds > 0
        for batch, of in got.batches.items():
            assert of.batch == batch and of.rows_per_second > 0 and of.workspace >= 0 and of.spread >= 0

    def test_one_size_is_always_measured(self, member):
        got = profile(member, (8, 4, 16), seconds=0)
        assert list(got.batches) == [4] and got.tried == (4, 8, 16) and got.batches[4].rows_per_second > 0

    @pytest.mark.parametrize("family", [Cpu, Cuda])
    def test_ends_at_the_size_that_does_not_fit(self, family, member, monkeypatch):
        got = profile_within(monkeypatch, member, family(), 8, (2, 8, 9, 16))
        assert list(got.batches) == [2, 8] and got.tried == (2, 8, 9, 16)

    @pytest.mark.parametrize("family", [Cpu, Cuda])
    @pytest.mark.parametrize("fits", [0, 1, 3])
    def test_not_even_the_smallest_size_fits(self, family, member, monkeypatch, fits):
        with pytest.raises(DeviceOutOfMemory, match="member conv: a batch of 4 rows does not fit"):
            profile_within(monkeypatch, member, family(), fits, (4, 8))

    def test_ends_where_the_rows_alone_do_not_fit(self, member, monkeypatch):
        row = 3 * 8 * 8 * 4
        got = profile_within(monkeypatch, member, Cuda(room=8 * row), None, (4, 8, 16))
        assert list(got.batches) == [4, 8]
        with pytest.raises(DeviceOutOfMemory, match="a batch of 16 rows"):
            profile_within(monkeypatch, member, Cuda(room=8 * row), None, (16, 32))

    def test_a_member_that_fails_is_told_as_it_is(self, weights):
        spec = MemberSpec(name="raising", factory="nets:Raising", weights=weights / "linear.safetensors")
        with pytest.raises(MemberError, match="dislikes three rows"):
            profile(spec, (3, 4))


finite = st.integers(-1000, 1000).map(lambda n: n / 100)


class TestDifference:
    @given(arrays(np.float32, (3, 4), elements=finite.map(np.float32)))
    def test_of_equals_is_nothing(self, values):
        assert difference(values, values, probabilities=True) == difference(values, values, probabilities=False) == 0

    @given(arrays(np.float32, (3, 4), elements=finite.map(np.float32)), st.integers(0, 2), st.integers(0, 3))
    def test_is_that_of_the_worst_value(self, values, row, column):
        moved = values.copy()
        moved[row, column] += 1
        largest = np.abs(values[row]).max()
        assert difference(moved, values, probabilities=True) == pytest.approx(1, abs=1e-5)
        wanted = 1 / largest if largest else np.inf
        assert difference(moved, values, probabilities=False) == pytest.approx(wanted, rel=1e-4)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_nan_is_equal_to_nothing_but_itself(self, bad):
        values = np.ones((2, 3), np.float32)
        spoiled = values.copy()
        spoiled[1, 1] = bad
        assert difference(spoiled, spoiled, probabilities=False) == 0
        assert difference(spoiled, values, probabilities=True) == difference(values, spoiled, probabilities=True)
        assert difference(spoiled, values, probabilities=True) == np.inf

    def test_another_shape_is_no_small_difference(self):
        assert difference(np.zeros((2, 1)), np.zeros((2, 3)), probabilities=True) == np.inf


class TestProfiler:
    def test_measures_each_beside_eager(self, member, tmp_path):
        found = profiles(member, tmp_path, "eager", "frozen", "channels_last")
        assert list(found) == ["eager", "frozen", "channels_last"]
        for runtime, got in found.items():
            assert got.batches and not got.refused, runtime
            assert got.difference < 1e-6 and got.output_shape == (4,)

    def test_what_would_not_pay_is_left_for_a_larger_dataset(self, member, tmp_path):
        few = profiles(member, tmp_path, "eager", "frozen", rows=24)["frozen"]
        assert not few.batches and "would not pay for 24 rows" in few.refused and few.worth_from > 24
        book = ProfileBook(tmp_path / "profiles")
        [key] = keys("frozen").values()
        book.put(key, few)
        assert book.covers(key, (4, 8), rows=24, tolerance=1e-4)
        assert not book.covers(key, (4, 8), rows=few.worth_from, tolerance=1e-4)
        assert profiles(member, tmp_path, "eager", "frozen", rows=24, thorough=True)["frozen"].batches

    def test_one_that_is_wrong_is_measured_no_further(self, member, tmp_path, monkeypatch):
        class Wrong(nn.Module):
            def __init__(self, module, inputs, cores, file):
                super().__init__()
                self.module = module

            def forward(self, x):
                return self.module(x) * 1.01

        monkeypatch.setattr("hpcens.runtimes.frozen.build", Wrong)
        found = profiles(member, tmp_path, "eager", "frozen")["frozen"]
        assert found.difference > 1e-4 and not found.batches
        book = ProfileBook(tmp_path / "profiles")
        [key] = keys("frozen").values()
        book.put(key, found)
        assert book.covers(key, (4, 8), rows=1, tolerance=1e-4)
        assert not book.covers(key, (4, 8), rows=1, tolerance=0.1), "for whom that is near enough, it is not timed yet"
        assert profiles(member, tmp_path, "eager", "frozen", tolerance=0.1)["frozen"].batches

    def test_one_that_fails_says_why(self, member, tmp_path, monkeypatch):
        def failing(module, inputs, cores, file):
            raise RuntimeError("operator is not known\nand more")

        monkeypatch.setattr("hpcens.runtimes.frozen.build", failing)
        found = profiles(member, tmp_path, "eager", "frozen")["frozen"]
        assert found.refused == "frozen: RuntimeError: operator is not known" and found.worth_from is None
        book = ProfileBook(tmp_path / "profiles")
        [key] = keys("frozen").values()
        book.put(key, found)
        assert book.covers(key, (4, 8), rows=10**12, tolerance=1e-4)

    @pytest.mark.parametrize("error", [RuntimeUnsuited("not again"), DeviceOutOfMemory("no room", "less"), None])
    def test_contenders_that_cannot_be_held_stay_as_they_were_measured(self, member, tmp_path, monkeypatch, error):
        def fails(bench, engine, contender):
            raise error or ValueError("a fault")

        monkeypatch.setattr(
            "hpcens.profiling.bench.contenders", lambda of, _: [("eager", b) for b in of["eager"].batches]
        )
        monkeypatch.setattr("hpcens.profiling.bench._Bench._contending", fails)
        if error is None:
            with pytest.raises(ValueError, match="a fault"):
                profiles(member, tmp_path, "eager")
        else:
            assert profiles(member, tmp_path, "eager")["eager"].batches

    def test_one_that_would_keep_its_rank_from_answering_is_refused(self, member, tmp_path, monkeypatch):
        monkeypatch.setattr("hpcens.profiling.bench._LONGEST_MUTE", 1e-9)
        found = profiles(member, tmp_path, "eager", "compiled", "channels_last", thorough=True)
        assert "no sign of life" in found["compiled"].refused and found["compiled"].worth_from is None
        assert not found["channels_last"].refused

    def test_the_reference_is_eager_where_that_was_measured_before(self, member, tmp_path):
        eager = profiles(member, tmp_path, "eager")["eager"]
        asked = Measurement(member, keys("frozen"), (4, 8), 0.5, 10**9, 1e-4, False, eager)
        [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
        spec = RunSpec(members=(member,), search_path=ENSEMBLE)
        options = {"inputs": ("images",), "device": device, "space": "probabilities", "rows": (ROWS,)}
        [(key, found)] = measure(asked, spec=spec, cache=tmp_path, **options)
        assert key.runtime == "frozen" and found.batches and 0 <= found.difference < 1e-6


def test_measuring_goes_on_until_the_median_is_precise():
    draw = random.Random(0)
    assert precise([100.0] * 5) and not precise([100.0] * 4)
    assert not precise([80.0, 100.0, 120.0, 90.0, 110.0])
    assert precise([draw.uniform(90, 110) for _ in range(200)])
