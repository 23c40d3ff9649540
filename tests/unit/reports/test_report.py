"""The report: what a start took until its first batch is told by part."""

from hypothesis import given
from hypothesis import strategies as st

from hpcens.reports.text import start_lines

REPORT = {"rows": 4000, "predicted_rows_per_second": 100.0}
COLD = ["world", "profiling", "profiled", "planned", "progress", "progress"]


def events(names, steps):
    moments = [1000.0 + sum(steps[: i + 1]) for i in range(len(names))]
    return [{"event": name, "time": moment} for name, moment in zip(names, moments, strict=True)]


def test_a_cold_start_says_what_part_of_the_run_profiling_took():
    [line] = start_lines(1000.0, events(COLD, [1.5, 0.5, 4, 0.25, 2, 9]), REPORT)
    assert line.startswith("ready 8.2 s after it began: 1.5 s to launch the ranks; ")
    assert "; 4.0 s to profile members and prepare their runtimes; " in line
    assert line.endswith("; profiling is 10.0 % of the 40 s predicted")


def test_a_warm_start_says_nothing_of_profiling():
    [line] = start_lines(1000.0, events(["world", "planned", "progress"], [1.5, 0.5, 2]), REPORT)
    assert line.startswith("ready 4.0 s") and "profil" not in line


def test_a_start_that_came_to_no_batch_says_nothing():
    assert list(start_lines(1000.0, events(["world", "planned"], [1, 1]), REPORT)) == []


@given(st.lists(st.integers(1, 100), min_size=6, max_size=6))
def test_the_parts_add_up(steps):
    [line] = start_lines(1000.0, events(COLD, steps), REPORT)
    whole, *parts = [float(part.split(" s ")[0].split()[-1]) for part in line.replace(": ", "; ").split("; ")[:-1]]
    assert whole == sum(parts) == sum(steps[:5])
