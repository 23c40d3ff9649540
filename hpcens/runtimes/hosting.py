"""Host instances: members are built, prepared for their runtimes and placed on a device; what was there is let go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hpcens.engine import Engine
from hpcens.errors import MemberError
from hpcens.members import Forward, Network, has_code, load, own_modules
from hpcens.runtimes.catalogue import RUNTIMES
from hpcens.runtimes.recipe import Recipe, filled
from hpcens.runtimes.recording import recording_of, repeat
from hpcens.specs import MemberSpec, RunSpec, Space
from hpcens.specs.groups import grouped_spec
from hpcens.usercode.imported import other_code
from hpcens.vocabulary import Instance, Rows
from hpcens.vocabulary.groups import in_units


def host(
    engine: Engine,
    instances: Iterable[Instance],
    *,
    spec: RunSpec,
    inputs: Sequence[str],
    space: Space,
    digests: Mapping[str, Mapping[str, str]],
    cores: int,
    rows: Rows,
    package: Callable[[MemberSpec, str, Sequence[MemberSpec]], Path],
) -> None:
    """Host these instances instead of what the engine hosts.

    inputs   names of the dataset's inputs, in their order
    space    in which the rule combines
    digests  member → digests of what it was made of when the run was checked
    cores    threads of a CPU device
    rows     of the dataset, for each input: a whole batch of each member that is prepared for its runtime
    package  where what takes long to prepare of a member in a runtime is kept, or of the members that run as one
    Raises MemberError where a member does not give what it gave when it was measured.
    """
    engine.clear()
    hosted = {instance.member: instance for instance in instances}
    by_name = {member.name: member for member in spec.members if member.name in hosted}
    how = dict[str, Any](inputs=inputs, space=space, cores=cores)
    for name, names in in_units(by_name, _groups(hosted)).items():
        members, instance = [by_name[each] for each in names], hosted[names[0]]
        if instance.group:
            member = grouped_spec(members, name)
            build = partial(_stacked, members, spec, digests=digests, **how)
        else:
            [member] = members
            build = partial(load, member, spec, digests=digests[name], **how)
        whole = member.source != "exported" and not instance.group
        kept = package(members[0], instance.runtime, members if instance.group else ())
        records = RUNTIMES[instance.runtime].records
        recorded = package(members[0], records, ()) if records is not None else None
        recipe = Recipe(build, instance.runtime, engine.hardware, cores, rows, kept, whole, recorded)
        again = recipe.make if recipe.fixed else None
        before = frozenset(sys.modules)
        engine.host(name, recipe.make(instance.batch), batch=instance.batch, again=again)
        if engine.hardware.cold and rows:
            _warm(engine, name, filled(rows, instance.batch))
        for each in members:
            _require_same_code(each, digests[each.name], before)
        path, tolerance = recording_of(kept, instance.batch), spec.plan.tolerance
        repeat(engine, member, inputs, rows, path, tolerance=tolerance)
    engine.hardware.release()  # what preparing them has left behind


def _groups(hosted: Mapping[str, Instance]) -> dict[str, list[str]]:
    """Return the groups among instances, by member, each with its members."""
    groups: dict[str, list[str]] = {}
    for member, instance in hosted.items():
        if instance.group:
            groups.setdefault(instance.group, []).append(member)
    return groups


def _stacked(members: Sequence[MemberSpec], spec: RunSpec, network: Network | None, **how: Any) -> Forward:
    """Load members that run as one. network: never one that was prepared before, which theirs is not."""
    assert network is None, "nothing of a group is kept"
    from hpcens.members.stacked import load_stacked

    return load_stacked(members, spec, **how)


def _warm(engine: Engine, name: str, rows: Rows) -> None:
    """Run a batch of a member while nothing is staged: algorithms are chosen by the memory that is free now."""
    hardware = engine.hardware
    with suppress(MemberError):  # a bad row among them is for the run to judge
        engine.run(name, tuple(hardware.receive(hardware.stage(array)) for array in rows))


def _require_same_code(member: MemberSpec, digests: Mapping[str, str], before: Collection[str]) -> None:
    """Raise MemberError where loading the member has imported other code than its digests name."""
    if has_code(member) and (other := other_code(before, digests, own_modules(member, digests))):
        raise MemberError(
            f"member {member.name}: {other} the run was checked",
            "run it again; if it stays, remove the trials in the cache: it imports one thing here, another there",
        )
