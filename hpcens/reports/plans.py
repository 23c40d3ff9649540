"""Write plans, comparisons and simulations as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf

from hpcens.planning.capacity import Expectation, PlanAnswer
from hpcens.planning.comparison import Compared
from hpcens.planning.nodes import Allocation, knee, spell
from hpcens.planning.simulation import Simulated
from hpcens.reports.stages import expected_lines
from hpcens.reports.text import amount, devices_phrase, figures, rate, span
from hpcens.shell import counted, listed
from hpcens.vocabulary import Hosting, Plan
from hpcens.vocabulary.groups import units_of

# Of a terminal of 256 colours, from no part of a device's time to all of it.
_PARTS = 8
# Of the table of a plan.
_LEGEND = (
    "(below a member: its batch size in rows on that device, · where it does not run;",
    " memory: predicted, of what there is; busy: part of the time in which the device is to compute)",
)
_SHADES = (254, 195, 153, 117, 75, 39, 33)


def answer_lines(answer: PlanAnswer, deadline: float | None, *, shaded: bool = False) -> Iterator[str]:
    """Show one plan, or several side by side.

    deadline  seconds in which the plan was to finish, where it was
    shaded    colour a plan's cells by their part of the device's time, for a terminal
    """
    if answer.allocation is not None and deadline is not None:
        yield deadline_line(deadline, answer.allocation)
    if answer.plan is not None:
        yield from plan_lines(answer.plan, shaded=shaded)
    elif answer.compared:
        yield from comparison_lines(answer.compared)
    else:
        yield from allocation_lines(answer.allocations)


def plan_lines(plan: Plan, *, shaded: bool = False) -> Iterator[str]:
    """Show the allocation matrix with memory and load, a row for devices that nothing tells apart; and the summary.

    shaded  colour a cell by its part of the device's time, for a terminal
    """
    units = units_of(plan.numerics.members)
    columns = {name: max(len(name), 4) for name in units}
    memory = {device.name: device.memory for device in plan.devices}
    rows = [(devices_phrase(hosting.devices), hosting) for hosting in plan.hostings]
    unused = tuple(name for name, used in plan.memory.items() if not used)
    idle = [devices_phrase(unused)] if unused else []
    wide = max(len("device"), *(len(phrase) for phrase, _ in rows), *map(len, idle))
    heads = "  ".join(name.rjust(width) for name, width in columns.items())
    yield f"{'device'.ljust(wide)}  {heads}  {'memory':>21}  {'busy':>5}"
    for phrase, hosting in rows:
        cells = "  ".join(_cell(plan, hosting, units[name], width, shaded=shaded) for name, width in columns.items())
        used = f"{amount(hosting.memory)} of {amount(min(memory[name] for name in hosting.devices))}"
        yield f"{phrase.ljust(wide)}  {cells}  {used:>21}  {100 * load_of(hosting):>3.0f} %"
    for phrase in idle:
        yield f"{phrase.ljust(wide)}  {'  '.join('·'.rjust(width) for width in columns.values())}"
    yield from _LEGEND
    yield from summary_lines(plan)


def summary_lines(plan: Plan) -> Iterator[str]:
    """Show rows/s beside those of the best plan there can be; time and device-hours; what limits."""
    best = f"no plan can exceed {figures(plan.bound)} at the speeds measured (gap {100 * plan.gap:.1f} %)"
    yield f"planner {plan.planner}: {rate(plan.throughput)} predicted; {best}"
    yield from _runtime_lines(plan)
    hours = f"{figures(plan.device_hours)} device-hours on {counted(len(plan.devices), 'device')}"
    loading = f"after {spell(plan.loading)} to load the members"
    yield f"{plan.rows:,} rows in {spell(plan.rows / plan.throughput)} of scoring, {loading}; {hours}"
    yield f"limited by {plan.limit}"
    under_way = counted(plan.window, "segment is", "segments are")
    segments = f"segments of {plan.numerics.segment_rows:,}"
    yield f"rows are read, scored and written in {segments}; {under_way} under way at most"
    yield from expected_lines(plan)
    if plan.phases and not plan.expected:
        yield "in phases, over all rows each: " + "; ".join(", ".join(members) for members in plan.phases)
    if plan.parts and not plan.expected:
        parts = [f"{member} {100 * part:.3g} %" for member, part in plan.parts.items()]
        yield f"{work_line(plan)} ({listed(parts, _PARTS)})"
    if plan.readers + plan.reducers > 2:
        yield f"{counted(plan.readers, 'reader')}, {counted(plan.reducers, 'reducer')}"
    if plan.rates.link is None:
        yield "what a reader can send is not measured: a run on such devices measures it"
    if plan.readers > 1 and plan.rates.reading_together is None:
        yield f"what {plan.readers} readers read at once is not measured: counted as that many times one"
    yield from plan.remark.splitlines()


def work_line(plan: Plan) -> str:
    """Say what of the work of all members on all rows is left where they score rows of their own."""
    return f"members score their own rows: {100 * plan.work:.3g} % of the work of all members on all rows"


def _runtime_lines(plan: Plan) -> Iterator[str]:
    """Show which members run otherwise than in eager, and how far their numbers are from eager's."""
    firsts = {name: members[0] for name, members in units_of(plan.numerics.members).items()}
    runtimes = {name: plan.numerics.members[first].runtime for name, first in firsts.items()}
    for runtime in sorted(set(runtimes.values()) - {"eager"}):
        alike = [name for name, how in runtimes.items() if how == runtime]
        members = [f"{name} (within {plan.differences.get(firsts[name], 0.0):.1g})" for name in alike]
        yield f"in {runtime}: {', '.join(members)} of eager"


def _cell(plan: Plan, hosting: Hosting, members: Sequence[str], width: int, *, shaded: bool) -> str:
    if members[0] not in hosting.speeds:
        return "·".rjust(width)
    text = str(plan.numerics.members[members[0]].batch).rjust(width)
    part = min(1.0, sum(hosting.shares[member] / hosting.speeds[member] for member in members))
    return f"\x1b[48;5;{_SHADES[int(part * (len(_SHADES) - 1))]}m{text}\x1b[0m" if shaded else text


def load_of(hosting: Hosting) -> float:
    """Return the part of its time that each of the devices computes, by the plan."""
    return sum(hosting.shares[member] / speed for member, speed in hosting.speeds.items())


def taken_lines(taken: Mapping[str, str]) -> Iterator[str]:
    """Yield what each member's output is taken to be, a line for all of which it is the same.

    taken  member → what, in words
    """
    alike: dict[str, list[str]] = {}
    for member, what in taken.items():
        alike.setdefault(what, []).append(member)
    for members in alike.values():
        each = "output" if len(members) == 1 else "outputs"
        yield f"{each} of {devices_phrase(members)} for one row: {taken[members[0]]}"


def allocation_lines(allocations: Sequence[Allocation]) -> Iterator[str]:
    """Show plans on more and more nodes, the knee marked."""
    best = knee(allocations)
    yield f"{'nodes':>5}  {'time':>12}  {'device-hours':>12}  {'efficiency':>10}  limited by"
    for allocation in allocations:
        plan = allocation.plan
        mark = "  ← the knee" if allocation is best and len(allocations) > 2 else ""
        taken = f" ({_nodes_phrase(allocation)})" if len(allocation.taken) > 1 else ""
        yield (
            f"{allocation.nodes:>5}  {spell(plan.seconds):>12}  {plan.device_hours:>12,.3g}"
            f"  {100 * allocation.efficiency:>8.0f} %  {plan.limit}{taken}{mark}"
        )
    yield "(efficiency: the fewest device-hours of all these over those of this one; the knee: more nodes bring little)"


def deadline_line(deadline: float, allocation: Allocation) -> str:
    """Write how many nodes finish in so many seconds, and what they need them for."""
    takes = f"{spell(allocation.plan.seconds)}, limited by {allocation.plan.limit}"
    return f"fewest nodes that finish within {spell(deadline)}: {_nodes_phrase(allocation)} ({takes})"


def _nodes_phrase(allocation: Allocation) -> str:
    return " and ".join(f"{count} {name}" for name, count in allocation.taken)


def comparison_lines(compared: Sequence[Compared]) -> Iterator[str]:
    """Show all planners side by side."""
    bound = min((each.plan.bound for each in compared if each.plan), default=0.0)
    heads = f"{'rows/s':>12}  {'of the bound':>12}  {'instances':>9}  {'measured':>8}  {'planned in':>10}"
    yield f"{'planner':<10}  {heads}"
    for each in compared:
        if each.plan is None:
            yield f"{each.planner:<10}  {each.refused}"
            continue
        instances = sum(len(hosting.devices) * len(hosting.speeds) for hosting in each.plan.hostings)
        yield (
            f"{each.planner:<10}  {figures(each.plan.throughput):>12}  {100 * each.plan.throughput / bound:>10.1f} %"
            f"  {instances:>9,}  {each.measured:>8,}  {each.seconds:>8.2f} s"
        )
    yield "(bound: rows/s that no plan can exceed; instances: pairs of a member and a device that runs it; measured:"
    yield " short profiles of one member, for optimal and worst-fit; placements benchmarked whole, for greedy)"


def expectation_lines(expectation: Expectation) -> Iterator[str]:
    """Show the plan that a job will have, and on whose word; or why it is not known."""
    if expectation.plan is None:
        yield f"no plan yet: {expectation.unknown}; the job measures and plans at its start, on what its ranks find"
        return
    if expectation.source != "kept":
        like = {"cluster": "those under cluster:", "slurm": "Slurm's", "host": "this host"}[expectation.source]
        nodes = f"{expectation.nodes} node{'s' if expectation.nodes > 1 else ''}"
        yield f"expected, from kept profiles, on {nodes} like {like}:"
    yield from plan_lines(expectation.plan)


def simulation_lines(plan: Plan, simulated: Simulated) -> Iterator[str]:
    """Show rows/s beside the plan's, and how busy each hosting's devices, readers and reducers were."""
    seconds_of_all = simulated.seconds or inf  # of no rows: nobody was busy
    part = simulated.rows_per_second / plan.throughput
    yield (
        f"{simulated.rows:,} rows in {spell(simulated.seconds)}: {rate(simulated.rows_per_second)},"
        f" {100 * part:.1f} % of the plan's {figures(plan.throughput)}; {simulated.deliveries:,} messages"
    )
    planned = {h.devices: f", planned {100 * load_of(h):.0f} %" * (not plan.phases) for h in plan.hostings}
    for devices, phrase in planned.items():
        busy = [100 * simulated.devices[name] / seconds_of_all for name in devices]
        yield f"  {devices_phrase(devices)}: busy {span(busy, lambda part: f'{part:.0f}')} %{phrase}"
    roles = {"reading": (simulated.reading, plan.readers), "sending": (simulated.sending, plan.readers)}
    for role, (seconds, ranks) in (roles | {"writing": (simulated.writing, plan.reducers)}).items():
        yield f"  {role}: {100 * seconds / seconds_of_all / ranks:.0f} % of the time"
