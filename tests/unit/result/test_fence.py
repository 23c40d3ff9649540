"""Two starts of one run, each suspended at any call: the same bytes, and nothing that was durable is lost."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lossy import LossyDisk
from support.results import (
    EXPECTED,
    GZIP,
    check_nothing_reported_is_lost,
    content,
    directory,
    form,
    score,
)
from support.suspension import Suspended, SuspendedDisk

from hpcens.errors import HpcensError, Superseded
from hpcens.result.disk import Disk
from hpcens.result.result import Result, reopen
from hpcens.result.verify import look_through
from hpcens.runs import SlurmJob

LATE = (HpcensError, FileNotFoundError)
"""How a start may end that another has taken the place of."""


def attempt(run, folder, number, told, disk=None, compression=None):
    """A start as the same job's restart makes it: whatever lives of the one before is kept out by the fence alone."""

    def live():
        epoch = start.epoch = run.begin(SlurmJob("7", "c", number, "x"))
        return score(run, folder, SuspendedDisk(disk), compression, told, epoch=epoch)

    start = Suspended(live)
    start.epoch = None
    return start


def both(folder, steps, seed=0, compression=None):
    """Let two starts run by turns up to these calls, then each to its end; check what they leave."""
    folder.mkdir()
    run = directory(folder)
    starts = [attempt(run, folder, n, [], LossyDisk(seed=seed + n), compression) for n in range(2)]
    for turn, bound in enumerate(steps):
        starts[turn % 2].run(bound)
    for start in starts:
        start.run()
        assert start.error is None or isinstance(start.error, LATE), start.error
    newest = max(starts, key=lambda start: start.epoch.number if start.epoch else 0)
    assert newest.error is None, "an obsolete start has harmed the one that took its place"
    if not (folder / "out.h5").exists():
        score(run, folder, Disk(), compression)
    assert content(folder / "out.h5") == EXPECTED
    assert look_through(folder / "out.h5").faults == []
    return starts


def calls_of_one(folder, compression=None):
    folder.mkdir()
    start = attempt(directory(folder), folder, 0, [], LossyDisk(), compression).run()
    assert start.error is None and content(folder / "out.h5") == EXPECTED
    return start.calls


@pytest.mark.parametrize("compression", [None, GZIP])
def test_a_start_that_wakes_after_its_successor_has_ended(tmp_path, compression):
    """Story: a node is cut off at call k; its job runs again elsewhere to the end; then the node comes back."""
    calls = calls_of_one(tmp_path / "whole", compression)
    assert calls > 60
    late = 0
    for k in range(calls):
        starts = both(tmp_path / str(k), [k, 10**9], seed=k, compression=compression)
        late += starts[0].error is not None
    assert late > calls // 2


def test_a_start_that_wakes_while_its_successor_begins(tmp_path):
    """Each call up to where a result is open, and the other start suspended at every fourth of its own."""
    folder = tmp_path / "opens"
    folder.mkdir()
    run = directory(folder)
    begun = Suspended(lambda: Result.open(run, run.begin(), form(folder), SuspendedDisk())).run()
    for k in range(begun.calls + 2):
        for j in range(k % 4, begun.calls + 2, 4):
            both(tmp_path / f"{k}-{j}", [k, j, 10**9], seed=k + j)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 200), min_size=1, max_size=8), st.integers(0, 2**32))
def test_two_starts_by_any_turns(tmp_path_factory, lengths, seed):
    """Each list is by how many calls the starts go on in turn."""
    bounds, reached = [], [0, 0]
    for turn, length in enumerate(lengths):
        reached[turn % 2] += length
        bounds.append(reached[turn % 2])
    both(tmp_path_factory.mktemp("turns") / "run", bounds, seed)


def test_what_was_durable_before_a_successor_began_is_inherited(tmp_path):
    """Story: the old start is suspended at call k, not dead; what its reader was told is in the new one's journal."""
    calls = calls_of_one(tmp_path / "whole")
    inherited = 0
    for k in range(calls):
        folder = tmp_path / str(k)
        folder.mkdir()
        run = directory(folder)
        told = []
        old = attempt(run, folder, 0, told, LossyDisk(seed=k)).run(k)
        if (folder / "out.h5").exists():
            old.run()
            continue
        opened = Result.open(run, run.begin(SlurmJob("7", "c", 1, "x")), form(folder), Disk())
        before = list(told)
        assert set(before).isdisjoint(opened.missing), f"call {k}"
        inherited += bool(before)
        old.run()
        opened.close()
        check_nothing_reported_is_lost(run, folder, before)
    assert inherited > 10


def test_a_late_start_leaves_its_successors_files_alone(tmp_path):
    run = directory(tmp_path)
    first = run.begin(SlurmJob("7", "c", 0, "x"))
    second = run.begin(SlurmJob("7", "c", 1, "x"))
    result = Result.open(run, second, form(tmp_path))
    for late in (lambda: Result.open(run, first, form(tmp_path)), lambda: reopen(run, first)):
        with pytest.raises(Superseded, match="epoch 2 took this run over"):
            late()
    assert run.working(2).exists()
    result.close()
