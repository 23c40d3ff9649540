"""The end of a run as a person reads it: what was asked for, then the speed and one prediction, then what limits it."""

from dataclasses import replace

import pytest
from support.lossy import LossyDisk
from support.results import ROWS, begin, directory, score

from hpcens.cli import main
from hpcens.cli.runs import status_lines
from hpcens.reports.ending import bottleneck_sentence, ending_lines, output_of, speed_line
from hpcens.reports.run_page import draw_run
from hpcens.runs import Events, ProfilingBegan, ProfilingEnded, ProgressMade, Report, Verdict, WorldFormed
from hpcens.runs.status import Status

REPORT = Report(
    rows=ROWS,
    seconds=4.0,
    rows_per_second=5.5,
    predicted_rows_per_second=11.0,
    instances=(),
    bottleneck="device: busy 88 % of the time",
    syncing_share=0.0,
    idle=(),
    ranks=(),
    masked=(),
)


@pytest.fixture
def run(tmp_path):
    """A run that is complete: four seconds of launching and profiling, four of scoring, one to read back."""
    run = directory(tmp_path)
    epoch = begin(run)  # its claim says that it began at 0
    score(run, tmp_path, LossyDisk(), epoch=epoch)
    moments = [WorldFormed("mpi", {"n0": 4}, False, ()), ProfilingBegan(1), ProfilingEnded(), ProgressMade(0, ROWS)]
    moments += [ProgressMade(ROWS, ROWS)] * 2
    events = Events(epoch.events)
    for event, moment in zip(moments, [1.0, 1.5, 3.5, 4.0, 8.0, 9.0], strict=True):
        events.add(replace(event, time=moment))
    events.close()
    REPORT.save(epoch.report)
    epoch.judge(Verdict(0, f"{ROWS} rows scored"))
    return run


def test_what_was_asked_for_comes_first_then_speed_then_the_bottleneck(run):
    lines = list(ending_lines(run, output_of(run)))
    size = output_of(run).stat().st_size / 1024
    assert lines[0] == f"22 rows in 9 s → {output_of(run)} ({size:.1f} KiB)"
    assert lines[1].startswith("labels: ")
    assert lines[2:] == [
        "speed: 5.5 rows/s while scoring, too short a time to compare with the 11 predicted",
        "time: 4 s until the first batch (2 s of it to measure members, kept for later), 4 s of scoring,"
        " 1 s to read back and finish",
        "bottleneck: the devices, which computed 88 % of the time; more or faster devices would help",
    ]
    assert "\n".join(lines).count("predicted") == 1


def test_devices_that_broke_are_named_with_what_others_did_in_their_place(run):
    replace(REPORT, broken=("GPU 7 of n0 failed: ECC", "GPU 1 of n2 failed: lost"), taken=1234).save(run.newest.report)
    assert Report.load(run.newest.report).taken == 1234
    assert list(ending_lines(run, output_of(run)))[5] == (
        "warning: GPU 7 of n0 failed: ECC; GPU 1 of n2 failed: lost; others took over 1,234 rows, counted once for each"
        " member"
    )


def test_what_was_predicted_is_compared_with_what_took_some_time():
    longer = replace(REPORT, rows=28)
    assert speed_line(longer) == "speed: 5.5 rows/s while scoring, 50 % of the 11 predicted"
    assert speed_line(replace(longer, rows=27)).endswith("too short a time to compare with the 11 predicted")


def test_the_rest_is_behind_verbose(run):
    short, long = list(ending_lines(run, output_of(run))), list(ending_lines(run, output_of(run), verbose=True))
    assert long[: len(short)] == short
    rest = "\n".join(long[len(short) :])
    assert "ready 4.0 s after it began" in rest and "busiest role: device" in rest and "cost: " in rest


def test_status_of_an_ended_run_says_the_same(run, capsys):
    assert main(["status", str(run.path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("complete: 22 of 22 rows (100 %), start 1\n22 rows in 9 s → ")
    assert "the 11 predicted" in out and "busiest role" not in out
    main(["status", "-v", str(run.path)])
    assert "busiest role" in capsys.readouterr().out


def test_a_start_that_left_rows_says_how_many_are_durable(run):
    epoch = begin(run)
    events = Events(epoch.events)
    events.add(ProgressMade(8, ROWS, time=4.0))
    events.add(ProgressMade(12, ROWS, time=6.0))
    events.close()
    replace(REPORT, rows=6).save(epoch.report)
    epoch.judge(Verdict(75, "drained"))
    lines = list(ending_lines(run, output_of(run)))
    assert lines[0] == "12 of 22 rows are durable; start 2 scored 6 in 6 s, of which 4 are saved"
    assert not any(line.startswith("labels") for line in lines)


def test_a_result_that_was_moved_or_is_damaged_hides_nothing_else(run):
    output_of(run).unlink()
    lines = list(ending_lines(run, output_of(run)))
    assert lines[0].startswith("22 rows in 9 s → ") and lines[1].startswith("values are not shown: ")
    assert lines[2].startswith("speed: ")


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e308])
def test_a_report_that_is_damaged_hides_nothing_else(run, seconds):
    replace(REPORT, seconds=seconds, rows_per_second=seconds).save(run.newest.report)
    first, *_ = ending_lines(run, output_of(run), verbose=True)
    assert first.startswith("22 rows") and "Provenance" in draw_run(run, output_of(run))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("reader: busy 95 % of the time", "bottleneck: reading the dataset, which took 95 % of the time; "),
        ("reducer: busy 61 % of the time", "bottleneck: combining and writing the result, which took 61 %"),
        ("device: busy 32 % of the time", "bottleneck: none; even the devices, busiest of all, computed only 32 %"),
        ("", ""),
        ("something else", ""),
    ],
)
def test_the_bottleneck_is_a_sentence(words, sentence):
    said = bottleneck_sentence(replace(REPORT, bottleneck=words))
    assert said.startswith(sentence) and bool(said) == bool(sentence)


def test_what_is_not_complete_is_never_a_hundred_percent():
    almost = Status(
        "x.run", "resumable", 75, 1, 2_999_999, 3_000_000, *(0.0,) * 2, None, None, *("",) * 2, 0.0, *("",) * 2
    )
    assert next(iter(status_lines(almost))).startswith("resumable: 2,999,999 of 3,000,000 rows (99 %)")
