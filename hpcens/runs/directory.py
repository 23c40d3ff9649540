"""Keep everything of one run but its result in one directory, as paths and small atomic files.

OUTPUT.run/
  fingerprint.json      what the run was made of; fixed when it is created, numerics included
  working-0001.h5       the result before it is complete (named after the start that made it)
  packed-0001.h5        its compressed copy, while it is made
  phase-PHASE.h5        outputs of the members of an earlier phase, complete; PHASE is a digest of their names
  phase-PHASE-working-0001.h5  the same before it is complete; the journal of a start: phase-PHASE-journal
  cancel                a request to drain
  submission.json       the last job that was submitted for it; submitit/ID/: that job's files and logs
  controller.json       what Slurm last said of that job
  epochs/0001/          one folder per start, written by that start alone
    job.json  claim.json  plan.json  journal  events.jsonl  report.json  verdict.json
    ranks/0003.json  ranks/NODE.beat  output.log
    requeue.json          where it put its job back into the queue: why, and what came of it

The formats of these files are described in `hpcens.runs`, those of results and journals in `hpcens.result`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcens.errors import UsageError
from hpcens.files import read_json, write_atomically
from hpcens.ownership import PRIVATE, READABLE, own_folder
from hpcens.processes import Process
from hpcens.runs.claim import Claim
from hpcens.runs.epoch import Epoch
from hpcens.runs.liveness import alive
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
        return self.path / "fingerprint.json"

    def stored_fingerprint(self) -> dict[str, Any] | None:
        """Read what the run is made of; None where that is not fixed yet."""
        tree: dict[str, Any] | None = read_json(self.fingerprint)
        return tree

    def store_fingerprint(self, tree: Mapping[str, Any]) -> None:
        """Fix what the run is made of."""
        write_atomically(self.fingerprint, json.dumps(tree, indent=1))

    @property
    def fixed_fingerprint(self) -> Any:
        """The tree of digests that an earlier start has fixed; None where none has."""
        return read_json(self.fingerprint)

    def fix_fingerprint(self, tree: Mapping[str, Any]) -> None:
        """Write the tree of digests, unless it is the one that is fixed already."""
        if self.fixed_fingerprint != tree:
            write_atomically(self.fingerprint, json.dumps(tree, indent=1))

    @property
    def cancel(self) -> Path:
        return self.path / "cancel"

    @property
    def submission(self) -> Submission | None:
        return Submission.load(self.path / "submission.json")

    def keep(self, submission: Submission) -> None:
        """Make this the submission that the run was handed to Slurm by last."""
        write_atomically(self.path / "submission.json", submission.to_json())

    def working(self, number: int) -> Path:
        return self.path / f"{self._prefix}working-{number:04d}.h5"

    def packed(self, number: int) -> Path:
        return self.path / f"{self._prefix}packed-{number:04d}.h5"

    def unfinished(self) -> list[Path]:
        """Return working files and compressed copies that are there, of this start or of earlier ones."""
        return [path for kind in ("working", "packed") for path in self.path.glob(f"{self._prefix}{kind}-*")]

    def phases(self) -> list[Path]:
        """Return what complete phases have left."""
        return [path for path in sorted(self.path.glob("phase-*.h5")) if path.stem.count("-") == 1]

    def journal(self, epoch: Epoch) -> Path:
        return Path(epoch.folder / f"{self._prefix}journal")

    def epochs(self) -> Iterator[Epoch]:
        """Return all starts so far, the newest first."""
        folder = self.path / "epochs"
        names = (entry.name for entry in folder.iterdir()) if folder.is_dir() else iter(())
        return (Epoch(folder / name) for name in sorted((n for n in names if n.isdigit()), reverse=True))

    @property
    def newest(self) -> Epoch | None:
        return next(self.epochs(), None)

    def refuse_if_alive(self) -> None:
        """Raise UsageError where a start of this run is alive."""
        newest = self.newest
        if newest is not None and (process := alive(newest)):
            raise UsageError(
                f"{self.path} is being worked on by {process}",
                f"follow it: hpcens status {quoted(self.path)}; or end it first",
            )

    def own(self, *folders: str) -> None:
        """Make the directory, and private folders in it, or see that they are one's own.

        Raises UsageError where another user owns one of them, or may write to it.
        """
        for path in (self.path, self.path / "epochs"):
            own_folder(path, READABLE, "choose another output")
        for folder in folders:
            own_folder(self.path / folder, PRIVATE, "choose another output")

    def begin(self, job: SlurmJob | None = None) -> Epoch:
        """Claim the next start. Raises UsageError where another start of this run is alive.

        job  of Slurm's that this process is part of; a start whose place it takes may live: the fence keeps it out
        """
        self.own()
        newest = self.newest
        before = Claim.load(newest.claim) if newest else None
        if not (job and before and job.succeeds(before.job)):
            self.refuse_if_alive()
        number = newest.number + 1 if newest else 1
        folder = self.path / "epochs" / f"{number:04d}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(READABLE)
        except FileExistsError:
            raise UsageError(
                f"another start of {self.path} began at this very moment",
                "wait for it to end, or choose another output",
            ) from None
        epoch = Epoch(folder)
        epoch.ranks.mkdir(READABLE)
        claim = Claim(number, secrets.token_hex(8), time.time(), job, Process.current())
        write_atomically(epoch.claim, claim.to_json())
        epoch.set_room_aside()
        self.cancel.unlink(missing_ok=True)
        return epoch
