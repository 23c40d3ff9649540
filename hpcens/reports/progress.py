"""Follow: progress of a start, through its events file, on a terminal or as plain lines now and then."""

from __future__ import annotations

import sys
import time
from typing import IO, Any

from hpcens.runs import Epoch, read_events

_LINE_SECONDS = 10.0


class Follower:
    """Shows what `tick` finds new."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._position = 0
        self._epoch = 0
        self._said = 0.0
        self._first: tuple[float, int] | None = None
        self._phase = 1
        self._bar: Any = None
        self._task: Any = None

    def tick(self, epoch: Epoch) -> None:
        if epoch.number != self._epoch:
            self._epoch, self._position, self._first = epoch.number, 0, None
        for position, event in read_events(epoch.events, self._position):
            self._position = position
            self._show(event)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "world":
                nodes = ", ".join(f"{node} × {ranks}" for node, ranks in event["nodes"].items())
                self.say(f"ranks: {nodes}; {event['library']}")
                if event["wheel"]:
                    self.say("warning: this MPI came with a Python package; over several nodes use the site's own")
            case "profiling":
                self.say(f"profiling: {event['members']} measurements to take")
            case "planned":
                share = 100 * event["throughput"] / event["bound"]
                self.say(f"plan: {event['throughput']:,.0f} rows/s, {share:.1f} % of the bound ({event['limit']})")
            case "draining":
                self.say(f"{event['reason']}: finishing what is under way")
            case "progress":
                self._progress(event)

    def _progress(self, event: dict[str, Any]) -> None:
        rows, of, now = event["rows"], event["of"], event["time"]
        phase, phases = event.get("phase", 1), event.get("phases", 1)
        if self._first is None or phase != self._phase:
            self._first, self._phase = (now, rows), phase
            if phases > 1:
                self.say(f"phase {phase} of {phases}")
            if rows:
                self.say(f"continuing: {rows:,} of {of:,} rows are durable already")
        seconds, fresh = now - self._first[0], rows - self._first[1]
        speed = fresh / seconds if seconds > 0 else 0.0
        if self._out.isatty():
            self._draw(rows, of, speed)
        elif time.monotonic() - self._said > _LINE_SECONDS or rows == of:
            left = f", {(of - rows) / speed:,.0f} s left" if speed and rows < of else ""
            self.say(f"{rows:,} of {of:,} rows ({100 * rows / of:.0f} %), {speed:,.0f} rows/s{left}")

    def _draw(self, rows: int, of: int, speed: float) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                BarColumn(),
                TextColumn("{task.completed:,} of {task.total:,} rows"),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(file=self._out))
            self._task = self._bar.add_task("", total=of)
            self._bar.start()
        self._bar.update(self._task, completed=rows, description=f"{speed:,.0f} rows/s")

    def say(self, line: str) -> None:
        """A line of text, above the bar where there is one."""
        self._said = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(line)
        else:
            print(line, file=self._out, flush=True)
