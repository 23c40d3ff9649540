"""What earlier phases, or a finished result, have stored of members: read by segment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from hpcens.errors import DataError, HpcensError
from hpcens.planning.phases import SURE
from hpcens.result import PASS_ENTROPY, Finished, Record, reopen
from hpcens.runs import AGAIN, Epoch, RunDirectory
from hpcens.vocabulary import Array


@dataclass(frozen=True, slots=True)
class Stored:
    """Members' outputs that are there already.

    run    as the phase that scored them saw it; None where a finished result holds them
    epoch  that reads them
    notes  segment → what its journal notes of it
    """

    file: Finished
    members: tuple[str, ...]
    run: RunDirectory | None
    epoch: Epoch
    notes: Mapping[int, Sequence[Record]] = field(default_factory=dict)

    @property
    def marks(self) -> bool:
        """Whether it is marked which rows are accepted."""
        return any(output.name == SURE.name for output in self.file.outputs)

    def read(self, segment: int) -> tuple[dict[str, Array], dict[str, Array], list[int]]:
        """Read member → its rows of a segment, member → the entropies of its passes, and places of what is masked.

        Raises HpcensError where a phase's are damaged: it is unfinished then, and the next start scores them again.
        """
        names = {f"members/{member}": member for member in self.members}
        there = {output.name for output in self.file.outputs}
        passes = {name: m for m in self.members if (name := f"{PASS_ENTROPY}{m}") in there}
        rows = self._read(segment, [*names, *passes])
        entropies = {member: rows[name] for name, member in passes.items()}
        return {member: rows[name] for name, member in names.items()}, entropies, self.file.masked(segment)

    def sure(self, segment: int) -> Array:
        """Read (rows of the segment,) bool: whether the row is accepted. Raises what `read` raises."""
        marks: Array = self._read(segment, (SURE.name,))[SURE.name] != 0
        return marks

    def _read(self, segment: int, names: Collection[str]) -> dict[str, Array]:
        try:
            return self.file.read(segment, names)
        except DataError as error:
            if self.run is None:
                raise
            reopen(self.run, self.epoch)
            raise HpcensError(f"{error.what}, scored in an earlier phase", AGAIN) from error
