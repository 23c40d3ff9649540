"""The protocol: every message that roles exchange, and the work they hand to their own thread.

| from → to | message | meaning |
| --- | --- | --- |
| device → reader | Ready(credits) | room for that many more of your segments: backpressure |
| device → reader | Failed(failure, node) | my device is broken: hand me nothing more, let others do it |
| device → reader | Returned(segment, members, rows, part) | others are to run these, of a batch that I had |
| reader → device | Batch(segment, members, rows, slot, part) | run these members on these rows, which lie in a slot |
| device → reader | Released(slot) | I read nothing more in that slot for one of your batches |
| device → reducer | Prediction(segment, member, values, batch, bad, part) | one member's output for one segment |
| reader → reducer | Routed(segment, members, present) | who scores which rows, where members do not score all |
| reducer → reader | Written(segments) | durable; forget them (bounds the reducer by a window) |
| reader → reducer | Last(segments) | no others of mine will come: finish these, drop the rest |
| reader → device | Finish | nothing left for you of mine, and none of it under way that might be returned |
| device → reader, reducer | Bye(tally) | the last thing I will ever say |
| reader → first reader | Progress(segments, in_flight, taken, failure) | for whoever watches |
| reader ↔ first reader | Drain(reason) | I am told to hand out nothing more; then the first tells all |
| reader ↔ first reader | Bye | all of mine is durable; then the first: you will hear of no drain |

There may be several readers and several reducers. Segment s is read by the (s mod readers)-th and written by the
(s mod reducers)-th of them, so that every message about a segment knows its way.

Only MPI's order per pair of ranks may be assumed. Every reader and every reducer waits for a Bye from
every device: a late Ready or Prediction can then never meet a rank that has gone.

A slot is a part of a reader's memory, as large as a segment, that the devices of its host read from. It is used again
once all of its segment is handed out and every batch of it was released: no sooner, whatever Ready says. A device that
cannot read there gets a copy of the rows with the message, and releases the slot at once.

A role's own thread is addressed as LOCAL; it answers from LOCAL:

| role → its thread | answer | meaning |
| --- | --- | --- |
| Read(segment, slot) | SegmentRead(segment, rows) | its rows are in memory, divided where members are routed |
| Predict(segment, members, rows, slot, part) | Predicted(segment, member, values, batch, bad, part) a member | a pass |
| | Unable(failed, returned) | instead of those that are left, where the device is broken |
| | Released(slot) | it was the last that needs the rows, where they lie in a slot |
| Write(segment, stack, batches, bad, route) | Wrote(segment) | combined and written, not yet durable |
| Flush(segments) | Flushed(segments) | synced and journalled |
| Wait(seconds) | Waited() | time has passed |
| Progress(segments, in_flight, taken, failure) | – | tell whoever watches |
| – | Drain(reason) | a signal or a cancel: hand out nothing more |
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hpcens.vocabulary.rows import Array, Bad, Divided, Rows
from hpcens.vocabulary.segments import Part
from hpcens.vocabulary.tallies import Tally

LOCAL = -1


@dataclass(frozen=True, slots=True)
class Ready:
    """A device has room for this many more of the reader's segments (credits): backpressure.

    further  whether it is more room than before; else a batch of the reader's is through, if any was under way
    """

    credits: int
    further: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A device is broken. failure: what it said; node: on which it is."""

    failure: str
    node: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Members that a device which is broken has not run on a batch: so many rows, and where they are a part, which."""

    segment: int
    members: tuple[str, ...]
    rows: int
    part: Part | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Members to run on rows of a segment, all or a part: for each input (their rows, *row shape), as it is stored.

    slot  of the reader's memory in which they lie, until it is released; None: in none
    """

    segment: int
    members: tuple[str, ...]
    rows: Rows
    slot: int | None = None
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """Nobody here reads any more what a batch, or a task, had in this slot."""

    slot: int


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One member's output for a segment.

    values  (rows of the segment that it scores, *output shape)
    batch   the size really used, in rows
    bad     rows not scored, by their places among these
    part    where these are not all that it scores of the segment
    """

    segment: int
    member: str
    values: Array
    batch: int
    bad: tuple[Bad, ...] = ()
    part: Part | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """Who scores which rows of a segment, where members do not score all.

    members  those that score some, of the members that run now, in member order
    present  see `Divided`
    """

    segment: int
    members: tuple[str, ...]
    present: Array


@dataclass(frozen=True, slots=True)
class Written:
    """These segments are durable: they count as done."""

    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Last:
    """These segments are the last of the reader's: the reducer finishes them and drops the rest."""

    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The reader has nothing left for this device."""


@dataclass(frozen=True, slots=True)
class Bye:
    """The sender says nothing more. tally: what a device did in the round."""

    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Read:
    """Read a segment from the dataset, into this slot; None: into memory of its own."""

    segment: int
    slot: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRead:
    """A segment was read. rows: for each input (rows of the segment, *row shape), the dataset's dtype; or divided."""

    segment: int
    rows: Rows | Divided


@dataclass(frozen=True, slots=True, eq=False)
class Predict:
    """Compute the outputs of these members for rows of a segment, all or a part.

    slot  in which they lie, to be released then
    """

    segment: int
    members: tuple[str, ...]
    rows: Rows
    slot: int | None = None
    part: Part | None = None

    @property
    def start(self) -> int:
        """Place of the first row in the segment."""
        return 0 if self.part is None else self.part.start


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """A member's output for a segment: (rows that it scores, *output shape), computed in so many seconds."""

    segment: int
    member: str
    values: Array
    batch: int
    seconds: float = 0.0
    bad: tuple[Bad, ...] = ()
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Unable:
    """The device is broken, and these members of the task are not run."""

    failed: Failed
    returned: Returned


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """A segment to combine and write. stack, batches, bad: one of each per member, in member order.

    route  where members do not score all rows: the stack is of those that score some, each of its own rows alone
    """

    segment: int
    stack: tuple[Array, ...]
    batches: tuple[int, ...]
    bad: tuple[tuple[Bad, ...], ...] = ()
    route: Routed | None = None


@dataclass(frozen=True, slots=True)
class Wrote:
    """A segment lies in the file, but may not be durable yet."""

    segment: int


@dataclass(frozen=True, slots=True)
class Flush:
    """Make these segments durable."""

    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Flushed:
    """These segments are durable."""

    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wake the rank after so many seconds, if nothing comes before."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Waited:
    """The time that was to be waited is over."""


@dataclass(frozen=True, slots=True)
class Progress:
    """These segments are durable, and so many others are handed out.

    taken    rows handed out since the last of these that a broken device had or was to have, once for each member
    failure  what a device said that is broken now; empty: none is
    """

    segments: tuple[int, ...]
    in_flight: int
    taken: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Drain:
    """Hand out nothing more, finish what is under way, and end. reason: why, in words."""

    reason: str


Message = (
    Ready | Failed | Returned | Batch | Released | Prediction | Routed | Written | Last | Finish | Bye
    | Read | SegmentRead | Predict | Predicted | Unable | Write | Wrote | Flush | Flushed
    | Wait | Waited | Progress | Drain
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Send:
    """An instruction of a role: deliver this message to that rank, or to my own thread."""

    to: int
    message: Message
