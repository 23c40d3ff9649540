"""Plans as text and as a page: short for many devices, complete for every member, and escaped."""

import re
from dataclasses import replace

from support.instances import problem
from support.pages import check_page
from support.placements import planned

from hpcens.reports.html import draw
from hpcens.reports.plans import plan_lines
from hpcens.vocabulary import Plan


def test_ten_thousand_equal_devices_are_a_line_of_the_plan():
    made = planned(problem(0, devices=10_000, members=64, kinds=4), rows=10**9)
    assert made.gap <= 1e-6 and len(made.hostings) <= 4 * 65
    assert len(made.to_json()) < 200 * 10_000
    lines = list(plan_lines(made))
    assert len(lines) < 300 and "h/0 … h/9996 (2500)" in "\n".join(lines)
    assert Plan.from_json(made.to_json()) == made


def test_a_drawing_needs_nothing_else_and_shows_every_member_and_device():
    made = planned(problem(4, devices=3, members=4))
    made = replace(made, devices=tuple(replace(d, kind="<kind>") for d in made.devices), limit="<limit> & more")
    page = draw(made)
    check_page(page)
    assert "&lt;limit&gt; &amp; more" in page and all(f">{member}</text>" in page for member in made.members)
    assert "batches of" in page and "<kind>" not in page


def test_a_plan_says_how_rows_travel_and_counts_what_there_is_one_of():
    made = planned(problem(4, devices=1, members=2))
    text = "\n".join(plan_lines(made))
    segments = f"segments of {made.numerics.segment_rows:,}; {made.window} segments are under way at most"
    assert f"rows are read, scored and written in {segments}" in text and "device-hours on 1 device\n" in text
    assert "1 segment is under way at most" in "\n".join(plan_lines(replace(made, window=1)))


def test_shading_changes_no_figure():
    made = planned(problem(4, devices=3, members=4))
    plain, shaded = "\n".join(plan_lines(made)), "\n".join(plan_lines(made, shaded=True))
    assert "\x1b" in shaded and "\x1b" not in plain
    assert re.sub("\x1b\\[[0-9;]*m", "", shaded) == plain
