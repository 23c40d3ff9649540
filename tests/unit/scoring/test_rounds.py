"""Ranks wait for each other in one order, whatever their posts are, and reducers open and close in theirs."""

import threading
from dataclasses import dataclass
from queue import SimpleQueue
from types import SimpleNamespace

import pytest

from hpcens.errors import COMPLETE, INCOMPLETE, HpcensError
from hpcens.roles import RankRoles, Reader
from hpcens.scoring import rounds
from hpcens.scoring.device_post import DevicePost, LoadedMembers
from hpcens.scoring.posts import Parked, ReaderPost, ReducerPost
from hpcens.scoring.rounds import Scoring
from hpcens.vocabulary import Device, Segmentation

SEGMENTATION = Segmentation(40, 10)


class World:
    """Ranks as threads: values meet in queues; who waits for another kind of meeting than the others is found."""

    def __init__(self, rank, size, queues, log):
        self.rank, self.size, self._queues, self._log = rank, size, queues, log
        self.rings = SimpleNamespace(close=lambda: None)
        self.timeline = SimpleNamespace(keep=False, totals={}, spans=[])
        self.meetings = []

    def _send(self, to, kind, value):
        self._queues[to, self.rank].put((kind, value))

    def _receive(self, source, kind):
        met, value = self._queues[self.rank, source].get(timeout=20)
        assert met == kind, f"rank {self.rank} is at a {kind}, rank {source} at a {met}"
        return value

    def gather(self, value):
        self.meetings.append("gather")
        if self.rank:
            self._send(0, "gather", value)
            return []
        return [value, *(self._receive(source, "gather") for source in range(1, self.size))]

    def broadcast(self, value=None, to=None):
        self.meetings.append("broadcast" if to is None else f"broadcast to {sorted({0, *to})}")
        ranks = range(self.size) if to is None else to
        if self.rank:
            return self._receive(0, "broadcast") if self.rank in ranks else None
        for rank in set(ranks) - {0}:
            self._send(rank, "broadcast", value)
        return value

    def work(self, task):
        return task()

    def start_tasks(self, tasks):
        self._log.append(("drive", self.rank))

    def finish_sends(self):
        pass

    def stop_tasks(self):
        pass


class FirstReader(Reader):
    """A round of nothing, drained if it is to be."""

    def __init__(self, drained):
        self.drained, self.tallies = drained, {}


class ScriptedPost:
    def __init__(self, rank, log, role):
        self._rank, self._log, self._role = rank, log, role

    def open(self, phase):
        self._log.append(("open", self._rank))

    def role(self, missing):
        self._log.append(("missing", self._rank, tuple(missing)))
        return self._role(), None


class ScriptedWriter:
    """Its segments are durable after a round; what it then reads back is damaged so many times."""

    syncing = 0.0

    def __init__(self, rank, log, segments, damaged):
        self._rank, self._log, self._segments, self._damaged = rank, log, segments, damaged
        self.result, self.missing = self, list(segments)

    def revoke_damaged(self):
        if self._damaged:
            self._damaged -= 1
            self.missing = self._segments[:1]

    def masked(self):
        return []

    def finish(self, summary):
        self._log.append(("finish", self._rank))

    def close(self):
        self._log.append(("close", self._rank))


class ScriptedReducer(ReducerPost):
    """A reducer's post that writes nothing."""

    def __init__(self, rank, log, segments, damaged):
        self._rank, self._log, self._segments, self._damaged = rank, log, segments, damaged
        self._synced = 0.0
        self._assignment = SimpleNamespace(job=SimpleNamespace(spec=SimpleNamespace(member_names=("a",))))

    def open(self, phase):
        self._log.append(("open", self._rank))
        self._writer = ScriptedWriter(self._rank, self._log, self._segments, self._damaged)

    def role(self, missing):
        self._writer.missing = []
        return object(), None


def score(monkeypatch, readers, reducers, devices, size, *, phases=1, damaged=0, drained=""):
    """Every rank's end, its meetings, and what happened in which order."""
    rank_roles = RankRoles(readers, reducers, dict.fromkeys(devices, Device("n0/cpu0", "cpu", "cpu", 1, 1, "n0")))
    log, queues = [], {(a, b): SimpleQueue() for a in range(size) for b in range(size)}
    form = SimpleNamespace(segmentation=SEGMENTATION)
    every = [{"number": i + 1, "of": phases, "last": i + 1 == phases} for i in range(phases)]
    parts = tuple(SimpleNamespace(**each, form=form, stage=0) for each in every)
    assignment = SimpleNamespace(
        rank_roles=rank_roles,
        phases=parts,
        job=SimpleNamespace(trace=None),
        plan=SimpleNamespace(members=("a",)),
        preflight=SimpleNamespace(stored=(), facts=SimpleNamespace(routed=None)),
    )

    def take(rank, *_):
        if rank in readers:
            return ScriptedPost(rank, log, lambda: FirstReader(drained if rank == readers[0] else ""))
        if rank in reducers:
            return ScriptedReducer(rank, log, [reducers.index(rank)], damaged)
        return ScriptedPost(rank, log, object) if rank in devices else Parked()

    monkeypatch.setattr(rounds, "take_post", take)
    monkeypatch.setattr(rounds, "drive", lambda role, world: None)
    worlds = [World(rank, size, queues, log) for rank in range(size)]
    ends = [None] * size

    def live(rank):
        try:
            ends[rank] = Scoring(worlds[rank], None, None, assignment, None, LoadedMembers()).score()
        except BaseException as error:
            ends[rank] = error

    threads = [threading.Thread(target=live, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return ends, [world.meetings for world in worlds], log


CASTS = {
    "one of each": ((0,), (1,), (2,), 3),
    "several of each, and parked ranks": ((0, 6), (1, 5, 3), (2, 4), 9),
    "reducers but the first before it in rank": ((0,), (3, 1), (2,), 5),
}


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize(
    ("case", "code"),
    [
        ({}, COMPLETE),
        ({"phases": 3}, COMPLETE),
        ({"damaged": 2}, COMPLETE),
        ({"phases": 2, "drained": "cancelled"}, INCOMPLETE),
    ],
)
def test_every_rank_meets_the_others_in_one_order(monkeypatch, cast, case, code):
    readers, reducers, devices, size = CASTS[cast]
    ends, meetings, log = score(monkeypatch, readers, reducers, devices, size, **case)
    assert [getattr(end, "code", end) for end in ends] == [code] * size
    assert all(met == meetings[0] for met in meetings)
    everything = tuple(range(len(reducers)))
    assert {("missing", rank, everything) for rank in readers} <= set(log), "each reader knows all that is missing"
    assert {entry[2] for entry in log if entry[0] == "missing" and entry[1] not in readers} <= {()}
    first, *others = reducers
    phases = 1 if "drained" in case else case.get("phases", 1)

    def places(what, rank):
        return [place for place, entry in enumerate(log) if entry == (what, rank)]

    opened, finished, closed = places("open", first), places("finish", first), places("close", first)
    assert len(opened) == len(finished) == len(closed) == phases
    for rank in others:
        order = [opened, places("open", rank), places("close", rank), finished, closed]
        assert all(list(moments) == sorted(moments) for moments in zip(*order, strict=True))
        assert places("finish", rank) == []


def test_what_is_damaged_in_every_round_ends_the_start_on_every_rank(monkeypatch):
    ends, meetings, _ = score(monkeypatch, (0,), (1, 3), (2,), 5, damaged=9)
    assert all(isinstance(end, HpcensError) and "read back damaged after 3 rounds" in end.what for end in ends)
    assert all(met == meetings[0] for met in meetings)


@pytest.mark.parametrize("left", [0, 3])
def test_devices_load_nothing_for_a_stage_to_which_no_row_is_left(left):
    """Rank 0 tells all whether a row is left; what else a phase opens, it opens."""

    class Device(DevicePost):
        def __init__(self):
            self.opened = []

        def open(self, phase):
            self.opened.append(phase.members)

    class First(ReaderPost):
        def __init__(self):
            self.division, self.opened = SimpleNamespace(open=lambda phase: None, scored=(9, left)), []

        def open(self, phase):
            self.opened.append(phase.members)

    @dataclass(frozen=True)
    class Stage:
        members: tuple = ("b",)
        stage: int = 1
        last: bool = True

    told = []

    def meet(*values):
        told.extend(values)
        return told[0]

    for rank, post in ((0, First()), (1, Device())):
        scoring = object.__new__(Scoring)
        scoring._post, scoring._joins = post, False
        scoring._reader = post if rank == 0 else None
        scoring._assignment = SimpleNamespace(rank_roles=SimpleNamespace(reducers=(2,)))
        scoring._world = SimpleNamespace(rank=rank, work=lambda task: task(), broadcast=meet)
        scoring._open(Stage())
        if rank:
            assert not post.opened, "a device loads when something is missing"
            scoring._to_load()
        assert post.opened == [("b",) if left or rank == 0 else ()]
    assert told == [left > 0]
