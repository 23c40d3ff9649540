"""Keep everything of one run on disk: its directory, starts, events, submission and status.

The formats of its files follow; `hpcens.runs.directory` shows where each lies, `hpcens.result` describes results,
journals and fingerprints. All are JSON, written whole or not at all; only events are appended, a line of JSON each.
Each of those that are written whole, but for requests to drain, has a `checksum` of its values: 16 hexadecimal digits
of the SHA-256 of the object without it, its keys sorted, as Python's json writes it. One that lacks it is read too.
Times are seconds since 1970, memory is in bytes. A file that does not say its format has format 1.
`host`, `boot`, `pid` and `born` are those of `hpcens.processes.Process`.

Events (`events.jsonl`), format 2. Written by the reader's rank and by `combine`; read by `status`, by whoever follows
a start, and by its report. Lines that are not whole, and events or fields that only a later format knows, are left
out. Format 1 differs in nothing but that it does not say so.

| event | field | type | meaning |
| --- | --- | --- | --- |
| (all) | `format` | int | 2 |
| | `time` | float | when it happened |
| | `event` | text | world, profiling, profiled, planned, draining or progress |
| world | `library` | text | name and version of the MPI library |
| | `nodes` | {text: int} | node → ranks on it |
| | `wheel` | bool | whether MPI came as a Python package, though there are several nodes |
| | `idle` | [text] | devices on which no rank computes |
| profiling | `members` | int | members to measure, each counted once for every rank that measures it |
| | `why` | [text] | which, and what is not known of them yet; by default empty |
| profiled | | | missing profiles are measured |
| planned | `throughput` | float | rows/s that the plan predicts |
| | `bound` | float | rows/s that no plan can exceed |
| | `limit` | text | what limits the bound |
| draining | `reason` | text | who or what asked the start to stop |
| progress | `rows` | int | rows that are durable in this phase |
| | `of` | int | rows to score in each phase |
| | `in_flight` | int | segments handed out and not yet durable; by default 0 |
| | `phase`, `phases` | int | number of the phase, and how many there are; by default 1 |
| | `broken` | [text] | what devices said that broke in this start; by default empty |
| | `taken` | int | rows that others were handed in their place, once for each member; by default 0 |

Report (`report.json`), format 3. Written by the reader's rank at the end of a start; read by later starts, whose
shares follow the measured speeds, by `status`, and by the command that started it. Format 2 has no `spot_checks`. In
format 1 instances that scored nothing lack `rows` and `measured_speed` too.

| field | type | meaning |
| --- | --- | --- |
| `format` | int | 3 |
| `rows`, `seconds` | int, float | rows scored in this start; from the first batch until the last row was durable |
| `rows_per_second` | float | measured |
| `predicted_rows_per_second` | float | by the plan |
| `instances` | [object] | `device`, `member`, `batch`, `runtime`, `speed`, `share`, `phase`: as planned |
| | | `rows`: that it scored, 0 if none; `measured_speed`: rows/s while it ran, null if none |
| | | `group`: name of the group of members in which it ran as one, else absent |
| `bottleneck` | text | the role that was busy most |
| `syncing_share` | float | part of the seconds in which reducers waited for the disk |
| `idle` | [text] | devices on which no rank computed |
| `ranks` | [object] | `role`; `spent`: task or wait → seconds; `syncing`: seconds of waiting for the disk |
| | | `cpu_seconds`: of all its threads; `peak_bytes`: of host memory; `device_peak`: of a GPU's own, else absent |
| `masked` | [object] | `member`; `cause`: input, output, raised or cast; `rows`: number; `first`: index of the first |
| `spot_checks` | [object] | `member`; `runtime`; `rows`: scored in eager too; `beyond`: of them, `plan.tolerance` |
| | | `worst`: the most by which one differed; `precision` of both, where it is not float32 |
| `stages` | [object] | of a cascade, else absent: `members`; `rows`: that it scored; `expected`: part of all, planned |
| `broken`, `taken` | [text], int | what devices said that broke, rows that others scored in their place; else absent |
| `sharing` | int | devices that read rows in the memory that readers put them in, others got copies; may be absent |
| `unregistered` | list of str | GPUs on whose way rows were copied once more, each with the reason; may be absent |

Finding (`void/DIGEST.json`), format 1. Written by a device's rank where a spot check failed; read by later starts:
what was scored under that fingerprint is void, and the member runs in another runtime.

| field | type | meaning |
| --- | --- | --- |
| `member`, `runtime` | text | which gave wrong values |
| `fingerprint` | text | SHA-256 of what was scored with it |
| `apart` | float | by how much it differed from eager |

Claim (`claim.json`), format 1. Written by whoever begins a start, before anything else; read by later starts (is it
alive, is it of the same job), by the journal's header, by `status` and `run --code`.

| field | type | meaning |
| --- | --- | --- |
| `epoch` | int | number of the start |
| `id` | text | 16 random hexadecimal digits |
| `began` | float | when |
| `announcement` | text | id of what announced it, empty where nothing did |
| `job` | object or null | Slurm's job: `id`, `cluster`, `restart`, `submission`, `element`; null outside of one |
| `host`, `boot`, `pid`, `born` | text, text, int, int | the process that began it |

Signature (`ranks/NODE.jsonl`), format 1, a line each. Added by each rank of the node when its role changes; read by
whoever asks whether the start lives, ends its ranks, or explains its end: a rank's last line counts. Earlier versions
left a file of each rank, `ranks/0003.json`. Beside it lies `ranks/NODE.beat`: 16 decimal digits, a counter that one
rank of the node moves every second; and `ranks/NODE.loads`: what the ranks of the node did so far, 1024 bytes
each, an object of the report's `ranks` and blanks.

| field | type | meaning |
| --- | --- | --- |
| `rank` | int | in the world |
| `role` | text | starting, reader, reducer, `device NAME` or parked |
| `host`, `boot`, `pid`, `born` | text, text, int, int | the rank's process |

Decision (`decision.json`), format 1. Written by the reader's rank of the start that fixes the numbers of a dataset
that worlds share; read by all worlds, and by the one that puts the blocks together.

| field | type | meaning |
| --- | --- | --- |
| `fingerprint` | text | SHA-256 of the fingerprint that was fixed |
| `shape` | [int] | of a member's output for one row |
| `library` | text | name and version of the MPI library |
| `unsteady` | object | member → what of its outputs is not the same each time, or in each batch |
| `warnings` | [text] | what was warned of before the start |

Verdict (`verdict.json`), format 1. Written by the first who states how the start ended, padded with blanks where the
disk is full; read by everybody.

| field | type | meaning |
| --- | --- | --- |
| `code` | int | exit code, see `hpcens.errors` |
| `reason` | text | why |
| `remedy` | text | what to do next; empty where nothing is |
| `rank` | int or null | that it ended by; null where no rank is to name |
| `role` | text | of that rank |
| `node` | text | that may be to blame; by default empty |

Requeue (`requeue.json`), format 1. Written by the reader's rank that puts its job back into the queue, before and
after it asks Slurm; read by `status`, by whoever follows the job, and by later starts, which count them.

| field | type | meaning |
| --- | --- | --- |
| `job` | object | as that of the claim |
| `reason` | text | why |
| `time` | float | when |
| `refused` | text | why Slurm did not do it; empty where it did, or ended the rank before it could say |

Submission (`submission.json`), format 1. Written by `submit`, before the job is handed in and again once its ids are
known; read by `status`, `logs`, `cancel`, whoever follows the job, and the rank that may requeue it.

| field | type | meaning |
| --- | --- | --- |
| `id` | text | 8 random hexadecimal digits, part of the jobs' name |
| `jobs` | [text] | ids of its jobs: the first, then those that take over where it is killed |
| `requeues` | int | how often its jobs may put themselves back |
| `folder` | text | of submitit's files and the jobs' logs |
| `epoch` | int | number of the newest start before it, 0 where there was none |
| `submitted` | float | when |
| `rows` | int | to score; by default 0: not known |
| `refused` | text | why Slurm took none of its jobs; by default empty |
| `made_of` | {text: {text: text}} | member, or rule → its digests then; a start refuses others; by default empty |

Cancellation (`cancel`), format 1. Written by `cancel`, and by whoever started ranks where it is asked to stop; read by
the reader's rank, and when a start begins. Taken away by the next start that a person asks for. A file that is not JSON
is the reason, for any start that has begun.

| field | type | meaning |
| --- | --- | --- |
| `reason` | text | why |
| `names` | [text] | of starts: `id` and `announcement` of their claims, their submission, or CLUSTER:JOB without one |

Announcement (`announced/ID.json`), format 1. Written by whoever checks a start to come, and by submitit's process that
begins it; read by `cancel` and `status`. Taken away when the start begins or will not.

| field | type | meaning |
| --- | --- | --- |
| `host`, `boot`, `pid`, `born` | text, text, int, int | the process that works on it |

Slurm's answer (`controller.json`), format 2. Written by `status` and by whoever follows a job; read by `status`, so
that Slurm is asked once in 40 s. Removed by `cancel`. Format 1 has `job` and its `answer`, and is not read any more.

| field | type | meaning |
| --- | --- | --- |
| `asked` | float | when |
| `answers` | {text: object or null} | id of a job → what Slurm says of it; null: it gave no answer |
| | | `state`, `why`, `nodes`, `exit_code`, `ends`, `preempted`, `name`, `restarts`, `submitted`, `starts` |

Order (`job.json`), format 1. Written by whoever begins a start of ranks; read by rank 0 and, for the number of rows,
by `status`.

| field | type | meaning |
| --- | --- | --- |
| `job` | text | JSON of `hpcens.specs.Job`: datasets, output, limit and the whole configuration |
| `preflight` | text | JSON of `hpcens.checks.preflight.Preflight`: what was found of the dataset, members and rule |

Plan (`plan.json`), format 2. Written by the reader's rank, and by `plan -o`; read by later starts, `submit --plan`,
`simulate`, the report and `status`. Fields that have a default may be absent. In format 1 the rates are fields of the
plan: `reading`, `together` (of its own readers), `link`, `message`, `disk` and `sync`.

| field | type | meaning |
| --- | --- | --- |
| `format` | int | 2 |
| `planner` | text | that made it |
| `devices` | [object] | `name`, `family` (cpu, cuda), `kind`, `memory`, `cores`, `index`, `host` |
| `hostings` | [object] | `devices`: names; `memory`: in use on each; `speeds`, `shares`: member → rows/s; `phase` |
| `numerics` | object | `segment_rows`; `members`: `batch`, `runtime`, `precision`; `kinds`, `torch`, `libraries` |
| `rows` | int | to score |
| `row_bytes`, `output_bytes` | int | of a row of input, of a row of a member's output |
| `parts` | object | member → the part of the rows that it scores; absent where all score all |
| `rates` | object | of a rank that reads, sends or writes; null: not measured |
| | | `reading`: rows/s of one reader, by `reading_threads` threads (null: they were not told apart) |
| | | `reading_together`: rows/s of `readers_together` readers at once |
| | | `link`, `disk`: bytes/s that a rank sends, and that a reducer writes |
| | | `message_seconds`, `sync_seconds`: of a message, and of a sync, beside those of its bytes |
| `differences` | {text: float} | member → by how much its runtime differs from eager |
| `loading` | float | predicted seconds until the members are loaded |
| `throughput`, `bound`, `gap` | float | rows/s; rows/s no plan can exceed; share of it that is not reached (not read) |
| `limit`, `remark` | text | what limits the bound; what else is to be known |
| `window`, `read_ahead` | int | segments handed out and not durable; segments a reader may hold |
| `copied` | float or null | devices a row is sent to, on average, but those that read it where it lies; null: to all |
| `phases` | [[text]] | members scored together, group after group; empty where all are |
| `readers`, `reducers` | int | how many ranks read, and write |
| `expected` | [object] | of a cascade, else absent, a stage each: `members`; `part` of all rows that come to it; |
| | | `low`, `high`: between which that lies; `sampled`: rows by which it is known, 0: it is not |

Profiles (`$HPCENS_CACHE/profiles/DIGEST.json`), format 2. Written by whoever measures, read by whoever plans; a file
that cannot be read is measured again. DIGEST is of the key.

| field | type | meaning |
| --- | --- | --- |
| `format` | int | 2 |
| `key` | object | `kind` of device, `member` (digest), `runtime`, `row` (shapes and dtypes), `torch`, `precision` |
| `weights`, `context` | int | bytes that the loaded member adds, and of the process before |
| `load_seconds` | float | to build the module and load its weights |
| `output_shape` | [int] | of one row of output |
| `batches` | {text: object} | batch size → `batch`, `rows_per_second`, `workspace`, `spread` |
| | | `passes`: that were timed, by default 0: not known; `core_share`: by default 1 |
| `tried` | [int] | batch sizes that were asked for |
| `difference` | float | the largest difference from eager on rows of the dataset |
| `refused` | text | why the member cannot run in this runtime, or was not tried; else empty |
| `worth_from` | int or null | rows of a dataset from which it will be tried |
| `same_bits` | bool | whether equal calls gave the same bits |
| `name` | text | of the member when it was measured; by default empty |
| `measured` | float | when; by default 0: not known |
| `repeats` | int | how often it was measured again since the machine was loaded; by default 0 |
| `rounding` | float | the largest difference from float32, of a narrower precision; by default 0 |
| `labels` | float | part of the rows that have another label than in float32; by default 0 |
| `judged` | int | rows on which that was found out; by default 0: it was not |
| `driver` | text | version of the GPUs' driver; by default empty: not known, or of CPUs |

Beside them, `links/DIGEST.json`: `key` (`kind`, `apart`) and `link` (`bytes_per_second`, `message_seconds`);
`kinds/DIGEST.json`: `kind`, and `reached`: what part of the profiled rows/s the latest nine runs reached, newest last;
`memories/DIGEST.json`: `kind` and `memory` of GPUs on which runs have begun.
"""

from hpcens.runs.claim import Claim
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import AGAIN, Epoch, Verdict
from hpcens.runs.events import (
    DrainBegan,
    Event,
    Events,
    PlanMade,
    ProfilingBegan,
    ProfilingEnded,
    ProgressMade,
    WorldFormed,
    read_events,
    recent,
)
from hpcens.runs.liveness import Signature, alive, end_ranks, read_beat, sign, signatures
from hpcens.runs.report import InstanceReport, MaskedRows, RankReport, Report, SpotCheck, StageReport, in_all
from hpcens.runs.submission import DEFAULT_REQUEUES, SlurmJob, Submission
from hpcens.runs.void import Finding, digest_of_fingerprint, findings, is_void

__all__ = [
    "AGAIN",
    "DEFAULT_REQUEUES",
    "Claim",
    "DrainBegan",
    "Epoch",
    "Event",
    "Events",
    "Finding",
    "InstanceReport",
    "MaskedRows",
    "PlanMade",
    "ProfilingBegan",
    "ProfilingEnded",
    "ProgressMade",
    "RankReport",
    "Report",
    "RunDirectory",
    "Signature",
    "SlurmJob",
    "SpotCheck",
    "StageReport",
    "Submission",
    "Verdict",
    "WorldFormed",
    "alive",
    "digest_of_fingerprint",
    "end_ranks",
    "findings",
    "in_all",
    "is_void",
    "read_beat",
    "read_events",
    "recent",
    "sign",
    "signatures",
]
