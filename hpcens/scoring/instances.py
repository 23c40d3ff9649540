"""Loading: a device's members of a phase, built, prepared for their runtimes and placed; the last phase's let go."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from hpcens.checks.preflight import Preflight
from hpcens.engine.hardware import use_cores
from hpcens.profiling import ProfileBook, profile_key
from hpcens.specs import RunSpec
from hpcens.vocabulary import Device, Instance, Rows

if TYPE_CHECKING:
    from hpcens.engine.engine import Engine


def open_engine(device: Device, shape: tuple[int, ...], spec: RunSpec) -> Engine:
    """An engine that hosts nothing yet. shape: of a member's output for one row."""
    use_cores(device.cores)
    from hpcens.engine.engine import Engine
    from hpcens.engine.hardware import open_hardware

    return Engine(open_hardware(device), shape if spec.bad_rows == "mask" else None)


def host(
    engine: Engine, device: Device, instances: Iterable[Instance], *, spec: RunSpec, preflight: Preflight, rows: Rows
) -> None:
    """Host these instances instead of what the engine hosts.

    rows  of the dataset, for each input: a whole batch of each member that is prepared for its runtime
    """
    from hpcens.members import load
    from hpcens.runtimes.recipe import Recipe

    engine.clear()
    prepared = ProfileBook.default().prepared
    hosted = {instance.member: instance for instance in instances}
    for member in spec.members:
        if (instance := hosted.get(member.name)) is not None:
            build = partial(
                load,
                member,
                spec,
                inputs=preflight.facts.names,
                space=preflight.space,
                cores=device.cores,
                digests=preflight.digests[member.name],
            )
            key = profile_key(preflight, member, device.kind, instance.runtime)
            whole = member.source != "exported"
            recipe = Recipe(build, instance.runtime, engine.hardware, device.cores, rows, prepared / key.digest, whole)
            again = recipe.make if recipe.fixed else None
            engine.host(member.name, recipe.make(instance.batch), batch=instance.batch, again=again)
    engine.hardware.release()  # what preparing them has left behind
