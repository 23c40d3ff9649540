"""Profiles: batch sizes until memory or time is used up, and runtimes held against eager."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.engines import Cpu, Cuda
from support.fake_cuda import Limited
from support.profiles import ROWS, keys, profile, profile_within, profiles
from support.project import ENSEMBLE
from torch import nn

import hpcens.profiling.bench
import hpcens.profiling.timing
from hpcens.errors import DeviceOutOfMemory, MemberError, RuntimeUnsuited, UsageError
from hpcens.profiling import ProfileBook
from hpcens.profiling.bench import measure
from hpcens.profiling.timing import precise
from hpcens.specs import MemberSpec, RunSpec
from hpcens.vocabulary import Measurement, cpu_devices

pytestmark = pytest.mark.usefixtures("one_thread")


class TestProfile:
    @pytest.mark.parametrize(("name", "factory"), [("linear", "Linear"), ("conv", "Conv"), ("recurrent", "Recurrent")])
    def test_of_real_networks(self, weights, name, factory, monkeypatch):
        monkeypatch.setattr(hpcens.profiling.bench, "_WORTH_GOING_ON", 0.0)
        monkeypatch.setattr(hpcens.profiling.timing, "precise", lambda speeds: True)
        spec = MemberSpec(name=name, factory=f"nets:{factory}", weights=weights / f"{name}.safetensors")
        got = profile(spec, (4, 1, 16), seconds=60)  # of which three passes of each take next to nothing
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

    def test_a_device_without_the_precision_is_told_by_name(self, weights):
        spec = MemberSpec(name="a", factory="nets:Linear", weights=weights / "linear.safetensors", precision="tf32")
        with pytest.raises(UsageError, match="member a cannot be computed in tf32 on CPU: TF32 is of GPUs"):
            profile(spec)

    def test_a_member_that_fails_is_told_as_it_is(self, weights):
        spec = MemberSpec(name="raising", factory="nets:Raising", weights=weights / "linear.safetensors")
        with pytest.raises(MemberError, match="dislikes three rows"):
            profile(spec, (3, 4))


class Off(nn.Module):
    """Half a unit above in its first class."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x) + torch.tensor([0.5, 0, 0, 0], dtype=x.dtype)


def limited_to(fits):
    """Loads members that run out where a pass has more rows."""
    load = hpcens.profiling.bench.load

    def limited(*of, **options):
        made = load(*of, **options)
        made.passes.module = Limited(made.passes.module, fits, lambda: torch.empty(1 << 50))
        return made

    return limited


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
        assert "preparing frozen pays from" in book.lack(key, (4, 8), rows=few.worth_from, tolerance=1e-4)
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

    @pytest.mark.parametrize("at", [4, 8])
    def test_one_for_whose_preparation_there_is_no_memory_is_left_out(self, member, tmp_path, monkeypatch, at):
        """Story: running out while a runtime was prepared ended the start."""
        from hpcens.runtimes import frozen

        build = frozen.build

        def scarce(module, inputs, cores, file):
            if len(inputs[0]) >= at:
                torch.empty(1 << 50)
            return build(module, inputs, cores, file)

        monkeypatch.setattr("hpcens.runtimes.frozen.build", scarce)
        monkeypatch.setattr(hpcens.profiling.bench, "_WORTH_GOING_ON", 0.0)
        found = profiles(member, tmp_path, "eager", "frozen", thorough=True)
        assert found["eager"].batches
        assert max(found["frozen"].batches, default=0) < at
        assert found["frozen"].batches or "no memory to prepare it for batches of" in found["frozen"].refused

    def test_not_even_eager_can_be_prepared(self, member, monkeypatch):
        def exhausted(*of, **options):
            torch.empty(1 << 50)

        monkeypatch.setattr(hpcens.profiling.bench, "load", exhausted)
        with pytest.raises(DeviceOutOfMemory, match="a batch of 4 rows does not fit"):
            profile(member)

    def test_only_sizes_that_eager_holds_are_prepared(self, member, tmp_path, monkeypatch):
        prepared = []
        from hpcens.runtimes import frozen

        build = frozen.build
        monkeypatch.setattr(
            "hpcens.runtimes.frozen.build", lambda m, x, c, f: (prepared.append(len(x[0])), build(m, x, c, f))[1]
        )
        monkeypatch.setattr(hpcens.profiling.bench, "load", limited_to(4))
        found = profiles(member, tmp_path, "eager", "frozen", thorough=True)
        assert list(found["eager"].batches) == [4] and prepared == [4]

    def test_one_that_gives_other_bits_each_time_is_refused(self, member, tmp_path, monkeypatch):
        class Restless(nn.Module):
            def __init__(self, module, inputs, cores, file):
                super().__init__()
                self.module, self.calls = module, 0

            def forward(self, x):
                self.calls += 1
                return self.module(x) * (1 + self.calls * 2**-23)

        monkeypatch.setattr("hpcens.runtimes.frozen.build", Restless)
        found = profiles(member, tmp_path, "eager", "frozen", thorough=True)
        assert "frozen: it gives other bits each time, where eager gives the same" in found["frozen"].refused

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
        def fails(bench, engine, contender, of):
            raise error or ValueError("a fault")

        monkeypatch.setattr(
            "hpcens.profiling.bench.contenders", lambda of, _: [("eager", b) for b in of["eager"].batches]
        )
        monkeypatch.setattr("hpcens.profiling.bench.Bench._contending", fails)
        monkeypatch.setattr("hpcens.profiling.bench.REPETITIONS", 0)  # there is time for turns, however slow they are
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

    @pytest.mark.parametrize("known", [False, True])
    def test_one_that_is_right_on_the_rows_it_is_prepared_for_alone_is_told_by_others(
        self, member, tmp_path, monkeypatch, known
    ):
        class Remembers(nn.Module):
            """Right on rows without a 2, as a trace is on those that decide as the first did."""

            def __init__(self, module, inputs, cores, file):
                super().__init__()
                self.module = module

            def forward(self, x):
                return self.module(x.clamp(max=1.0))

        monkeypatch.setattr("hpcens.runtimes.frozen.build", Remembers)
        eager = profiles(member, tmp_path, "eager")["eager"] if known else None
        asked = Measurement(
            member, keys("frozen") if known else keys("eager", "frozen"), (4, 8), 0.5, 10**9, 1e-4, False, eager
        )
        [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
        spec = RunSpec(members=(member,), search_path=ENSEMBLE)
        options = {"inputs": ("images",), "device": device, "space": "probabilities", "rows": (ROWS,)}
        alone = {key.runtime: got for key, got in measure(asked, spec=spec, cache=tmp_path / "a", **options)}
        assert alone["frozen"].difference == 0 and alone["frozen"].batches
        others = (np.concatenate([ROWS[:5], 2 * ROWS[5:8]]),)
        found = dict(measure(asked, spec=spec, cache=tmp_path / "b", others=others, **options))
        found = {key.runtime: got for key, got in found.items()}
        assert found["frozen"].difference > 1e-3 and not found["frozen"].batches

    @pytest.mark.parametrize(("noise", "agrees"), [(0.0, True), (0.5, False)])
    def test_a_narrow_runtime_may_be_near_float32_where_eager_rounds_more(
        self, weights, tmp_path, monkeypatch, noise, agrees
    ):
        """Story: what fused operators keep in float32 between them was taken for wrong, since eager rounds it away."""

        class Fused(nn.Module):
            """As the member in float32."""

            def __init__(self, module, inputs, cores, file):
                super().__init__()
                self.module = module.float()

            def forward(self, x):
                return (self.module.module(x.float()) + noise * x.float().flatten(1)[:, :4]).to(x.dtype)

        load = hpcens.profiling.bench.load

        def rounding(spec, *of, **options):
            """Eager in bfloat16 is half a unit off."""
            forward = load(spec, *of, **options)
            if spec.precision == "bfloat16":
                forward.passes.module = Off(forward.passes.module)
                forward._network = replace(forward._network, module=forward.passes.module)
            return forward

        monkeypatch.setattr(hpcens.profiling.bench, "load", rounding)
        monkeypatch.setattr("hpcens.runtimes.frozen.build", lambda m, *of: Fused(m.module, *of))
        spec = MemberSpec(name="conv", factory="nets:Conv", weights=weights / "conv.safetensors", precision="bfloat16")
        found = profiles(spec, tmp_path, "eager", "frozen", others=(ROWS[:9],), tolerance=2e-2)
        assert (found["frozen"].difference < 2e-2) == bool(found["frozen"].batches) == agrees
        alone = profiles(spec, tmp_path / "alone", "eager", "frozen", tolerance=2e-2)
        assert alone["frozen"].difference > 2e-2, "eager alone would refuse it"

    def test_one_that_gives_other_values_each_time_is_refused(self, member, tmp_path, monkeypatch):
        class Dropping(nn.Module):
            def __init__(self, module, inputs, cores, file):
                super().__init__()
                self.module = module

            def forward(self, x):
                return nn.functional.dropout(self.module(x), 0.5)

        monkeypatch.setattr("hpcens.runtimes.frozen.build", Dropping)
        found = profiles(member, tmp_path, "eager", "frozen")
        assert "other values each time" in found["frozen"].refused and found["eager"].same_bits

    def test_a_member_that_gives_other_values_each_time_is_refused(self, weights, tmp_path, monkeypatch):
        """Chance may show on one kind of device alone, where its trial could not see it."""
        spec = MemberSpec(name="chance", factory="nets:Linear", weights=weights / "linear.safetensors")
        load = hpcens.profiling.bench.load

        def dropping(*of, **options):
            forward = load(*of, **options)
            module = forward.passes.module
            forward.passes.module = nn.Sequential(module, nn.Dropout(0.5)).train()
            return forward

        monkeypatch.setattr(hpcens.profiling.bench, "load", dropping)
        with pytest.raises(MemberError, match="chance gives other values each time"):
            profile(spec, (4,))

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
