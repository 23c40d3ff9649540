"""Write how several runs, and many files, stand together: one table, the worlds at work, and what failed and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from hpcens.reports.units import clock, failure_lines
from hpcens.runs.status import Status
from hpcens.shell import in_a_line
from hpcens.units.status import UnitsStatus

_MOST_WORLDS = 60
_NOTHING = "·"
_FINE = ("complete", "running")

Name = Callable[[str], str]
"""Returns the path of a run as people are to read it."""


def table_lines(statuses: Sequence[Status | UnitsStatus], name: Name) -> Iterator[str]:
    """Show a line each, and of several what they come to."""
    rows = [("state", "done", "", "rows/s", "left", "job", "run")]
    for each in statuses:
        rows.append((each.state, *_amount(each), _speed(each), _left(each), each.job or _NOTHING, name(each.run)))
    yield from _aligned(rows, right=(1, 3, 4)) if statuses else ()
    if len(statuses) > 1:
        yield sum_line(statuses)


def status_lines(statuses: Sequence[Status | UnitsStatus], name: Name) -> Iterator[str]:
    """Show the table, the worlds that work, and below it why what does not go well does not."""
    yield from table_lines(statuses, name)
    yield from world_lines([each for each in statuses if isinstance(each, UnitsStatus)], name)
    for each in statuses:
        if isinstance(each, UnitsStatus):
            yield from (f"{name(each.run)}: {line}" for line in failure_lines(each))
        elif each.state not in _FINE:
            yield f"{name(each.run)}: {in_a_line(each.reason, 160)}"


def world_lines(statuses: Sequence[UnitsStatus], name: Name) -> Iterator[str]:
    """Show a line for each world that lives: where it is, what it works on since when, how fast, and its age."""
    several = len(statuses) > 1
    rows = [("world", "host", "job", "age", "done", "rows/s", "for", "works on")]
    for each in statuses:
        for world in each.at_work:
            work = in_a_line(world.unit, 80) or "between two"
            work = f"{name(each.run)}: {work}" if several else work
            since = clock(world.unit_seconds) if world.unit else _NOTHING
            speed = f"{world.rows_per_second:,.0f}" if world.rows_per_second else _NOTHING
            who = world.id, world.host, world.job or _NOTHING
            rows.append((*who, clock(world.seconds), str(world.done), speed, since, work))
    if len(rows) > 1:
        yield from _aligned(rows[: _MOST_WORLDS + 1], right=(3, 4, 5, 6))
    if len(rows) > _MOST_WORLDS + 1:
        yield f"… and {len(rows) - 1 - _MOST_WORLDS} more worlds; all: hpcens status --json"


def _amount(status: Status | UnitsStatus) -> tuple[str, str]:
    """Write how much is done of how much, and of what."""
    if isinstance(status, UnitsStatus):
        failed = f", {len(status.failed)} failed" if status.failed else ""
        return f"{status.done:,}", f"of {status.of:,} {status.noun}{failed}"
    phase = f", phase {status.phase} of {status.phases}" if status.phases > 1 else ""
    return f"{status.rows:,}", f"of {status.of:,} rows{phase}"


def _speed(status: Status | UnitsStatus) -> str:
    return f"{status.rows_per_second:,.0f}" if status.state == "running" and status.rows_per_second else _NOTHING


def _left(status: Status | UnitsStatus) -> str:
    return clock(status.seconds_left) if status.code is None and status.seconds_left is not None else _NOTHING


def sum_line(statuses: Sequence[Status | UnitsStatus]) -> str:
    """Count states, worlds and files or blocks, and add up speeds; what is left takes as long as the last of them."""
    states = ", ".join(f"{count} {state}" for state, count in Counter(each.state for each in statuses).items())
    parts = [f"{len(statuses)} runs: {states}"]
    many = [each for each in statuses if isinstance(each, UnitsStatus)]
    for noun in ("files", "blocks"):
        own = [each for each in many if each.noun == noun]
        counts = {
            "done": sum(each.done for each in own),
            "running": sum(each.running for each in own),
            "queued": sum(each.queued for each in own),
            "failed": sum(len(each.failed) for each in own),
        }
        said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        parts += [f"{sum(each.of for each in own):,} {noun}: {said}"] if own else []
    speed = sum(each.rows_per_second for each in statuses if each.state == "running")
    left = [each.seconds_left for each in statuses if each.code is None and each.seconds_left is not None]
    parts += [f"{speed:,.0f} rows/s in all" + (f", {clock(max(left))} left" if left else "")] if speed else []
    return "; ".join(parts)


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int]) -> Iterator[str]:
    """Write rows in columns. right: those that are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            text.rjust(width) if number in right else text.ljust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
