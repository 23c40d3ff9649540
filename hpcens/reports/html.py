"""Draw a plan as one page: the allocation matrix as a heat map, what it reaches, memory, each with its caption."""

from __future__ import annotations

from pathlib import Path

from hpcens.reports.charts import Bar, Cell, Row, bars, heat_map, keys
from hpcens.reports.page import figure, page, paragraphs, scoped
from hpcens.reports.page import write_page as write
from hpcens.reports.plans import load_of, summary_lines
from hpcens.reports.text import amount, devices_phrase, figures, rate
from hpcens.vocabulary import Hosting, Plan
from hpcens.vocabulary.groups import units_of

_MOST_ROWS = 200


def write_page(plan: Plan, path: Path) -> None:
    """Write the page to a file. Raises UsageError where its name is no page's, OSError where it cannot be written."""
    write(draw(plan), path)


def draw(plan: Plan) -> str:
    """Return the page. Devices that nothing tells apart are one row."""
    return page(f"Plan: {rate(plan.throughput)}", _parts(plan))


def fragment(plan: Plan) -> str:
    """Return the part of the page that shows the plan, for a page of somebody else's, as a notebook is."""
    return scoped(_parts(plan))


def _parts(plan: Plan) -> list[str]:
    figures_of_plan = (matrix_figure(plan), memory_figure(plan, {}), _reach_figure(plan))
    return ["<h1>Plan</h1>", paragraphs(summary_lines(plan)), *figures_of_plan]


def matrix_figure(plan: Plan) -> str:
    """Draw the allocation matrix as a heat map."""
    more = f" {len(plan.hostings) - _MOST_ROWS} more rows are not drawn." if len(plan.hostings) > _MOST_ROWS else ""
    caption = (
        "Rows: devices, those that nothing tells apart as one. Columns: members. In a cell: the batch size in rows, and"
        " the rows/s that each of the devices is to score; the darker, the more of the device's time the member takes."
        f" A dot: the member does not run there. The last column: how busy the device is to be.{more}"
    )
    rows = [(_name(plan, hosting), [*_cells(plan, hosting), _load(hosting)]) for hosting in plan.hostings[:_MOST_ROWS]]
    drawing = heat_map([*units_of(plan.numerics.members), "busy"], rows, "allocation matrix: devices by members")
    return figure("Which device runs which member", caption, drawing)


def _name(plan: Plan, hosting: Hosting) -> str:
    phase = f", phase {hosting.phase + 1}" if plan.phases else ""
    return devices_phrase(hosting.devices) + phase


def _cells(plan: Plan, hosting: Hosting) -> list[Cell | None]:
    cells: list[Cell | None] = []
    for name, (member, *more) in units_of(plan.numerics.members).items():
        if member not in hosting.speeds:
            cells.append(None)
            continue
        share, speed = hosting.shares[member], hosting.speeds[member] / (1 + len(more))
        how = plan.numerics.members[member]
        title = (
            f"{name} on {_name(plan, hosting)}: batches of {how.batch}, in {how.runtime}; {rate(share)} of the"
            f" {figures(speed)} that it would make alone, {100 * share / speed:.0f} % of the device's time"
        )
        cells.append(Cell(share / speed, str(how.batch), f"{figures(share)}/s", title))
    return cells


def _load(hosting: Hosting) -> Cell:
    load = load_of(hosting)
    return Cell(load, f"{100 * load:.0f} %", "", f"{devices_phrase(hosting.devices)}: busy {100 * load:.0f} %")


def memory_figure(plan: Plan, measured: dict[str, int]) -> str:
    """Draw the memory that each device is to need, of what it has.

    measured  name of a device → bytes that its rank needed at most, where that is the same memory
    """
    sizes = {device.name: device.memory for device in plan.devices}
    drawn, rows = plan.hostings[:_MOST_ROWS], []
    unit, size = ("GiB", 1 << 30) if any(sizes[h.devices[0]] >= 1 << 30 for h in drawn) else ("MiB", 1 << 20)
    for hosting in drawn:
        least = min(sizes[name] for name in hosting.devices)
        needs = [Bar(hosting.memory / size, "first", f"predicted: {amount(hosting.memory)}")]
        text = f"{amount(hosting.memory)} of {amount(least)}"
        if found := [measured[name] for name in hosting.devices if name in measured]:
            needs.append(Bar(max(found) / size, "second", f"measured, at most: {amount(max(found))}"))
            text = f"{amount(hosting.memory)}, measured {amount(max(found))}, of {amount(least)}"
        rows.append(Row(_name(plan, hosting), needs, text, of=least / size))
    legend = [("first", "predicted"), ("track", "what there is")]
    if measured:
        legend.insert(1, ("second", "measured, the most of any of the devices"))
    beside = " and what its rank was measured to need at most, in host memory" if measured else ""
    caption = f"What each device is to need by the plan{beside}, of what it has."
    return figure("Memory", caption, bars(rows, "memory of each device", unit=unit), keys=keys(legend))


def _reach_figure(plan: Plan) -> str:
    rows = [
        Row("this plan", [Bar(plan.throughput, "first")], figures(plan.throughput)),
        Row("no plan can exceed", [Bar(plan.bound, "waiting")], figures(plan.bound)),
    ]
    caption = f"Rows/s of the whole ensemble, as predicted. What limits it: {plan.limit}."
    return figure("How close to the best", caption, bars(rows, "throughput beside the bound", unit="rows/s"))
