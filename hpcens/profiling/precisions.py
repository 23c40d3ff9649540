"""Precisions: what a device can compute in, and what `precision: auto` may choose from.

Float32 is measured first. Each narrower precision is measured in eager and held against it on some hundreds of rows
from all over the dataset; where it is near enough, and not much slower, it is measured in the other runtimes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from hpcens.engine import Hardware
from hpcens.errors import DeviceOutOfMemory, MemberError, UsageError
from hpcens.profiling.budget import budget, pays_from
from hpcens.runtimes.agreement import tolerance_in
from hpcens.specs import MemberSpec, Precision, RunSpec
from hpcens.vocabulary import Family, Measurement, Numerics, Profile, ProfileKey

JUDGED = 512
"""Rows of the dataset on which a precision is held against float32, where there are so many."""
_LEAST_JUDGED = 256
# A part of float32's rows/s at its best, below which a precision in eager will not become the fastest in any runtime.
_HOPE = 0.3
_RIVALS: Mapping[Family, tuple[Precision, ...]] = {"cpu": ("bfloat16",), "cuda": ("tf32", "bfloat16", "float16")}

Take = Callable[[Measurement], Iterator[tuple[ProfileKey, Profile]]]
"""Takes a measurement of one precision."""


def require_able(member: MemberSpec, hardware: Hardware) -> None:
    """Raise UsageError where the device would compute in another precision than the member's, without a word."""
    if member.computes_in == "tf32" and (why := hardware.lacks("tf32")):
        raise UsageError(
            f"member {member.name} cannot be computed in tf32 on {hardware.name}: {why}",
            "write precision: float32 for it, or devices: {cuda: …} of GPUs that do",
        )


def rivals(member: MemberSpec, family: Family) -> tuple[Precision, ...]:
    """Return the precisions that may be chosen for a member instead of float32; () where its own is written."""
    return _RIVALS[family] if member.precision == "auto" else ()


def is_chosen(member: MemberSpec, spec: RunSpec, fixed: Numerics | None) -> bool:
    """Tell whether a member's precision, narrower than float32, is chosen in this start.

    spec   as it is written
    fixed  numerics that are decided already
    """
    left_open = any(each.name == member.name and each.precision == "auto" for each in spec.members)
    decided = fixed is not None and member.name in fixed.members
    return left_open and not decided and member.computes_in != "float32"


def shortfall(profile: Profile, pace: float, tolerance: float) -> str:
    """Say why a precision is not the one to take, in words; empty where it may be.

    profile    of it, in one runtime
    pace       rows/s of float32 at its best
    tolerance  `plan.precision_tolerance`
    """
    if profile.refused:
        return profile.refused
    if profile.rounding > tolerance:
        return f"off by {profile.rounding:.2g} from float32"
    return f"{profile.best / pace:.2g} × the rows/s of float32" if profile.best < _HOPE * pace else ""


def off_float32(profile: Profile, rows: int, tolerance: float) -> str:
    """Say why a member may not run so in a precision that is chosen for it: of each runtime float32 is the measure.

    profile    of a runtime in a narrower precision
    rows       of the dataset
    tolerance  `plan.precision_tolerance`
    Empty where it may.
    """
    if profile.rounding > tolerance:
        return f"it is off by {profile.rounding:.2g} from float32, more than plan.precision_tolerance"
    return "" if is_judged(profile, rows) else "it was not held against float32 on enough rows"


def is_judged(profile: Profile, rows: int) -> bool:
    """Tell whether a profile was held against float32 on enough of the rows of a dataset, or needs not be."""
    return bool(profile.refused) or profile.judged >= min(_LEAST_JUDGED, rows)


def race(measurement: Measurement, take: Take, hardware: Hardware) -> Iterator[tuple[ProfileKey, Profile]]:
    """Take a measurement, and then those of its rivals in narrower precisions."""
    found = list(take(measurement)) if measurement.keys else []
    yield from found
    pace = max((profile.best for _, profile in found), default=0.0) or measurement.pace
    for precision, keys in measurement.rivals.items():
        tolerance = tolerance_in(precision, measurement.tolerance)
        member = replace(measurement.member, precision=precision)
        narrow = replace(measurement, member=member, keys=keys, eager=None, rivals={}, tolerance=tolerance, judges=True)
        yield from _of_rival(narrow, precision, take, hardware, pace, measurement.precision_tolerance)


def _of_rival(
    narrow: Measurement, precision: Precision, take: Take, hardware: Hardware, pace: float, tolerance: float
) -> Iterator[tuple[ProfileKey, Profile]]:
    """Measure a precision in its first runtime, and in the others where that gives hope."""
    (first, key), *others = narrow.keys.items()
    judging = 2 * min(JUDGED, narrow.rows) / pace if pace else 0.0
    if why := hardware.lacks(precision):
        yield from _refused(narrow.keys.values(), why)
        return
    if pace and judging > budget(narrow.rows, pace, narrow.seconds) and not narrow.thorough:
        what = f"to hold it against float32 would not pay for {narrow.rows:,} rows"
        worth = max(narrow.rows + 1, pays_from(judging, pace, narrow.seconds))
        yield key, _nothing(what, worth)
        return
    try:
        [(_, profile)] = take(replace(narrow, keys={first: key}))
    except (MemberError, DeviceOutOfMemory) as error:
        yield from _refused(narrow.keys.values(), error.what)
        return
    yield key, profile
    if others and not shortfall(profile, pace, tolerance):
        yield from take(replace(narrow, keys=dict(others), eager=profile))


def _refused(keys: Iterable[ProfileKey], why: str) -> Iterator[tuple[ProfileKey, Profile]]:
    for key in keys:
        yield key, _nothing(why)


def _nothing(why: str, worth_from: int | None = None) -> Profile:
    return Profile(0, 0, 0.0, (), refused=why, worth_from=worth_from)
