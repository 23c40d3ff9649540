"""Choose the precision of each member that leaves it open, from what was measured of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpcens.errors import UsageError
from hpcens.profiling import Needs, profile_key, rivals, shortfall
from hpcens.specs import MemberSpec, Precision
from hpcens.vocabulary import Device

# By so much a precision has to be faster than float32: what it gains is paid for with other numbers.
_WORTH_ROUNDING = 1.1


@dataclass(frozen=True, slots=True)
class _Rival:
    """A precision beside float32.

    gain      times the rows/s of float32, on all devices together; 0 where it may not be taken
    why       it may not, in words; else empty
    rounding, labels, judged  see `Profile`, the worst of the kinds of device
    """

    gain: float
    why: str = ""
    rounding: float = 0.0
    labels: float = 0.0
    judged: int = 0


def chosen_precisions(needs: Needs, devices: Sequence[Device]) -> tuple[Needs, str]:
    """Choose one precision for each member of `precision: auto`, the same on all kinds of device.

    Returns the needs with members in those precisions, and a line for each of what was chosen and what it changes.
    """
    members, lines = [], []
    for member in needs.members:
        if member.precision == "auto":
            member, line = _chosen(needs, member, devices)
            lines.append(line)
        members.append(member)
    return (replace(needs, members=tuple(members)), "\n".join(lines)) if lines else (needs, "")


def _chosen(needs: Needs, member: MemberSpec, devices: Sequence[Device]) -> tuple[MemberSpec, str]:
    families = {device.family for device in devices}
    able = [set(rivals(member, family)) for family in families]
    of_all = [p for family in sorted(families) for p in rivals(member, family) if all(p in each for each in able)]
    found = {precision: _against_float32(needs, member, precision, devices) for precision in dict.fromkeys(of_all)}
    best = max(found, key=lambda precision: found[precision].gain, default=None)
    if best is None or found[best].gain < _WORTH_ROUNDING:
        said = "; ".join(f"{p}: {rival.why or f'{rival.gain:.3g} ×'}" for p, rival in found.items())
        plain = replace(member, precision="float32")
        return plain, f"member {member.name} computes in float32 (precision: auto){f'; {said}' if said else ''}"
    rival = found[best]
    labels = f"{100 * rival.labels:.2g} % of labels differ, " if rival.labels else ""
    return replace(member, precision=best), (
        f"member {member.name} computes in {best} (precision: auto): {rival.gain:.3g} × the rows/s of float32;"
        f" {labels}largest difference {rival.rounding:.1g}, on {rival.judged} rows"
    )


def _against_float32(needs: Needs, member: MemberSpec, precision: Precision, devices: Sequence[Device]) -> _Rival:
    """Hold what was measured of a precision against float32, on every kind of device."""
    kinds = Counter((device.kind, device.family) for device in devices)
    tolerance = needs.job.spec.plan.precision_tolerance
    plain, narrow = (replace(member, precision=of) for of in ("float32", precision))
    before = after = rounding = labels = 0.0
    judged = 0
    for (kind, family), count in kinds.items():
        pace = max(profile.best for profile in needs.usable(plain, kind, family).values())
        first = needs.book.get(profile_key(needs.preflight, narrow, kind, needs.runtimes(narrow, family)[0]))
        if first is None:
            return _Rival(0.0, f"not measured on {kind}")
        if first.refused or (why := shortfall(first, pace, tolerance)):
            return _Rival(0.0, first.refused or why)
        try:
            profiles = needs.usable(narrow, kind, family).values()
        except UsageError as error:
            return _Rival(0.0, error.what)
        fitting = [profile for profile in profiles if profile.batches]
        if not fitting:
            return _Rival(0.0, f"no batch of it is measured on {kind}")
        fastest = max(fitting, key=lambda profile: profile.best)
        before, after = before + count * pace, after + count * fastest.best
        rounding, labels = max(rounding, fastest.rounding), max(labels, fastest.labels)
        judged = max(judged, fastest.judged)
    return _Rival(after / before, "", rounding, labels, judged)
