"""The profiler: measures members on a device, in short and bounded time. See `profiles` for what is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hpcens.checks.steadiness import chance
from hpcens.engine import Engine, Hardware, open_hardware, ran_out
from hpcens.errors import DeviceOutOfMemory, RuntimeUnsuited
from hpcens.members import Forward, load
from hpcens.profiling.budget import budget, pays_from
from hpcens.profiling.loading import Contexts, load_and_weigh
from hpcens.profiling.passes import repeated
from hpcens.profiling.precisions import require_able
from hpcens.profiling.references import Pass, References, labels, rows_to_time
from hpcens.profiling.sizes import GrowthOfMember
from hpcens.profiling.timing import REPETITIONS, timed
from hpcens.profiling.turns import Contender, contenders, decided, settled
from hpcens.runtimes import RUNTIMES, Recipe, filled, open_runtime
from hpcens.runtimes.agreement import tolerance_in
from hpcens.runtimes.catalogue import keeps_files
from hpcens.runtimes.recording import record, recording_of
from hpcens.specs import NARROWER, RunSpec, Space
from hpcens.vocabulary import BatchProfile, Device, Measurement, Profile, ProfileKey, Rows

_WORTH_GOING_ON = 0.85
# Seconds that a batch may take where its rank is mute meanwhile; for the dead it is taken after a minute.
_LONGEST_MUTE = 10.0
# Of the time to measure a member, what goes to near ties.
_REMATCH = 0.2


def measure(
    measurement: Measurement,
    *,
    spec: RunSpec,
    inputs: Sequence[str],
    device: Device,
    space: Space,
    rows: Rows,
    cache: Path,
    others: Rows = (),
    contexts: Contexts | None = None,
) -> Iterator[tuple[ProfileKey, Profile]]:
    """Load the member in each runtime and time it at the batch sizes that can win.

    inputs  names of the dataset's inputs, in their order
    rows    real rows of the dataset, for each input; repeated where a batch needs more
    others  further rows, spread over the dataset, on which runtimes are held against eager too; may be none
    cache   folder in which runtimes keep what takes long to prepare
    contexts  of the process, where it measures several members
    Raises DeviceOutOfMemory where not even the smallest batch fits in eager, UsageError where the device does not
    compute in the member's precision.
    """
    require_able(measurement.member, open_hardware(device))
    load_it = partial(load, measurement.member, spec, inputs=inputs, space=space, cores=device.cores)
    rows, others = rows_to_time(spec, load_it, rows, others)
    labelled = partial(labels, spec=spec, space=space)
    references = References(others, space == "probabilities", labelled=labelled, whole=measurement.judges)
    full = filled(rows, max(measurement.batch_sizes))
    steady = measurement.eager is None or measurement.eager.same_bits
    bench = Bench(
        measurement, spec, tuple(inputs), device, space, full, cache, references, steady, contexts or Contexts()
    )
    if measurement.member.computes_in in NARROWER:
        wide = replace(bench, measurement=replace(measurement, member=replace(measurement.member, precision="float32")))
        engine, smallest = Engine(open_hardware(device)), min(measurement.batch_sizes)
        make = wide.recipe("eager", engine.hardware).make
        references.look_at_float32(engine, make, tuple(array[:smallest] for array in full), measurement.seconds)
    eager = bench.eager() if "eager" in measurement.keys or measurement.eager is None else measurement.eager
    profiles = {runtime: eager if runtime == "eager" else bench.runtime(runtime, eager) for runtime in measurement.keys}
    for runtime, profile in bench.rematch(profiles).items():
        yield measurement.keys[runtime], profile


@dataclass(slots=True)
class Bench:
    """One member on one device, in one runtime after the other. steady: eager gives the same bits each time."""

    measurement: Measurement
    spec: RunSpec
    inputs: tuple[str, ...]
    device: Device
    space: Space
    rows: Rows
    cache: Path
    references: References
    steady: bool
    contexts: Contexts
    began: float = field(default_factory=time.perf_counter)

    def eager(self) -> Profile:
        """Measure every batch size in eager, the smallest first.

        A size is left out when it does not fit, and larger ones are when the speed has fallen off or the time is used
        up; one is always measured.
        """
        sizes = sorted(self.measurement.batch_sizes)
        several = len(self.measurement.keys) > 1
        profile = self.measured("eager", sizes, self.measurement.seconds * (0.5 if several else 1.0))
        if not profile.batches:
            raise DeviceOutOfMemory(
                f"member {self.measurement.member.name}: a batch of {min(sizes)} rows does not fit the memory of"
                f" {self.device.name}",
                "add smaller sizes to plan.batch_sizes in the YAML, or use a device with more memory",
            )
        return profile

    def runtime(self, runtime: str, eager: Profile) -> Profile:
        """Measure a runtime at eager's best batch sizes, if it agrees with eager and pays for its preparation."""
        measurement, spent = self.measurement, time.perf_counter() - self.began
        best = max(eager.batches.values(), key=lambda measured: measured.rows_per_second)
        needed = RUNTIMES[runtime].seconds + eager.load_seconds + (REPETITIONS + 4) * best.batch / best.rows_per_second
        if RUNTIMES[runtime].mute and (seconds := best.batch / best.rows_per_second) > _LONGEST_MUTE:
            why = f"{runtime}: no sign of life from its rank in a batch of {best.batch} rows, {seconds:.0f} s in eager"
            return _refused(eager, why)
        pace = best.rows_per_second, measurement.seconds
        if spent + needed > budget(measurement.rows, *pace) and not measurement.thorough:
            why = f"preparing it would not pay for {measurement.rows} rows"
            return _refused(eager, why, max(measurement.rows + 1, pays_from(spent + needed, *pace)))
        near = [size for size in eager.batches if best.batch / 2 <= size <= best.batch * 2]
        near.sort(key=lambda size: abs(math.log(size / best.batch)))
        if "compiled" in (runtime, RUNTIMES[runtime].records):
            near = near[:1]
        try:
            seconds = measurement.seconds if measurement.thorough else measurement.seconds / len(measurement.keys)
            return self.measured(runtime, near, seconds, best)
        except RuntimeUnsuited as error:
            return _refused(eager, error.what)

    def rematch(self, profiles: dict[str, Profile]) -> dict[str, Profile]:
        """Measure profiles that lie close again, in turns; leave them as they are where they cannot be held."""
        agree = {runtime: p for runtime, p in profiles.items() if p.difference <= self.measurement.tolerance}
        close = contenders(agree, self.device.memory)
        turn = sum(batch / agree[runtime].batches[batch].rows_per_second for runtime, batch in close)
        if not close or REPETITIONS * turn > self.measurement.seconds:
            return profiles
        engine = Engine(open_hardware(self.device))
        turns: dict[Contender, list[float]] = {contender: [] for contender in close}
        try:
            staged = {contender: self._contending(engine, contender, agree) for contender in close}
            share = self.measurement.seconds if self.measurement.thorough else _REMATCH * self.measurement.seconds
            end = time.perf_counter() + max(share, REPETITIONS * turn)
            while time.perf_counter() < end and not decided(turns):
                for (runtime, batch), speeds in turns.items():
                    began = time.perf_counter()
                    engine.run(f"{runtime} {batch}", staged[runtime, batch])
                    speeds.append(len(staged[runtime, batch][0]) / (time.perf_counter() - began))
        except Exception as error:
            expected = isinstance(error, DeviceOutOfMemory | RuntimeUnsuited)
            if not expected and not ran_out(engine.hardware, error):
                raise
            return profiles
        finally:
            engine.clear()
        return settled(profiles, turns)

    def _contending(self, engine: Engine, contender: Contender, profiles: Mapping[str, Profile]) -> Any:
        """Host a contender and run it once; the staged rows of its passes."""
        runtime, batch = contender
        engine.host(f"{runtime} {batch}", self.recipe(runtime, engine.hardware).make(batch), batch=batch)
        staged = self.staged(engine.hardware, batch)
        engine.run(f"{runtime} {batch}", staged)
        return repeated(staged, batch / profiles[runtime].batches[batch].rows_per_second)

    def staged(self, hardware: Hardware, batch: int) -> Any:
        """Stage a batch of rows on the device, for each input."""
        return tuple(hardware.receive(hardware.stage(array[:batch])) for array in self.rows)

    def measured(
        self, runtime: str, sizes: Sequence[int], seconds: float, eager: BatchProfile | None = None
    ) -> Profile:
        """Measure the runtime at these batch sizes, in this order, for about so long, and as long as it is worth it."""
        name, hardware = self.measurement.member.name, open_hardware(self.device)
        before = hardware.resident()
        open_runtime(runtime)  # what it imports is no part of a member's memory
        self.contexts.imported(hardware.resident() - before)
        recipe, engine = self.recipe(runtime, hardware), Engine(hardware)
        make = partial(self._made, recipe, sizes[0])
        loaded = load_and_weigh(engine, make, name, sizes[0], packaged=keeps_files(runtime), contexts=self.contexts)
        forward: Forward | None = loaded.forward
        if forward is None:
            if runtime == "eager":
                return Profile(0, loaded.context, 0.0, ())
            raise RuntimeUnsuited(f"{runtime}: there is no memory to prepare it for batches of {sizes[0]} rows")
        tried = tuple(sorted(self.measurement.batch_sizes))
        profile = Profile(loaded.weights, loaded.context, loaded.seconds, (), {}, tried)
        loaded.forward = None  # it is let go below, where there is room for one alone
        batches: dict[int, BatchProfile] = {}
        deadline = time.perf_counter() + seconds
        growth = GrowthOfMember(eager, patient=eager is not None or self.device.family == "cpu")
        for i, batch in enumerate(sizes):
            if i and recipe.fixed:
                engine.clear()  # a run holds one of them, and there may be no room for two
                forward = None
                forward = self._made(recipe, batch)
            if forward is None:
                break
            engine.host(name, forward, batch=batch)
            run = self._pass(engine, hardware, batch, runtime)
            if run is None:
                break
            apart, same = max(profile.difference, run.apart), profile.same_bits and run.same_bits
            profile = replace(profile, output_shape=run.shape, difference=apart, same_bits=same)
            profile = self.references.judged(profile, run.others)
            if profile.difference > self.measurement.tolerance:
                break
            if runtime in self.measurement.keys:
                path = recording_of(recipe.package, batch)
                record(engine, self.measurement.member, self.inputs, tuple(a[:batch] for a in self.rows), path)
            about: dict[str, Any] = {"workspace": run.workspace, "device": self.device, "forward": forward}
            batches[batch] = timed(engine, name, run.staged, batch, deadline=deadline, sizes=len(sizes), **about)
            del run  # its rows: two batches at once are not what a run holds
            if growth.ends(batches[batch], _WORTH_GOING_ON) or time.perf_counter() > deadline:
                break
        return replace(profile, batches=batches)

    def _made(self, recipe: Recipe, batch: int) -> Forward | None:
        """Make the member for batches of this size; None where it does not fit the memory of the device."""
        try:
            return recipe.make(batch)
        except Exception as error:
            if not isinstance(error, DeviceOutOfMemory) and not ran_out(recipe.hardware, error):
                raise
        return None

    def recipe(self, runtime: str, hardware: Hardware) -> Recipe:
        """Return how it comes to run in a runtime."""
        member, cores = self.measurement.member, self.device.cores
        build = partial(load, member, self.spec, inputs=self.inputs, space=self.space, cores=cores)
        key, inner = self.measurement.keys.get(runtime), RUNTIMES[runtime].records
        recorded = self.cache / replace(key, runtime=inner).package if key and inner else None
        package = self.cache / (key.package if key else "")
        return Recipe(build, runtime, hardware, cores, self.rows, package, recorded=recorded)

    def _pass(self, engine: Engine, hardware: Hardware, batch: int, runtime: str) -> Pass | None:
        """Run a batch, and again, and compare what it gives with what eager gives; None where it does not fit.

        Raises MemberError where eager gives other values each time, RuntimeUnsuited where another runtime does.
        """
        name, began = self.measurement.member.name, time.perf_counter()
        try:
            staged = self.staged(hardware, batch)
            hardware.release()
            resting = hardware.resident()
            hardware.start_peak()
            values, used = engine.run(name, staged)
            workspace = max(0, hardware.peak() - resting)
            self.references.limit(batch / (time.perf_counter() - began), self.measurement.seconds)
            hardware.release()  # where memory lies elsewhere, the same bits are to come
            again, _ = engine.run(name, staged)
            if runtime != "eager":
                self.need_reference(batch)
        except Exception as error:
            if not isinstance(error, DeviceOutOfMemory) and not ran_out(hardware, error):
                raise
            return None
        if used < batch:
            return None
        apart = 0.0
        if runtime == "eager":
            several = len(self.measurement.keys) > 1 or self.references.wide is not None
            others = self.references.on_others(engine, name) if several else None
            self.references.outputs[batch] = values, others
        else:
            others = self.references.on_others(engine, name)
            apart = self.references.apart(batch, values, others)
        between = self.references.between_calls(batch, values, again)
        if between > tolerance_in(self.measurement.member.computes_in, self.measurement.tolerance):
            if runtime == "eager":
                raise chance(self.measurement.member, between, self.measurement.tolerance)
            raise RuntimeUnsuited(f"{runtime}: it gives other values each time, {between:.2g} apart")
        same_bits = values.tobytes() == again.tobytes()
        if runtime == "eager":
            self.steady &= same_bits
        elif self.steady and not same_bits:
            raise RuntimeUnsuited(f"{runtime}: it gives other bits each time, where eager gives the same")
        return Pass(staged, values.shape[1:], workspace, apart, others, same_bits)

    def need_reference(self, batch: int) -> None:
        """Run the same rows in eager, unless that was done."""
        if batch not in self.references.outputs:
            hardware = open_hardware(self.device)
            engine = Engine(hardware)
            engine.host("eager", self.recipe("eager", hardware).make(batch), batch=batch)
            values, _ = engine.run("eager", self.staged(hardware, batch))
            self.references.outputs[batch] = values, self.references.on_others(engine, "eager")


def _refused(eager: Profile, why: str, worth_from: int | None = None) -> Profile:
    return Profile(
        eager.weights, eager.context, 0.0, eager.output_shape, tried=eager.tried, refused=why, worth_from=worth_from
    )
