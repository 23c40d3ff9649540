"""Keep everything of one run but its result in one directory, as paths and small atomic files.

OUTPUT.run/
  fingerprint.json      what the run was made of; fixed when it is created, numerics included
  working-0001.h5       the result before it is complete (named after the start that made it)
  packed-0001.h5        its compressed copy, while it is made
  blocks/KEY.h5, KEY.run/  a part of the dataset that worlds share, and its run; gone once they are put together
  working-0001.rows-0   of a result that keeps few rows those that may be kept, a file a writer; working-0001.kept.h5:
                        those that are, while it is made
  phase-PHASE.h5        outputs of the members of an earlier phase, complete; PHASE is a digest of their names
  phase-PHASE-working-0001.h5  the same before it is complete; the journal of a start: phase-PHASE-journal
  cancel                a request to drain, and of whom
  announced/ID.json     the process that checks a start to come
  submission.json       the last job that was submitted for it; submitit/ID/: that job's files and logs, and while
                        its ranks begin MPI who of them has come: arrived/JOB.RESTART/NODE
  controller.json       what Slurm last said of that job
  epochs/0001/          one folder per start, written by that start alone; it appears whole, its claim inside
    job.json  claim.json  plan.json  journal  events.jsonl  report.json  verdict.json
    ranks/NODE.jsonl  ranks/NODE.beat  output.log  fingerprint.json (where this start fixed it)
    requeue.json          where it put its job back into the queue: why, and what came of it

The formats of these files are described in `hpcens.runs`, those of results and journals in `hpcens.result`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcens.errors import INCOMPLETE, Incomplete, UsageError
from hpcens.files import claim_folder, drafts, read_json, sealed, write_atomically
from hpcens.ownership import PRIVATE, READABLE, own_folder
from hpcens.processes import Process
from hpcens.runs.cancellation import asked_to_end, withdraw_nameless
from hpcens.runs.claim import Claim
from hpcens.runs.epoch import AGAIN, Epoch, Verdict, contents
from hpcens.runs.liveness import alive, survivor
from hpcens.runs.submission import SlurmJob, Submission
from hpcens.shell import quoted


class RunDirectory:
    """The directory of the run that makes `output`.

    prefix  begins the names of the files that a phase writes; empty for those of the result
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path = path
        self._prefix = prefix

    @staticmethod
    def of(output: Path) -> RunDirectory:
        """Return the run directory of an output: beside it, as OUTPUT.run."""
        return RunDirectory(output.with_suffix(".run"))

    def phase(self, members: Sequence[str]) -> RunDirectory:
        """Return the same directory as the phase that scores these members sees it.

        Working files and journals are then the phase's own.
        """
        digest = hashlib.sha256("\0".join(members).encode()).hexdigest()
        return RunDirectory(self.path, f"phase-{digest[:12]}-")

    @property
    def scored(self) -> Path:
        """Where a phase leaves what it scored, once it is complete."""
        return self.path / f"{self._prefix.removesuffix('-')}.h5"

    @property
    def fingerprint(self) -> Path:
        """The file that says what the run is made of."""
        return self.path / "fingerprint.json"

    @property
    def fixed_fingerprint(self) -> Any:
        """The tree of digests that the newest start that fixed any has fixed; None where none has."""
        fixing = next((epoch for epoch in self.epochs() if epoch.fingerprint.exists()), None)
        if fixing is not None and (tree := read_json(fixing.fingerprint)) is not None:
            return tree
        return read_json(self.fingerprint)  # its copy; starts of earlier versions leave it here alone

    def fix_fingerprint(self, tree: Mapping[str, Any], epoch: Epoch) -> None:
        """Write the tree of digests, unless it is the one that is fixed already.

        epoch  that fixes it: what an obsolete start still fixes in its own folder does not count
        Raises Superseded where a newer start has taken the run over.
        """
        if self.fixed_fingerprint != tree:
            text = sealed(json.dumps(tree))
            write_atomically(epoch.fingerprint, text)
            epoch.require_newest()
            write_atomically(self.fingerprint, text)

    @property
    def cancel(self) -> Path:
        """The file by which a run is asked to end."""
        return self.path / "cancel"

    @property
    def submission(self) -> Submission | None:
        """What the run was handed to Slurm by last; None where it never was."""
        return Submission.load(self.path / "submission.json")

    def keep(self, submission: Submission) -> None:
        """Make this the submission that the run was handed to Slurm by last."""
        write_atomically(self.path / "submission.json", sealed(submission.to_json()))

    def working(self, number: int) -> Path:
        """Return the file into which start `number` writes its rows."""
        return self.path / f"{self._prefix}working-{number:04d}.h5"

    def packed(self, number: int) -> Path:
        """Return the file into which start `number` compresses its result."""
        return self.path / f"{self._prefix}packed-{number:04d}.h5"

    def kept(self, number: int) -> Path:
        """Return the file into which start `number` writes the rows that its result keeps."""
        return self.path / f"{self._prefix}working-{number:04d}.kept.h5"

    def unfinished(self, newest: int | None = None) -> list[Path]:
        """Return working files and compressed copies that are there.

        newest  where given, only those that this start and older ones have made
        """
        kinds = tuple(f"{self._prefix}{kind}-" for kind in ("working", "packed"))
        paths = [self.path / name for name in _names_in(self.path) if name.startswith(kinds)]
        return [path for path in paths if newest is None or _maker(path) <= newest]

    @property
    def blocks(self) -> Path:
        """The folder of a dataset's parts, each with a run of its own; there while several worlds score it together."""
        return self.path / "blocks"

    def refuse_blocks(self) -> None:
        """Raise UsageError where several worlds score the dataset together, block by block."""
        if self.blocks.is_dir():
            raise UsageError(
                f"{self.path} is scored in blocks, by as many worlds as there are",
                f"join them: hpcens run --join {quoted(self.path)}; or see how far they are: hpcens status",
            )

    def adopt(self, tree: Mapping[str, Any]) -> None:
        """Fix the tree of digests that was fixed for the whole of which this run is a part."""
        if self.fixed_fingerprint != tree:
            write_atomically(self.fingerprint, sealed(json.dumps(tree)))

    def phases(self) -> list[Path]:
        """Return what complete phases have left."""
        return [path for path in sorted(self.path.glob("phase-*.h5")) if path.stem.count("-") == 1]

    def journal(self, epoch: Epoch) -> Path:
        """Return the journal of a start."""
        return Path(epoch.folder / f"{self._prefix}journal")

    def epochs(self) -> Iterator[Epoch]:
        """Return all starts so far, the newest first."""
        folder = self.path / "epochs"
        return (Epoch(folder / name) for name in sorted(filter(str.isdigit, _names_in(folder)), reverse=True))

    @property
    def newest(self) -> Epoch | None:
        """The last start; None before the first."""
        return next(self.epochs(), None)

    def refuse_if_alive(self, *, patient: bool = False) -> None:
        """Raise UsageError where a start of this run is alive.

        patient  take a start of other hosts for dead only once its heartbeat has stood for long, see `liveness`
        """
        self._refuse_if_alive(self.newest, patient=patient)

    def _refuse_if_alive(self, newest: Epoch | None, *, patient: bool) -> None:
        if newest is not None and (process := survivor(newest) if patient else alive(newest)):
            raise UsageError(
                f"{self.path} is being worked on by {process}",
                f"follow it: hpcens status {quoted(self.path)}; or end it: hpcens cancel {quoted(self.path)}",
            )

    def own(self, *folders: str) -> None:
        """Make the directory, and private folders in it, or see that they are one's own.

        Raises UsageError where another user owns one of them, or may write to it.
        """
        for path in (self.path, self.path / "epochs"):
            own_folder(path, READABLE, "choose another output")
        for folder in folders:
            own_folder(self.path / folder, PRIVATE, "choose another output")

    def begin(
        self, job: SlurmJob | None = None, *, order: str = "", announcement: str = "", takes_over: bool = False
    ) -> Epoch:
        """Claim the next start, which appears whole. Raises UsageError where another start of this run is alive.

        job           of Slurm's that this process is part of; a start whose place it takes may live: the fence keeps
                      it out
        order         what its ranks are to do, as their rank 0 reads it; empty where it has none
        announcement  id of what announced it, if anything did
        takes_over    whatever works on it is known to have ended, or is obsolete: the fence keeps it out
        Raises Incomplete where it was asked to end before it began.
        """
        self.own()
        newest = self.newest
        before = Claim.load(newest.claim) if newest else None
        if not (takes_over or (job and before and job.succeeds(before.job))):
            self._refuse_if_alive(newest, patient=True)
        number = newest.number + 1 if newest else 1
        epoch = Epoch(self.path / "epochs" / f"{number:04d}")
        claim = Claim(number, secrets.token_hex(8), time.time(), job, Process.current(), announcement)
        if not claim_folder(epoch.folder, contents(claim.to_json(), order)):
            raise UsageError(
                f"another start of {self.path} began at this very moment",
                "wait for it to end, or choose another output",
            )
        for name, draft in drafts(epoch.folder.parent):
            if name.isdigit() and int(name) <= number:  # it can no longer succeed, whoever makes it
                shutil.rmtree(draft, ignore_errors=True)
        withdraw_nameless(self.cancel)
        if reason := asked_to_end(self.cancel, claim.names):
            verdict = epoch.judge(Verdict(INCOMPLETE, f"{reason}, before anything was scored", AGAIN))
            raise Incomplete(verdict.reason, verdict.remedy)
        return epoch


def _names_in(folder: Path) -> list[str]:
    """Return the names in a folder, by one look at it; none where it is not there."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _maker(path: Path) -> int:
    """Return the number of the start that made a working file or a compressed copy, by its name."""
    number = path.name.partition(".")[0].rpartition("-")[2]
    return int(number) if number.isdigit() else sys.maxsize
