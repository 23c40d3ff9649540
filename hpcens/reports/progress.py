"""Follow the progress of a start through its events, as a bar on a terminal or as plain lines now and then."""

from __future__ import annotations

import sys
import time
from typing import IO, Any

from hpcens.reports.text import nodes_phrase, rate
from hpcens.runs import (
    DrainBegan,
    Epoch,
    Event,
    PlanMade,
    ProfilingBegan,
    ProgressMade,
    WorldFormed,
    read_events,
)
from hpcens.shell import counted, printable

_LINE_SECONDS = 10.0


class Follower:
    """Shows what each `tick` finds new in the events of a start.

    out  where to; by default the standard error
    """

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._position = 0
        self._epoch = 0
        self._line_time = 0.0
        self._first: ProgressMade | None = None
        self._complete = False
        self._broken = 0
        self._bar: Any = None
        self._task: Any = None

    def tick(self, epoch: Epoch) -> None:
        """Show what has happened since the last look; all of it where this is another start."""
        if epoch.number != self._epoch:
            self._epoch, self._position, self._first = epoch.number, 0, None
            self._broken = 0
        for position, event in read_events(epoch.events, self._position):
            self._position = position
            self._show(event)

    def close(self) -> None:
        """Leave the terminal as a line of text needs it."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, event: Event) -> None:
        match event:
            case WorldFormed():
                self.say(
                    f"MPI ranks: {nodes_phrase(event.nodes)} (one a device, and readers and reducers); {event.library}"
                )
                if event.wheel:
                    self.say("warning: this MPI came with a Python package; over several nodes use the site's own")
            case ProfilingBegan():
                self.say(f"profiling: {counted(event.members, 'measurement')} to take")
                for why in event.why:
                    self.say(f"  {why}")
            case PlanMade():
                share = (
                    f"{100 * event.throughput / event.bound:.1f} % of the most that is possible at the speeds measured"
                )
                self.say(f"plan: {rate(event.throughput)} predicted, {share}; limited by {event.limit}")
            case DrainBegan():
                self.say(f"{event.reason}: finishing what is under way")
            case ProgressMade():
                self._show_progress(event)

    def _show_progress(self, progress: ProgressMade) -> None:
        for failure in progress.broken[self._broken :]:
            self.say(f"warning: {failure}; others take over its rows")
        self._broken = len(progress.broken)
        rows, total = progress.rows, progress.of
        if self._first is None or progress.phase != self._first.phase:
            self._first, self._complete = progress, False
            if progress.phases > 1:
                self.say(f"phase {progress.phase} of {progress.phases}")
            if rows:
                self.say(f"continuing: {rows:,} of {total:,} rows are durable already")
        seconds, fresh = progress.time - self._first.time, rows - self._first.rows
        speed = fresh / seconds if seconds > 0 else 0.0
        # what is complete is read back, and then reported once more
        repeated, self._complete = self._complete and rows == total, rows == total
        if self._out.isatty():
            self._draw(rows, total, speed)
        elif not repeated and (rows == total or time.monotonic() - self._line_time > _LINE_SECONDS):
            left = f", {(total - rows) / speed:,.0f} s left" if speed and rows < total else ""
            self.say(f"{rows:,} of {total:,} rows ({100 * rows // total} %), {rate(speed)}{left}")

    def _draw(self, rows: int, total: int, speed: float) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                BarColumn(),
                TextColumn("{task.completed:,} of {task.total:,} rows"),
                TextColumn("{task.description}"),
            )
            left = TimeRemainingColumn(), TextColumn("left")
            self._bar = Progress(*columns, *left, console=Console(file=self._out))
            self._task = self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=rows, description=rate(speed))

    def say(self, line: str) -> None:
        """Show a line of text, above the bar where there is one."""
        self._line_time = time.monotonic()
        line = printable(line)  # names in it may be anybody's
        if self._bar is not None:
            self._bar.console.print(line, markup=False)
        else:
            print(line, file=self._out, flush=True)
