"""A plan that shows itself: text, a table of rich, HTML that touches nothing beside it."""

import re
from dataclasses import replace

from rich.console import Console
from support.instances import problem
from support.placements import planned

import hpcens


def test_a_plan_shows_itself_as_text_as_a_table_and_as_html():
    base = planned(problem(4, devices=3, members=4))
    plan = hpcens.Plan.of(replace(base, limit="[bold]<b>"))
    assert plan.throughput == base.throughput and repr(plan).startswith("device") and "rows/s" in repr(plan)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(plan)
    shown = console.export_text()
    console.file.close()
    assert all(member in shown for member in plan.members) and "[bold]<b>" in shown
    html = plan._repr_html_()
    assert "&lt;b&gt;" in html and "<html" not in html and all(f">{member}</text>" in html for member in plan.members)
    rules = re.findall(r"[^{}]+(?=\{)", html[html.index("<style>") + 7 : html.index("</style>")])
    assert rules and all(selector.strip().startswith(".hpcens") for rule in rules for selector in rule.split(","))
