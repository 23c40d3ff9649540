"""What whoever follows a start sees of it, where there is no terminal: a line now and then."""

import io

import pytest

from hpcens.reports.progress import Follower
from hpcens.runs import (
    DrainBegan,
    Events,
    PlanMade,
    ProfilingBegan,
    ProfilingEnded,
    ProgressMade,
    RunDirectory,
    Verdict,
    WorldFormed,
)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "x.run").mkdir()
    return RunDirectory(tmp_path / "x.run")


@pytest.fixture
def follow(run):
    """Add events to a start, and return the lines that they make."""
    out = io.StringIO()
    follower = Follower(out)

    def lines(epoch, *events):
        writer = Events(epoch.events)
        for event in events:
            writer.add(event)
        writer.close()
        out.truncate(0)
        out.seek(0)
        follower.tick(epoch)
        return out.getvalue().splitlines()

    yield lines
    follower.close()


def test_each_event_has_its_line_once(run, follow):
    epoch = run.begin()
    world = WorldFormed("MPICH 4.2", {"n0": 3, "n1": 1}, True, ())
    why = ("m0, m1: not measured before",)
    assert follow(epoch, world, ProfilingBegan(4, why), ProfilingEnded()) == [
        "MPI ranks: 3 on n0, 1 on n1 (one a device, and readers and reducers); MPICH 4.2",
        "warning: this MPI came with a Python package; over several nodes use the site's own",
        "profiling: 4 measurements to take",
        "  m0, m1: not measured before",
    ]
    assert follow(epoch, PlanMade(90.0, 100.0, "member a")) == [
        "plan: 90 rows/s predicted, 90.0 % of the most that is possible at the speeds measured; limited by member a"
    ]
    assert follow(epoch, DrainBegan("cancelled")) == ["cancelled: finishing what is under way"]
    assert follow(epoch) == []


def test_what_is_complete_is_said_once_in_each_phase(run, follow):
    """The rows are reported by the reader, and again once they are read back."""
    epoch = run.begin()
    progress = [(0, 0.0), (40, 2.0), (100, 4.0), (100, 5.0)]
    first = [ProgressMade(rows, 100, phases=2, time=1000 + seconds) for rows, seconds in progress]
    last = [ProgressMade(rows, 100, phase=2, phases=2, time=1010 + seconds) for rows, seconds in progress]
    assert follow(epoch, *first, *last) == [
        "phase 1 of 2",
        "100 of 100 rows (100 %), 25 rows/s",
        "phase 2 of 2",
        "100 of 100 rows (100 %), 25 rows/s",
    ]


def test_rows_read_back_damaged_are_scored_and_said_again(run, follow):
    epoch = run.begin()
    progress = [(0, 0.0), (100, 4.0), (60, 5.0), (100, 6.0)]
    lines = follow(epoch, *(ProgressMade(rows, 100, time=1000 + seconds) for rows, seconds in progress))
    assert [line.partition(" (")[0] for line in lines] == ["0 of 100 rows", "100 of 100 rows", "100 of 100 rows"]


def test_another_start_continues_where_the_first_one_ended(run, follow):
    first = run.begin()
    follow(first, ProgressMade(0, 100), ProgressMade(60, 100))
    first.judge(Verdict(75, "drained"))
    second = run.begin()
    lines = follow(second, ProgressMade(60, 100, time=1000.0), ProgressMade(100, 100, time=1004.0))
    assert lines == ["continuing: 60 of 100 rows are durable already", "100 of 100 rows (100 %), 10 rows/s"]


def test_a_device_that_broke_is_named_once_in_each_start(run, follow):
    epoch, broken = run.begin(), ("GPU 7 of n0 failed: ECC",)
    lines = follow(epoch, ProgressMade(0, 100), *(ProgressMade(0, 100, broken=broken, taken=taken) for taken in (0, 8)))
    assert lines[1:] == ["warning: GPU 7 of n0 failed: ECC; others take over its rows"]
    epoch.judge(Verdict(75, "drained"))
    assert follow(run.begin(), ProgressMade(0, 100, broken=broken))[0] == lines[1]
