"""Draw a plan as one HTML page that needs nothing else, with the allocation matrix shaded by load."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from hpcens.files import write_atomically
from hpcens.reports.plans import load_of, summary_lines
from hpcens.reports.text import amount, devices_phrase
from hpcens.vocabulary import Hosting, Plan

# Of a plan alone, so that it changes nothing beside it, as in a notebook.
_STYLE = """
.hpcens { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2733 }
.hpcens table { border-collapse: collapse; margin: 1rem 0 }
.hpcens th, .hpcens td { padding: .3rem .6rem; text-align: right; border: 1px solid #d5dde5; white-space: nowrap }
.hpcens th:first-child, .hpcens td:first-child { text-align: left }
.hpcens td small { color: #4a5a6a; display: block } .hpcens .none { color: #9aa8b5 }
.hpcens .bar { fill: #2f6f9f } .hpcens .track { fill: #e6edf3 }
"""


def write_page(plan: Plan, path: Path) -> None:
    """Write the page to a file. Raises OSError where that cannot be written."""
    write_atomically(path, draw(plan))


def draw(plan: Plan) -> str:
    """Return the page. Devices that nothing tells apart are one row."""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Plan: {plan.throughput:,.0f} rows/s</title>\n'
        f"{fragment(plan)}</html>\n"
    )


def fragment(plan: Plan) -> str:
    """Return the part of the page that shows the plan, for a page of somebody else's, as a notebook is."""
    heads = "".join(f"<th>{escape(member)}</th>" for member in plan.members)
    rows = "".join(_row(plan, hosting) for hosting in plan.hostings)
    text = "".join(f"<p>{escape(line)}</p>" for line in summary_lines(plan))
    return (
        f'<style>{_STYLE}</style>\n<div class="hpcens"><h1>Plan</h1>\n{text}\n{_gauge(plan)}\n'
        f"<table><tr><th>devices</th>{heads}<th>busy</th><th>memory</th></tr>\n{rows}</table>\n"
        "<p>A cell: batch size, rows/s of each of the devices; the darker, the more of a device's time.</p></div>\n"
    )


def _row(plan: Plan, hosting: Hosting) -> str:
    memory = {device.name: device.memory for device in plan.devices}
    least = min(memory[name] for name in hosting.devices)
    cells = "".join(_cells(plan, hosting))
    return (
        f"<tr><td>{escape(devices_phrase(hosting.devices))}</td>{cells}<td>{100 * load_of(hosting):.0f} %</td>"
        f"<td>{amount(hosting.memory)} of {amount(least)}</td></tr>\n"
    )


def _cells(plan: Plan, hosting: Hosting) -> Iterator[str]:
    for member in plan.members:
        if member not in hosting.speeds:
            yield '<td class="none">·</td>'
            continue
        part = hosting.shares[member] / hosting.speeds[member]
        shade = f"background: rgba(47, 111, 159, {0.06 + 0.6 * min(1.0, part):.2f})"
        numbers = f"{plan.numerics.members[member].batch}<small>{hosting.shares[member]:,.4g}/s</small>"
        yield f'<td style="{shade}">{numbers}</td>'


def _gauge(plan: Plan) -> str:
    """Draw the throughput beside the bound."""
    wide = 600 * min(1.0, plan.throughput / plan.bound)
    return (
        '<svg width="600" height="14" role="img" aria-label="throughput over the bound">'
        f'<rect class="track" width="600" height="14"/><rect class="bar" width="{wide:.1f}" height="14"/></svg>'
    )
