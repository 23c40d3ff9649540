"""Which worlds of other hosts have ended: by counters that stand, and one question to Slurm about those alone."""

import json

import pytest

from hpcens.runs.liveness import write_beat
from hpcens.runs.submission import SlurmJob
from hpcens.scheduler import jobs
from hpcens.scheduler.jobs import Answer
from hpcens.units import World, dead_worlds, worlds
from hpcens.units.worlds import Counters, living_worlds


@pytest.fixture
def elsewhere(tmp_path):
    """Enters worlds whose processes are of another host; returns the id of each."""

    def enter(element):
        world = World.new("abcd", SlurmJob(f"7{element}", "c", 0, "abcd", element))
        folder = world.enter(tmp_path)
        raw = json.loads((folder / "world.json").read_text())
        raw.pop("checksum")
        (folder / "world.json").write_text(json.dumps(raw | {"host": "n17", "boot": "another"}))
        write_beat(folder / "beat", 1)
        return world.id

    return enter


@pytest.fixture
def asked(monkeypatch):
    """The questions to Slurm: it says of job 71 that it is gone, and that the others run."""
    questions = []

    def ask_all(of):
        questions.append(set(of))
        states = {job: "NODE_FAIL" if job == "71" else "RUNNING" for job in of}
        return {job: Answer(state, name="hpcens-d-abcd") for job, state in states.items()}

    monkeypatch.setattr(jobs, "ask_all", ask_all)
    monkeypatch.setattr(jobs, "ask", lambda job: pytest.fail("one question for all"))
    monkeypatch.setattr(worlds, "_QUICK_SECONDS", 0.3)
    monkeypatch.setattr(worlds, "stands_still", lambda look: pytest.fail("Slurm knows of all of them"))
    return questions


def test_slurm_is_asked_once_and_only_about_worlds_whose_counters_stand(elsewhere, asked, tmp_path, monkeypatch):
    """A hundred worlds that end together asked it about each other one by one: ten thousand questions."""
    moving, lost, standing = (elsewhere(element) for element in "012")
    seen = worlds.read_beat

    def looked(path):  # whoever looks at it, it has moved since
        found = seen(path)
        return found if path.parent.name != moving else found + str(counts.pop()).encode()

    counts = list(range(10_000))
    monkeypatch.setattr(worlds, "read_beat", looked)
    assert dead_worlds(tmp_path, [moving, lost, standing]) == {lost}
    assert asked == [{"71", "72"}]
    assert dead_worlds(tmp_path, [moving]) == set() and len(asked) == 1
    assert living_worlds(tmp_path) == {moving, standing} and asked[1:] == [{"70", "71", "72"}]


def test_a_counter_is_looked_at_once_a_minute_and_asked_about_where_it_stands(elsewhere, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(worlds, "_LOOK_AGAIN_SECONDS", 0.0)
    moving, lost = elsewhere("0"), elsewhere("1")
    counters = Counters(tmp_path, World.new("abcd", None))
    assert counters.known_dead([moving, lost]) == set() and asked == []
    write_beat(tmp_path / moving / "beat", 2)
    assert counters.known_dead([moving, lost]) == {lost} and asked == [{"71"}]
    monkeypatch.setattr(worlds, "_LOOK_AGAIN_SECONDS", 1e9)
    assert counters.known_dead([moving, lost]) == set() and len(asked) == 1


def test_the_element_in_whose_place_a_world_was_started_has_ended(elsewhere, asked, tmp_path):
    lost = elsewhere("1")
    counters = Counters(tmp_path, World.new("abcd", SlurmJob("71", "c", 1, "abcd", "1")))
    assert counters.known_dead([lost]) == {lost} and asked == []
