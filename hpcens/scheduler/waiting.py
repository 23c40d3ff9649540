"""Tell what a job waits for that passes by itself from what does not, by the reasons that Slurm gives."""

from __future__ import annotations

import re

_TOO_MUCH = "it asks for more than a job may have: fewer nodes, less time, or another QOS or account"
_NOT_ALLOWED = "that account or QOS may not be used here: --slurm account=…, qos=…"
_PARTITION = (
    "the partition takes no such job: --slurm nodes=… or time=… that it allows, or partition=… another; cancel first"
)
# Reasons, as Slurm writes them → what is to be done, since waiting changes nothing; JOB stands for the job's id.
_LASTING = {
    r"JobHeldUser": "it is held; let it go: scontrol release JOB",
    r"JobHeldAdmin": "the site's administrators hold it; ask them",
    r"JobHoldMaxRequeue|JobLaunchFailure|\w*[Rr]equeued_[Hh]eld": "it failed, so Slurm holds it: scontrol release JOB",
    r"Partition(NodeLimit|TimeLimit|Config)": _PARTITION,
    r"Partition(Down|Inactive)": "the partition is closed until the site opens it; or partition=… another",
    r"BadConstraints|FrontEndDown": "no node has what is asked for: change --slurm constraint=… or the rest of it",
    r"DependencyNeverSatisfied": "what it depends on ended in another way: cancel it and submit again",
    r"Invalid(Account|QOS)|AccountNotAllowed|Q(OS|os)NotAllowed|Assoc\w*NotAllowed": _NOT_ALLOWED,
    r"(Assoc|QOS)(Max|Min)\w*(PerJob|PerNode|WallDuration)\w*|QOSMin\w*|MaxMemPerLimit": _TOO_MUCH,
    r"(Assoc|QOS)Grp((?!Run)\w)*Minutes\w*": "the account's budget is used up until the site renews it; or account=…",
    r"DeadLine|InactiveLimit": "it cannot end before its deadline: cancel it and submit again",
    r"Reservation(Deleted|Invalid)|InvalidReservation": "its reservation is gone: cancel it and submit without",
}


def lasting(reason: str, job: str) -> str:
    """Return what to do about a reason to wait that does not pass by itself; empty where it does.

    reason  as Slurm writes it
    job     its id
    """
    found = (remedy for pattern, remedy in _LASTING.items() if re.fullmatch(pattern, reason))
    return next(found, "").replace("JOB", job)
