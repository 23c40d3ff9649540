"""Slots: which parts of a reader's shared memory hold rows that somebody may still read."""

from __future__ import annotations

from collections import Counter


class Slots:
    """Give slots to segments. One is free again once its segment is wholly handed out and all its batches released."""

    def __init__(self, count: int | None) -> None:
        """Begin with `count` free slots; None: the rows of every segment get memory of their own."""
        self._shared = count is not None
        self._free = list(reversed(range(count or 0)))
        self._slot_of: dict[int, int] = {}
        self._batches: Counter[int] = Counter()

    @property
    def any_free(self) -> bool:
        """Whether another segment may be read."""
        return not self._shared or bool(self._free)

    def take(self, segment: int) -> int | None:
        """Return the slot that a segment is to be read into."""
        if not self._shared:
            return None
        # the one freed last: what of it is still in a cache is there when it is written
        slot = self._slot_of[segment] = self._free.pop()
        return slot

    def hand_out(self, segment: int) -> int | None:
        """Return the slot of a segment, of which one more batch is handed out: it will be released."""
        slot = self._slot_of.get(segment)
        if slot is not None:
            self._batches[slot] += 1
        return slot

    def close(self, segment: int) -> None:
        """Hand out nothing more of a segment."""
        slot = self._slot_of.pop(segment, None)
        if slot is not None and not self._batches[slot]:
            self._free.append(slot)

    def release(self, slot: int) -> None:
        """Take back a batch of the segment in this slot."""
        if self._batches[slot] < 1:
            raise RuntimeError(f"slot {slot} is released more often than it was handed out")
        self._batches[slot] -= 1
        if not self._batches[slot] and slot not in self._slot_of.values():
            self._free.append(slot)
