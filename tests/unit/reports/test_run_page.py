"""The page of a run: whole whatever is known of it, drawn to scale, and nothing in it is taken for markup."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.instances import problem
from support.lossy import LossyDisk
from support.pages import check_page
from support.placements import planned
from support.results import ROWS, begin, directory, score

from hpcens.cli import main
from hpcens.reports.charts import histogram
from hpcens.reports.ending import output_of
from hpcens.reports.run_charts import read_trace, values_figures
from hpcens.reports.run_page import draw_run
from hpcens.reports.svg import apart, short, ticks, words
from hpcens.reports.values import Sample
from hpcens.result.outputs import Output
from hpcens.runs import Events, InstanceReport, PlanMade, ProgressMade, RankReport, Report, Verdict, WorldFormed
from hpcens.transports import write_trace

HOSTILE = "<b>&\"'\x1b[1m</svg>"


def plan():
    made = planned(problem(4, devices=3, members=4), rows=ROWS)
    return replace(made, limit=HOSTILE, devices=tuple(replace(d, kind=HOSTILE) for d in made.devices))


def report(made):
    instances = tuple(
        InstanceReport(i.device, i.member, i.batch, i.runtime, i.speed, i.share, i.phase, 5, i.speed / 2)
        for i in made.instances
    )
    ranks = (
        RankReport("reader", {"Read": 1.0, "wait for input": 3.0}, 0.0, 0.5, 1 << 20),
        RankReport("parked", {}, 0.0, 0.25, 1 << 19),
        RankReport(f"device {HOSTILE}", {"Predict": 4.0}, 0.0, 4.0, 1 << 30),
    )
    return Report(
        rows=ROWS,
        seconds=4.0,
        rows_per_second=5.5,
        predicted_rows_per_second=11.0,
        instances=instances,
        bottleneck="device: busy 88 % of the time",
        syncing_share=0.0,
        idle=(),
        ranks=ranks,
        masked=(),
    )


@pytest.fixture
def run(tmp_path):
    """A run that is complete, with a plan; its claim says that it began at 0."""
    run = directory(tmp_path)
    epoch = begin(run)
    score(run, tmp_path, LossyDisk(), epoch=epoch)
    made = plan()
    epoch.keep_plan(made)
    events = Events(epoch.events)
    events.add(WorldFormed("mpi", {"n0": 4}, False, (), time=1.0))
    events.add(PlanMade(11.0, 12.0, HOSTILE, time=2.0))
    for rows, moment in ((0, 4.0), (10, 5.0), (ROWS, 8.0), (ROWS, 9.0)):
        events.add(ProgressMade(rows, ROWS, time=moment))
    events.close()
    report(made).save(epoch.report)
    epoch.judge(Verdict(0, HOSTILE))
    return run


def drawn(run):
    page = draw_run(run, output_of(run))
    assert "<b>" not in page and "\x1b" not in page
    return page, check_page(page)


def test_a_whole_run_is_drawn_and_nothing_is_markup(run):
    page, pictures = drawn(run)
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == [
        "Which device runs which member",
        "Ranks over time",
        "Rows/s over time",
        "Planned and measured",
        "Memory",
        "Labels",
        "Predictions and uncertainties",
        "Provenance",
    ]
    assert page.count('<p class="caption">') == len(titles)
    assert "&lt;b&gt;&amp;&quot;&#x27;\\x1b[1m&lt;/svg&gt;" in page and "1–4 s: 4 rows/s" in page
    about = [picture.get("aria-label") for picture in pictures if picture.get("role")]
    assert "rows per second over time" in about and "what each rank did over time" in about


@pytest.mark.parametrize("gone", ["plan.json", "report.json", "events.jsonl", "verdict.json", "claim.json", "out.h5"])
def test_a_page_shows_what_there_is(run, gone):
    (run.path.parent / gone if gone == "out.h5" else run.newest.folder / gone).unlink()
    page, _ = drawn(run)
    assert "Provenance" in page


def test_a_run_without_rows_has_a_page(run):
    epoch = begin(run)
    epoch.judge(Verdict(1, "a rank died"))
    output_of(run).unlink()
    assert "failed (1)" in draw_run(run, output_of(run))


def test_the_verb_writes_the_page_and_nothing_else_over(run, capsys):
    result = output_of(run)
    before = result.read_bytes()
    assert main(["report", str(run.path), "-o", str(result)]) == 2
    assert "ends in .html" in capsys.readouterr().err and result.read_bytes() == before
    assert main(["report", str(result)]) == 0
    check_page(result.with_suffix(".html").read_text())
    assert main(["report", str(result.with_name("nothing.h5"))]) == 2


def test_a_trace_is_drawn_where_things_happened(tmp_path, run):
    path = tmp_path / "trace.json"
    device = [("m0", 10.0, 2.0, 1), ("wait for input", 12.0, 1.0, None), ("m1", 13.0, 1.0, 1), ("m0", 14.0, 1.0, 2)]
    write_trace(path, [("reader", [("Read", 10.0, 1.0, 1)]), ("device a", device)])
    lanes = read_trace(path, 9.0)
    assert [(s.begin, s.end, s.title) for s in lanes["rank 1: device a"]] == [
        (1.0, 3.0, "computed"),
        (3.0, 4.0, "waited for input"),
        (4.0, 6.0, "computed"),
    ]
    assert read_trace(path, 11.0) == {}  # of an earlier start
    assert read_trace(tmp_path / "none", 0.0) == read_trace(None, 0.0) == {}
    (run.newest.job).write_text(json.dumps({"job": json.dumps({"trace": str(path), "output": "/x/out.h5"})}))
    page, _ = drawn(run)
    assert "rank 1: device a" in page and "every span is drawn where it happened" in page


def test_many_spans_are_few_shapes(tmp_path):
    spans = [(name, i + 0.5 * j, 0.5, i) for i in range(5000) for j, name in enumerate(("m0", "wait for input"))]
    write_trace(tmp_path / "t.json", [("device a", [(n, 1.0 + b, s, i) for n, b, s, i in spans])])
    [lane] = read_trace(tmp_path / "t.json", 0.0).values()
    assert 1 <= len(lane) < 2000 and lane[-1].end <= 5001


def of_values(values, **outputs):
    arrays = {"prediction": values, **outputs}
    described = {name: Output(name, array.shape[1:], array.dtype.str) for name, array in arrays.items()}
    return Sample(len(values), len(values), 0, described, arrays, ())


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1.5]] * 4, np.float32),
        np.array([[np.nan], [np.inf], [1], [2]], np.float32),
        np.array([[-1e30], [1e30]], np.float32),
        np.array([[1e-30], [2e-30]], np.float64),
    ],
)
def test_any_values_have_a_histogram(values):
    [section] = values_figures(of_values(values))
    counts = [int(n.replace(",", "")) for n in re.findall(r"<title>.*?: ([\d,]+)</title>", section)]
    assert sum(counts) == np.isfinite(values).sum()
    check_page(section)


def test_values_that_are_none_have_no_histogram():
    assert values_figures(of_values(np.full((3, 1), np.nan, np.float32))) == []


def test_bars_are_as_tall_as_their_counts():
    drawing = histogram([2, 4, 0], [0.0, 1.0, 2.0, 3.0], "x")
    heights = [float(h) for h in re.findall(r'class="first"[^>]* height="([\d.]+)"', drawing)]
    assert heights[1] == pytest.approx(2 * heights[0]) and heights[2] == 0


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_round_few_and_inside(low, span):
    found = ticks(low, low + span)
    near = 1e-6 * span + 1e-9 * abs(low)
    assert len(found) <= 8
    assert all(low - near <= tick <= low + span + near for tick in found) or len(found) == 1


@pytest.mark.parametrize(
    ("numbers", "texts"),
    [
        ([-1234.5, -1234.4, -1234.3], ["-1,234.5", "-1,234.4", "-1,234.3"]),
        ([0.0, 20000.0], ["0", "20,000"]),
        ([0.0, 0.5], ["0.0", "0.5"]),
        ([0.0, 2e-30, 4e-30], ["0", "2e-30", "4e-30"]),
        ([1.0, 1.000001], ["1", "1.000001"]),
        ([3.0], ["3"]),
    ],
)
def test_marks_of_an_axis_are_told_apart(numbers, texts):
    assert apart(numbers) == texts


@given(st.text(max_size=40))
def test_any_text_is_words(text):
    found = words(text)
    assert (not re.search('[<>"\x00-\x08\x0b-\x1f]', found) and found.isascii()) or found


def test_long_names_keep_both_ends():
    assert short("abcdefghijklmnopqrstuvwxyz", 66) == "abcd…vwxyz" and short("abc", 66) == "abc"
