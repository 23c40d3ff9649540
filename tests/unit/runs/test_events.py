"""Events: what is written is read back, by whoever follows the file while it grows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcens.runs import (
    DrainBegan,
    Events,
    PlanMade,
    ProfilingBegan,
    ProfilingEnded,
    ProgressMade,
    WorldFormed,
    read_events,
    recent,
)
from hpcens.runs.events import KINDS

TIMES = st.floats(0, 1e11)
COUNTS = st.integers(0, 2**53)
SPEEDS = st.floats(0, allow_nan=False)
EVENTS = {
    WorldFormed: st.builds(
        WorldFormed,
        st.text(),
        st.dictionaries(st.text(), COUNTS),
        st.booleans(),
        st.lists(st.text()).map(tuple),
        time=TIMES,
    ),
    ProfilingBegan: st.builds(ProfilingBegan, COUNTS, time=TIMES),
    ProfilingEnded: st.builds(ProfilingEnded, time=TIMES),
    PlanMade: st.builds(PlanMade, SPEEDS, SPEEDS, st.text(), time=TIMES),
    DrainBegan: st.builds(DrainBegan, st.text(), time=TIMES),
    ProgressMade: st.builds(ProgressMade, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, time=TIMES),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("events") / "events.jsonl"


def write(path, events):
    path.unlink(missing_ok=True)
    writer = Events(path)
    for event in events:
        writer.add(event)
    writer.close()


def test_every_kind_is_drawn():
    assert set(EVENTS) == set(KINDS.values())


@given(events=st.lists(st.one_of(*EVENTS.values())), data=st.data())
def test_events_survive_and_what_is_torn_is_left_out(path, events, data):
    """A reader sees all events whose line is whole, and from a position it was given those behind it."""
    write(path, events)
    entries = list(read_events(path))
    assert [event for _, event in entries] == events == recent(path, tail=1 << 30)
    assert [json.loads(line)["format"] for line in path.read_text().splitlines()] == [2] * len(events)
    content = path.read_bytes()
    size = data.draw(st.integers(0, len(content)), "bytes written so far")
    path.write_bytes(content[:size])
    whole = [entry for entry in entries if entry[0] <= size]
    assert list(read_events(path)) == whole
    assert recent(path, tail=1 << 30) == [event for _, event in whole]
    path.write_bytes(content)
    last = whole[-1][0] if whole else 0
    assert list(read_events(path, last)) == entries[len(whole) :]
    tail = data.draw(st.integers(1, len(content) + 1), "bytes looked at")
    newest = recent(path, tail)
    assert newest == events[len(events) - len(newest) :]
    assert len(newest) >= sum(len(content) - position < tail for position, _ in entries) - 1


def test_what_only_a_later_format_knows_is_left_out(path):
    progress = ProgressMade(1, 2, 3, time=5.0)
    write(path, [progress])
    later = [
        {"format": 3, "time": 1.0, "event": "rebalanced", "moved": [1, 2]},
        {"format": 3, "time": 1.0, "event": "planned", "speed": 3.0},
        json.loads(path.read_text()) | {"format": 3, "bytes": 7},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in later))
    assert [event for _, event in read_events(path)] == recent(path) == [progress]


def test_a_start_without_events_has_none(tmp_path):
    assert list(read_events(tmp_path / "events.jsonl")) == recent(tmp_path / "events.jsonl") == []
