"""What a rank's own thread did, for how long, and on demand when, for a viewer of traces."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcens.files import write_atomically

# In seconds of this clock; spans are kept in seconds since 1970, so that those of several ranks fit together.
clock = time.perf_counter

INPUT, HAND_OVER = "wait for input", "wait to hand over"
WAITS = (INPUT, HAND_OVER)


Span = tuple[str, float, float, int | None]
"""Name, seconds since 1970, seconds it took, and segment, if it was of one."""


@dataclass(slots=True)
class Timeline:
    """Sum seconds by what was done; keep the spans themselves only where asked to.

    keep    whether to keep them: some hundred bytes each
    since   by `clock`: what was before is not summed; infinite where nothing is yet
    totals  name → seconds
    spans   what was done, in order
    """

    keep: bool = False
    since: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    _since_1970: float = field(default_factory=lambda: time.time() - clock())

    def add(self, name: str, began: float, ended: float, segment: int | None = None, *, kind: str = "") -> None:
        """Note something done from `began` to `ended`, by `clock`.

        kind  what its seconds are summed under; by default its name
        """
        if (seconds := ended - max(began, self.since)) > 0:
            self.totals[kind or name] = self.totals.get(kind or name, 0.0) + seconds
        if self.keep:
            self.spans.append((name, self._since_1970 + began, ended - began, segment))


def write_trace(path: Path, ranks: Iterable[tuple[str, Sequence[Span]]]) -> None:
    """Write the spans of all ranks, each with its role, as JSON that Perfetto and chrome://tracing open."""
    events: list[dict[str, Any]] = []
    for rank, (role, spans) in enumerate(ranks):
        events.append({"name": "process_name", "ph": "M", "pid": rank, "args": {"name": f"rank {rank}: {role}"}})
        events.append({"name": "process_sort_index", "ph": "M", "pid": rank, "args": {"sort_index": rank}})
        for name, began, seconds, segment in spans:
            at = {"pid": rank, "tid": 0, "ts": round(1e6 * began, 1), "dur": round(1e6 * seconds, 1)}
            events.append({"name": name, "ph": "X", **at} | ({} if segment is None else {"args": {"segment": segment}}))
    write_atomically(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))
