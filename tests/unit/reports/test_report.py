"""The report: what a start did beside what was predicted, and what it took until its first batch, by part."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcens.cli import main
from hpcens.reports.text import cost_line, figures, nodes_phrase, report_lines, spot_check_lines, start_lines
from hpcens.runs import (
    Claim,
    Events,
    InstanceReport,
    PlanMade,
    ProfilingBegan,
    ProfilingEnded,
    ProgressMade,
    RankReport,
    Report,
    RunDirectory,
    SpotCheck,
    Verdict,
    WorldFormed,
)
from hpcens.runs.cost import Cost, cost_of
from hpcens.runs.status import status

REPORT = Report(
    rows=4000,
    seconds=50.0,
    rows_per_second=80.0,
    predicted_rows_per_second=100.0,
    instances=(
        InstanceReport("n0/cpu0", "m0", 16, "eager", 100.0, 100.0, 0, 4000, 90.0),
        InstanceReport("n0/cpu1", "m0", 16, "eager", 1.0, 1.0),
    ),
    bottleneck="device: busy 88 % of the time",
    syncing_share=0.125,
    idle=(),
    ranks=(
        RankReport("reader", {"Read": 5.0, "wait for input": 25.0}, 0.0, 0.5, 1 << 20),
        RankReport("parked", {}, 0.0, 0.25, 1 << 19),
    ),
    masked=(),
)
WORLD = WorldFormed("mpi", {"n0": 4}, False, ())
PLAN = PlanMade(100.0, 100.0, "")
PROGRESS = ProgressMade(0, 4000)
COLD = [WORLD, ProfilingBegan(1), ProfilingEnded(), PLAN, PROGRESS, PROGRESS]


def events(kinds, steps):
    moments = [1000.0 + sum(steps[: i + 1]) for i in range(len(kinds))]
    return [replace(event, time=moment) for event, moment in zip(kinds, moments, strict=True)]


def test_a_cold_start_says_what_profiling_took_and_predicts_nothing():
    [line] = start_lines(1000.0, events(COLD, [1.5, 0.5, 4, 0.25, 2, 9]))
    assert line.startswith("ready 8.2 s after it began: 1.5 s to launch the ranks; ")
    assert "; 4.0 s to profile members and prepare their runtimes; " in line
    assert line.endswith(" s to import torch and load members") and "predicted" not in line


def test_a_warm_start_says_nothing_of_profiling():
    [line] = start_lines(1000.0, events([WORLD, PLAN, PROGRESS], [1.5, 0.5, 2]))
    assert line.startswith("ready 4.0 s") and "profil" not in line


def test_a_start_that_came_to_no_batch_says_nothing():
    assert list(start_lines(1000.0, events([WORLD, PLAN], [1, 1]))) == []


@given(st.lists(st.integers(1, 100), min_size=6, max_size=6))
def test_the_parts_add_up(steps):
    [line] = start_lines(1000.0, events(COLD, steps))
    whole, *parts = [float(part.split(" s ")[0].split()[-1]) for part in line.replace(": ", "; ").split("; ")]
    assert whole == sum(parts) == sum(steps[:5])


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.78345, "0.783"),
        (1.424, "1.42"),
        (90.0, "90"),
        (999.4, "999"),
        (999.6, "1,000"),
        (33_344, "33,300"),
        (math.inf, "inf"),
    ],
)
def test_a_figure_has_three_digits(number, text):
    assert figures(number) == text


@given(st.floats(1e-3, 1e12))
def test_a_figure_is_within_half_a_percent(number):
    assert float(figures(number).replace(",", "")) == pytest.approx(number, rel=0.0051)


def test_what_was_measured_stands_beside_what_was_predicted():
    assert list(report_lines(REPORT)) == [
        "scored 4,000 rows in 50.00 s: 80 rows/s, 100 predicted",
        "  device  member  batch size  rows scored  rows/s while it computed them, and as planned",
        "  n0/cpu0  m0  batch 16  4,000 rows  90 rows/s while it ran, 100 planned",
        "  reducers waited for the disk 12.5 % of the time",
        "  busiest role: device, busy 88 % of the time",
        "  ranks, by role: time of the CPU, most memory in use, what share of the scoring time went into what",
        "  reader: 0.5 s of CPU, peak 1.0 MiB; waited for input 50 %, read 10 %",
        "  parked: 0.2 s of CPU, peak 512.0 KiB",
    ]
    ranks = (*REPORT.ranks, *(RankReport(f"device n0/cpu{i}", {}, 0.0, 0.5, 1) for i in range(2)))
    lines = "\n".join(report_lines(replace(REPORT, ranks=ranks, sharing=1)))
    assert "  rows in shared memory: 1 of 2 devices" in lines and "copied once more" not in lines
    unregistered = ("n0/cuda0 (cudaHostRegister: out of memory)",)
    lines = list(report_lines(replace(REPORT, unregistered=unregistered)))
    assert "  rows were copied once more on their way to n0/cuda0 (cudaHostRegister: out of memory)" in lines
    assert "  not used: n0/cuda0: " in "\n".join(report_lines(replace(REPORT, idle=("n0/cuda0",))))


def test_a_spot_check_says_what_it_was_held_against():
    plain = SpotCheck("m0", "frozen", 40, 2, 2e-4)
    narrow = replace(plain, runtime="cuda_graphs", worst=0.02, precision="bfloat16")
    assert list(spot_check_lines(replace(REPORT, spot_checks=(plain, narrow)))) == [
        "m0 in frozen: 40 rows within 0.0002 of eager, 2 beyond plan.tolerance",
        "m0 in cuda_graphs: 40 rows within 0.02 of eager in bfloat16, 2 beyond what rounding in bfloat16 explains",
    ]


def test_members_that_ran_as_one_are_one_instance():
    """Each took an equal part of its time."""
    instances = [
        InstanceReport(device, member, 16, "stacked", 300.0, 100.0, 0, 1000, speed, "m0 … m2 (3)")
        for device, speed in (("n0/cpu0", 270.0), ("n0/cpu1", 240.0))
        for member in ("m0", "m1", "m2")
    ]
    alone = InstanceReport("n0/cpu0", "x", 16, "eager", 100.0, 100.0, 0, 1000, 90.0)
    report = replace(REPORT, instances=(*instances, alone))
    assert list(report_lines(report))[2:5] == [
        "  n0/cpu0  m0 … m2 (3)  batch 16  1,000 rows  90 rows/s while it ran, 100 planned",
        "  n0/cpu1  m0 … m2 (3)  batch 16  1,000 rows  80 rows/s while it ran, 100 planned",
        "  n0/cpu0  x  batch 16  1,000 rows  90 rows/s while it ran, 100 planned",
    ]
    assert json.loads(report.to_json())["instances"][0]["group"] == "m0 … m2 (3)"
    assert "group" not in json.loads(report.to_json())["instances"][-1]


def test_equal_instances_and_ranks_of_a_role_are_one_line():
    """Of 128 GPUs and five members there would be 800."""
    devices = [f"n{i}/cuda{j}" for i in range(32) for j in range(4)]
    instances = [
        InstanceReport(device, member, 16, "eager", 100.0, 100.0, 0, 10, 50.0 if device == "n7/cuda1" else 90.0 + i % 3)
        for i, device in enumerate(devices)
        for member in ("m0", "m1")
    ]
    ranks = [
        RankReport(f"device {name}", {"Predict": 25.0 + i % 2}, 0.0, 1.0, 1 << 20) for i, name in enumerate(devices)
    ]
    many = replace(REPORT, instances=tuple(instances), ranks=(*REPORT.ranks, *ranks), idle=("a", "b", "c"))
    lines = list(report_lines(many))
    assert len(lines) == 11
    assert lines[2] == (
        "  n0/cuda0 … n31/cuda3 (128)  m0  batch 16  1,280 rows"
        "  50–92 rows/s each while they ran, 100 planned; slowest: n7/cuda1"
    )
    assert lines[5].startswith("  not used: a … c (3): ")
    assert lines[-1] == "  128 × device: 1.0 s of CPU, peak 1.0 MiB, each; computed 50–52 %"


def test_nodes_of_as_many_ranks_are_told_together():
    assert nodes_phrase({"n0": 4, "n1": 2}) == "4 on n0, 2 on n1"
    assert nodes_phrase({f"n{i}": 6 - (i == 7) for i in range(128)}) == "6 on each of n0 … n127 (127), 5 on n7"


def test_what_starts_cost_is_told_in_hours_of_nodes_and_gpus(tmp_path, capsys):
    run = RunDirectory(tmp_path / "x.run")
    for number, (nodes, seconds, idle) in enumerate([(4, 1800.0, ()), (2, 3600.0, ("n1/cuda0",))]):
        epoch = run.begin()
        began = Claim.load(epoch.claim).began
        writer = Events(epoch.events)
        writer.add(WorldFormed("mpi", {f"n{i}": 6 for i in range(nodes)}, False, idle, time=began + 5))
        writer.add(ProgressMade(10, 10, time=began + seconds))
        writer.close()
        devices = [{"family": "cuda"}] * 8 + [{"family": "cpu"}]
        epoch.plan.write_text(json.dumps({"devices": devices if not number else []}))
        epoch.judge(Verdict(75, "drained"))
    run.begin().judge(Verdict(2, "its ranks never met"))
    last, *_ = starts = list(run.epochs())[1:]
    assert cost_line(cost_of([last]), cost_of(starts)) == (
        "cost: 2 node-hours, 1 GPU-hours; all starts of the run: 4 node-hours, 5 GPU-hours"
    )
    found = status(run.path)
    assert (found.node_hours, found.gpu_hours) == (pytest.approx(4.0), pytest.approx(5.0))
    assert cost_of([last], running=True).node_seconds < 100
    assert cost_line(Cost(3600), Cost(3600)) == "cost: 1 node-hours"
    for verbose in ([], ["-v"]):
        assert main(["status", str(run.path), *verbose]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "node-hours" in line]
        assert len(lines) == 1 and "4 node-hours, 5 GPU-hours" in lines[0], "once"
