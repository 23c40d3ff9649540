"""Score many files by one command, or one dataset by many worlds: the list, who works on what, what came of it.

A *unit* is a file with the result it is scored into, or a block of one dataset, see `hpcens.units.blocks`. A *world* is
one start of MPI on one node, with the process that watches over it; several worlds, started whenever there is room,
claim unit after unit until none is left. A *round* is one command: what failed in a round is tried again by the next.

Of one dataset the directory is that of its run, OUTPUT.run, with the blocks' results and runs in blocks/.

    OUTPUT_FOLDER.run/
      lists/0001.json       the units, written once; another list of the same folder has the next number
      rounds/ID.json        one command: when, and as which of Slurm's jobs
      rounds/ID.refused     why a world of it was refused, with what to do: `why`
      worlds/ID/            world.json, beat, output.log, ended; written by that world alone
      claims/UNIT.0001/     claim.json: the first attempt at a unit; appears whole, of many at once one succeeds
      claims/UNIT.0001.done, .failed or .left    what came of that attempt; the first stands
      jobs/ID/              script and logs of a round's job arrays
      queue.json            what Slurm last said of these: it is asked once in 40 s
      cancel                a request to end, and of which rounds

All are JSON with a checksum, as the files of `hpcens.runs` are; formats are 1.

| file | field | type | meaning |
| --- | --- | --- | --- |
| list | `format` | int | 1 |
| | `job` | text | JSON of `hpcens.specs.Job`, that of the first unit |
| | `made_of` | object | what every result is made of but its data and numerics: names → digests |
| | `row` | text | shapes and dtypes of a row on which the ensemble was tried |
| | `units` | [object] | `key`: of its claims; `dataset`, `output`: paths; `bytes`: of the dataset then |
| | | | of a block also `segments`, first and the one after the last, and `rows`; `dataset` is text |
| | `whole` | text | the result, of a dataset that worlds share; with it the two that follow |
| | `fingerprint` | text | SHA-256 of that under which its blocks are scored; empty: it is yet to be fixed |
| | `worlds` | int | that were asked for when it was first listed |
| round | `format`, `id` | int, text | 1; 8 random hexadecimal digits |
| | `submitted` | float | seconds since 1970 |
| | `jobs` | [text] | ids of Slurm's job arrays; none where it ran without |
| | `folder`, `worlds` | text, int | of their script and logs; how many worlds were asked for |
| world | `format`, `id` | int, text | 1; 8 random hexadecimal digits |
| | `round` | text | by which it was started |
| | `job` | object or null | Slurm's job, as in a start's claim |
| | `host`, `boot`, `pid`, `born` | text, text, int, int | the process that watches over it |
| | `gpus` | int | that it holds; by default 0 |
| claim | `world`, `round` | text | who claimed it |
| | `began` | float | seconds since 1970 |
| queue | `asked` | float | when, in seconds since 1970 |
| | `arrays` | [text] | ids of the job arrays |
| | `states` | object or null | element, as ARRAY_NUMBER → its state; null: no answer |
| outcome | `code` | int | exit code, see `hpcens.errors` |
| | `reason` | text | why |
| | `rows`, `seconds` | int, float | scored by this attempt, and how long it took |
"""

from hpcens.units.claiming import Claimed, claim_next
from hpcens.units.claims import Attempt, Kind, Outcome, Standing, choose, kind_of, next_attempt, standing_of
from hpcens.units.directory import Round, UnitsDirectory, units_at
from hpcens.units.listing import Unit, UnitList, list_units
from hpcens.units.worlds import World, dead_worlds

__all__ = [
    "Attempt",
    "Claimed",
    "Kind",
    "Outcome",
    "Round",
    "Standing",
    "Unit",
    "UnitList",
    "UnitsDirectory",
    "World",
    "choose",
    "claim_next",
    "dead_worlds",
    "kind_of",
    "list_units",
    "next_attempt",
    "standing_of",
    "units_at",
]
