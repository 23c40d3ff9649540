"""The checksum of a segment: XXH3 over its bytes in every output, in their order."""

from __future__ import annotations

import xxhash


class Checksum:
    """Seeded with the segment's number, so that a segment written in another's place is found."""

    def __init__(self, segment: int) -> None:
        self._digest = xxhash.xxh3_64(seed=segment)

    def add(self, data: bytes | memoryview) -> None:
        """Take further bytes into the checksum."""
        self._digest.update(data)

    @property
    def value(self) -> int:
        """The checksum of all bytes so far: 64 bits."""
        return self._digest.intdigest()
