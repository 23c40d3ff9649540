"""Everything of one run on disk: its directory, starts, events, submission and status."""

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
from hpcens.runs.liveness import Signature, alive, read_beat, sign, signatures
from hpcens.runs.report import InstanceReport, MaskedRows, RankReport, Report
from hpcens.runs.submission import DEFAULT_REQUEUES, SlurmJob, Submission

__all__ = [
    "AGAIN",
    "DEFAULT_REQUEUES",
    "Claim",
    "DrainBegan",
    "Epoch",
    "Event",
    "Events",
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
    "Submission",
    "Verdict",
    "WorldFormed",
    "alive",
    "read_beat",
    "read_events",
    "recent",
    "sign",
    "signatures",
]
