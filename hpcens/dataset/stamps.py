"""Stamps: size and time of files, by which a change is noticed. Of a file cut short the HDF5 library reads zeros."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hpcens.errors import DataError

Stamp = tuple[int, int]

SETTLE = "score it once nobody writes to it any more"


def stamp(path: Path) -> Stamp:
    """Return size in bytes and time in nanoseconds of a file: what changes when its rows do.

    Raises DataError where the file is gone, or cannot be asked for.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read any more: {error.strerror}", "put it back, then run it again") from None
    return status.st_size, status.st_mtime_ns


def describe_stamp(stamp: Stamp) -> str:
    """Return a stamp in words."""
    return f"{stamp[0]} bytes, modified {stamp[1]}"


def describe_file(path: Path) -> str:
    """Return the name and the stamp of a file in words, as the identity of a dataset holds them."""
    return f"{path.name}, {describe_stamp(stamp(path))}"


class Stamps:
    """The files that were read so far, with their stamps when they were first met."""

    def __init__(self) -> None:
        self._first: dict[Path, Stamp] = {}
        self._prepared: frozenset[str] | None = None

    def expect(self, prepared: Iterable[str]) -> None:
        """From now on take no file that is not described here, see `describe_file`."""
        self._prepared = frozenset(prepared)

    def require(self, paths: Iterable[Path]) -> None:
        """Raise DataError where one of the files is not what it was when the run was prepared, or first read."""
        for path in paths:
            now = stamp(path)
            if path not in self._first:
                if self._prepared is not None and describe_file(path) not in self._prepared:
                    raise DataError(
                        f"{path} changed since the run was prepared: now {describe_stamp(now)}",
                        "run the same command again",
                    )
                self._first[path] = now
            elif now != self._first[path]:
                raise DataError(
                    f"{path} changed while it was read: {describe_stamp(self._first[path])} then,"
                    f" {describe_stamp(now)} now",
                    SETTLE,
                )
