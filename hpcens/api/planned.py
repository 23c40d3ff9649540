"""Plan a job before any device hour is spent, measuring what is not measured yet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from hpcens import vocabulary
from hpcens.api.configuration import Config, PathLike, job_of
from hpcens.api.watching import require_main_thread, watcher
from hpcens.config import asked_of_slurm
from hpcens.errors import UsageError
from hpcens.launch.profile import profile
from hpcens.launch.start import CheckedJob, check_once, start, trials_of
from hpcens.planning.capacity import Capacity, PlanRequest
from hpcens.reports.html import fragment
from hpcens.reports.plans import load_of, plan_lines, summary_lines
from hpcens.reports.text import amount, devices_phrase
from hpcens.vocabulary.groups import units_of

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan(vocabulary.Plan):
    """A plan that shows itself: as text, as a table of rich, and as HTML in a notebook.

    `save(path)` writes it for `hpcens submit --plan`, and for `plan=` of `run` and `submit`.
    """

    @staticmethod
    def of(plan: vocabulary.Plan) -> Plan:
        """Return the same plan as one that shows itself."""
        return Plan(**{field.name: getattr(plan, field.name) for field in fields(plan)})

    def __repr__(self) -> str:
        return "\n".join(plan_lines(self))

    def _repr_html_(self) -> str:
        return fragment(self)

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        units = units_of(self.numerics.members)
        table = Table("devices", *map(escape, units), "memory", "busy")
        for column in table.columns[1:]:
            column.justify = "right"
        for hosting in self.hostings:
            batches = (
                str(self.numerics.members[first].batch) if first in hosting.speeds else "·"
                for first, *_ in units.values()
            )
            busy = f"{100 * load_of(hosting):.0f} %"
            table.add_row(Text(devices_phrase(hosting.devices)), *batches, amount(hosting.memory), busy)
        return Group(table, *(Text(line) for line in summary_lines(self)))


def plan(
    datasets: PathLike | Sequence[PathLike],
    config: Config = None,
    *,
    limit: int | None = None,
    nodes: int | None = None,
    deadline: float | None = None,
    quiet: bool = False,
) -> Plan:
    """Plan the scoring of a dataset; members that are not measured yet are measured on this host's devices.

    datasets  one HDF5 file or several, in the order of their rows; patterns as 'part-*.h5'
    config    as `load_config` takes it
    limit     plan for so many first rows; None: all
    nodes     plan for so many nodes of the configuration's `cluster`, of Slurm's or like this host; None: this host
    deadline  plan for the fewest nodes that finish in so many seconds
    quiet     print no progress
    Raises HpcensError: what is wrong with the configuration, the dataset or a member.
    """
    if nodes is not None and deadline is not None:
        raise UsageError("nodes and deadline are both given", "give one of them: a deadline chooses the nodes")
    require_main_thread("hpcens.plan")
    job = job_of(datasets, config, limit=limit)
    checked = check_once(job, trials_of(asked_of_slurm(job.spec)))
    capacity, _ = measured(checked, optional=True, quiet=quiet)
    answer = capacity.answer(PlanRequest(None if nodes is None else (nodes, nodes), deadline))
    assert answer.plan is not None, "what is asked for is one plan"
    return Plan.of(answer.plan)


def measured(checked: CheckedJob, *, optional: bool = False, quiet: bool = False) -> tuple[Capacity, int]:
    """Measure what is missing on this host's devices; return the job's capacity and how many measurements it took.

    optional  where this host lacks such devices, go by what is kept of others
    """
    capacity = Capacity(checked.job, checked.preflight)

    def measure(*_: object) -> int:
        missing = 0 if optional and capacity.lacking is not None else capacity.missing()
        if missing:
            with closing(watcher(quiet=quiet)) as shown:
                profile(checked.job, checked.preflight, tick=shown.tick)
        return missing

    return capacity, start(checked, measure)
