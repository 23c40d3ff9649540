"""Events: what happened in a run, a JSON object a line, for whoever watches it through files alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Events:
    """Appends to an epoch's events; one writer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def add(self, event: str, **fields: Any) -> None:
        self._file.write(json.dumps({"time": time.time(), "event": event} | fields) + "\n")

    def close(self) -> None:
        self._file.close()


def read_events(path: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole events from a byte position on, each with the position behind it."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start += len(line)
                yield start, json.loads(line)
    except OSError:
        return


def recent(path: Path, tail: int = 1 << 14) -> list[dict[str, Any]]:
    """The newest events, oldest first, read from the end of the file alone."""
    try:
        size = path.stat().st_size
    except OSError:
        return []
    begin = max(0, size - tail)
    with path.open("rb") as file:
        file.seek(begin)
        lines = file.read().split(b"\n")[1 if begin else 0 : -1]
    return [json.loads(line) for line in lines]
