"""Everything of one run on disk: its directory, starts, events, submission and status."""

from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import AGAIN, Epoch, Verdict
from hpcens.runs.events import Events, read_events, recent
from hpcens.runs.liveness import BEAT_SECONDS, alive, beats, read_beat, sign, signatures, this_process
from hpcens.runs.submission import DEFAULT_REQUEUES, SlurmJob, Submission

__all__ = [
    "AGAIN",
    "BEAT_SECONDS",
    "DEFAULT_REQUEUES",
    "Epoch",
    "Events",
    "RunDirectory",
    "SlurmJob",
    "Submission",
    "Verdict",
    "alive",
    "beats",
    "read_beat",
    "read_events",
    "recent",
    "sign",
    "signatures",
    "this_process",
]
