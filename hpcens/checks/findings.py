"""Findings: what is known of a job before it starts, as rank 0 hands it to all ranks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from hpcens.dataset import Facts, Input, Routed
from hpcens.specs import Space


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found of a job before it starts.

    facts    of the dataset
    digests  of what makes each member: its files, its code, its use
    rule     digests of a rule of the user's own; empty for the others
    space    the one the rule combines in
    stored   members whose outputs are taken from the finished result, to which the job adds others
    unseen   members of whose code it is not known yet what it imports: they have to be tried; see `with_imports`
    unsteady member → what its trial found of its outputs that the result is to say, see `Steadiness.faults`
    warnings what looked wrong of its members when they were tried, but is no fault
    """

    facts: Facts
    digests: Mapping[str, Mapping[str, str]]
    rule: Mapping[str, str]
    space: Space
    stored: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    unsteady: Mapping[str, Mapping[str, float | bool]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Preflight:
        """Return what `to_json` wrote."""
        raw = json.loads(text)
        facts = raw.pop("facts")
        facts |= {key: tuple(facts.get(key, ())) for key in ("remarks", "pixels")}
        if routed := facts.get("routed"):
            sets = tuple(map(tuple, routed["sets"]))
            facts["routed"] = Routed(**routed | {"sets": sets, "first": tuple(routed["first"])})
        facts["inputs"] = tuple(Input(**each | {"shape": tuple(each["shape"])}) for each in facts["inputs"])
        raw |= {key: tuple(raw.get(key, ())) for key in ("stored", "unseen", "warnings")}
        return Preflight(facts=Facts(**facts), **raw)
