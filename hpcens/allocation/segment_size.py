"""The rows of a plan's segments, by the devices that compute them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from hpcens.allocation.problem import Problem
from hpcens.vocabulary import (
    LARGEST_SEGMENT,
    SEGMENT_BYTES,
    Device,
    Family,
    Hosting,
    MemberNumerics,
    Pace,
    Profile,
    choose_segment_rows,
)

# Of a device's work, what a segment may hold: a GPU has the next one staged, and outputs to hand over meanwhile.
_SECONDS: Mapping[Family, float] = {"cpu": 0.5, "cuda": 0.1}
# A batch on a GPU takes no longer than a segment at most, and leaves each device so many.
_LONGEST_SECONDS = 0.2
_BATCHES_PER_DEVICE = 4
# Batches of up to so many rows may be chosen whatever they take.
_SMALL = 128
# Of a GPU's memory, what its segments may take: so many parts, of segments computed, waiting and leaving.
_SHARES_OF_MEMORY, SEGMENTS_HELD = 8, 3
# Bytes of all segments that readers may hold on GPUs' behalf.
_READ_BYTES = 4 << 30


def most_segment_bytes(devices: Sequence[Device]) -> int:
    """Return the bytes that a segment may have on these devices: where GPUs are, more, as their memory allows."""
    if all(device.family == "cpu" for device in devices):
        return SEGMENT_BYTES
    on_device = min(device.memory for device in devices) // (_SHARES_OF_MEMORY * SEGMENTS_HELD)
    by_readers = _READ_BYTES // max(4, SEGMENTS_HELD * len(devices))
    return max(SEGMENT_BYTES, min(LARGEST_SEGMENT, on_device, by_readers))


def timely(problem: Problem, rows: int) -> Problem:
    """Return the problem with profiles of GPUs without batches that would make its segments too large.

    A segment is a whole number of batches of every member: the batch that is best for a fast one may take minutes of a
    slow one, or leave devices without work.

    rows  to score
    """
    gpus = {device.kind for device in problem.devices if device.family == "cuda"}
    fastest: dict[str, float] = {}
    for (_, member, _), profile in problem.profiles.items():
        fastest[member] = max(fastest.get(member, 0.0), profile.best)
    settled = [group for group, members in problem.groups.items() if not fastest.keys() & {*members}]
    columns = [fastest.get(name, 0.0) for name in settled]
    seconds = sum(1 / speed for speed in columns if speed)
    seconds += sum(problem.parts.get(m, 1.0) / fastest[m] for m in problem.members if fastest.get(m))
    by_time = _LONGEST_SECONDS / seconds if seconds else 0.0
    by_bytes = problem.segment_bytes // max(1, problem.row_bytes, _bytes_of_outputs(problem))
    most = max(_SMALL, min(int(by_time), by_bytes, rows // max(1, _BATCHES_PER_DEVICE * len(problem.devices))))

    def fitting(profile: Profile) -> Profile:
        allowed = {size: batch for size, batch in profile.batches.items() if size <= most}
        return replace(profile, batches=allowed) if allowed else profile

    fitted = {key: fitting(p) if key[0] in gpus else p for key, p in problem.profiles.items()}
    return replace(problem, profiles=fitted)


def segment_rows(
    problem: Problem,
    hostings: Iterable[Hosting],
    runs: Mapping[str, MemberNumerics],
    *,
    devices: int,
    earlier: int | None,
) -> int:
    """Choose the rows per segment. devices: that host members; earlier: see `choose_segment_rows`."""
    # a segment is also sent as a member's output, and that may be the larger of the two
    row_bytes = max(problem.row_bytes, problem.output_bytes)
    by_rows = SEGMENT_BYTES // max(1, row_bytes)
    by_rows = max(by_rows, problem.segment_bytes // max(1, row_bytes, _bytes_of_outputs(problem)))
    return choose_segment_rows(
        rows=problem.rows,
        row_bytes=row_bytes,
        paces=tuple(_paces(problem, hostings)),
        devices=devices,
        batches=tuple(numerics.batch for numerics in runs.values()),
        filling=max((runs[m].batch / part for m, part in problem.parts.items() if m in runs), default=0.0),
        copies=sum(problem.parts.values()) + (len(problem.parts) < len(problem.members)),
        most_bytes=by_rows * max(1, row_bytes),
        earlier=earlier,
    )


def _paces(problem: Problem, hostings: Iterable[Hosting]) -> Iterator[Pace]:
    """Yield the pace of each hosting by the profiles alone: what runs reach of them changes from one to the next."""
    of = {device.name: device for device in problem.devices}
    for hosting in hostings:
        device = of[hosting.devices[0]]
        used = [member for member in hosting.speeds if hosting.shares[member] > 0] or list(hosting.speeds)
        seconds = sum(problem.parts.get(member, 1.0) / hosting.speeds[member] for member in used)
        yield Pace(1 / (seconds * problem.reached.get(device.kind, 1.0)), _SECONDS[device.family])


def _bytes_of_outputs(problem: Problem) -> int:
    """Return the bytes of one row of all members' outputs, which a reducer holds until the last has come."""
    return sum(len(problem.groups.get(column, (column,))) for column in problem.members) * problem.output_bytes
