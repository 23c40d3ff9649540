"""Decision: what is fixed for all parts of a dataset before any of them is scored, and kept to describe the result.

RUN/epochs/NNNN/decision.json  {"fingerprint", "shape", "library", "unsteady", "warnings"}: written by the
start that decides
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from hpcens.dataset import Facts
from hpcens.errors import UsageError
from hpcens.files import read_as, sealed, write_atomically
from hpcens.result.destination import INCOMPRESSIBLE, require_room
from hpcens.result.form import Form
from hpcens.result.scored import scored_form
from hpcens.runs import Epoch, RunDirectory, digest_of_fingerprint, is_void
from hpcens.specs import Job, Space
from hpcens.vocabulary import Plan


@dataclass(frozen=True, slots=True)
class Decision:
    """What holds for every part.

    tree      the fingerprint
    plan      of the start that fixed it
    shape     of a member's output for one row
    library   the MPI library
    unsteady  member → what of its outputs is not the same each time, or in each batch
    warnings  what was warned of before the start
    """

    tree: Mapping[str, Any]
    plan: Plan
    shape: tuple[int, ...]
    library: str
    unsteady: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of the fingerprint."""
        return digest_of_fingerprint(self.tree)

    def keep(self, epoch: Epoch) -> None:
        """Leave it in the folder of the start that decides, which has kept its plan there."""
        raw = {"format": 1, "fingerprint": self.digest, "shape": self.shape, "library": self.library}
        write_atomically(
            epoch.decision, sealed(json.dumps(raw | {"unsteady": self.unsteady, "warnings": self.warnings}))
        )

    def form(self, job: Job, *, facts: Facts, digests: Mapping[str, Mapping[str, str]], space: Space) -> Form:
        """Return what the job's result will look like; parameters as those of `scored_form`."""
        return scored_form(
            job,
            facts=facts,
            digests=digests,
            shape=self.shape,
            space=space,
            tree=self.tree,
            plan=self.plan,
            library=self.library,
            unsteady=self.unsteady,
            warnings=self.warnings,
        )


def decision_of(run: RunDirectory) -> Decision | None:
    """Return what a run's newest start that decided has fixed; None where none has, or it is void."""
    tree = run.fixed_fingerprint
    if not isinstance(tree, dict) or is_void(run.path, tree):
        return None
    digest = digest_of_fingerprint(tree)
    for epoch in run.epochs():
        raw, plan = read_as(epoch.decision, dict), Plan.kept(epoch.plan)
        if raw is not None and plan is not None and raw.get("fingerprint") == digest:
            shape, warnings = tuple(raw["shape"]), tuple(map(str, raw["warnings"]))
            return Decision(tree, plan, shape, str(raw["library"]), dict(raw["unsteady"]), warnings)
    return None


def require_room_for_parts(job: Job, form: Form) -> None:
    """Raise Incomplete where the disk has no room for all parts, and for the result that is put together of them."""
    copies = 1 + (INCOMPRESSIBLE if job.spec.output.compression else 1)
    require_room(job, ceil(copies * form.segmentation.rows * sum(output.row_bytes for output in form.outputs)))


def refuse_phases(plan: Plan) -> None:
    """Raise UsageError where the members are to be scored in groups, one after another over all rows."""
    if len(plan.groups) > 1:
        raise UsageError(
            f"one node does not hold all members at once: they would be scored in {len(plan.groups)} phases, and a"
            " dataset that worlds share is scored in one",
            "leave out --array, or --join; or ask for nodes with more memory",
        )
