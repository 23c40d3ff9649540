"""What roles decide: equalities on what they send, and invariants over drawn interleavings."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcens.hands import reader_hands, reducer_hands, worker_hands
from hpcens.messages import (
    LOCAL,
    Batch,
    Bye,
    Drain,
    Finish,
    Flush,
    Flushed,
    Last,
    MemberTally,
    Predict,
    Predicted,
    Prediction,
    Read,
    Ready,
    SegmentRead,
    Send,
    Tally,
    Wait,
    Waited,
    Write,
    Written,
    Wrote,
)
from hpcens.roles.dispatch import Shares
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.transports.virtual import LateMessage, Stuck, VirtualWorld

ROWS = (np.zeros((2, 3), np.float32),)
VALUES = np.zeros((2, 4), np.float32)


def reader(**changes):
    settings = dict(
        segments=[0, 1],
        members=["a", "b"],
        shares=Shares({"a": {2: 1.0}, "b": {2: 1.0}}),
        devices=[2],
        reducers=[1],
        window=8,
        read_ahead=8,
    )
    return Reader(**settings | changes)


def test_reader_reads_ahead_and_hands_a_segment_with_all_its_members_to_the_device_that_owes_them():
    role = reader()
    assert role.start() == [Send(LOCAL, Read(0)), Send(LOCAL, Read(1))]
    assert role.handle(Ready(2), 2) == []
    [send] = role.handle(SegmentRead(0, ROWS), LOCAL)
    assert send.to == 2 and send.message.segment == 0 and send.message.members == ("a", "b")
    [batch, last, finish] = role.handle(SegmentRead(1, ROWS), LOCAL)
    assert isinstance(batch.message, Batch)
    assert [last, finish] == [Send(1, Last((0, 1))), Send(2, Finish())]
    role.handle(Written((0, 1)), 1)
    assert not role.done
    role.handle(Bye(), 2)
    assert role.done


def test_reader_keeps_to_its_window():
    role = reader(segments=range(10), window=3, read_ahead=2)
    assert role.start() == [Send(LOCAL, Read(0)), Send(LOCAL, Read(1))]
    role.handle(Ready(5), 2)
    sends = role.handle(SegmentRead(0, ROWS), LOCAL)
    assert sends[1:] == [Send(LOCAL, Read(2))]
    assert [send.to for send in role.handle(SegmentRead(1, ROWS), LOCAL)] == [2]
    assert [send.to for send in role.handle(SegmentRead(2, ROWS), LOCAL)] == [2]
    assert role.handle(Written((0,)), 1)[1:] == [Send(LOCAL, Read(3))]


def test_reader_gives_spare_work_only_of_a_device_without_room():
    role = reader(segments=[0], shares=Shares({"a": {2: 1.0, 3: 1e-12}, "b": {2: 1.0, 3: 1e-12}}), devices=[2, 3])
    role.start()
    role.handle(Ready(1), 3)
    sends = role.handle(SegmentRead(0, ROWS), LOCAL)
    assert [(send.to, send.message.members) for send in sends] == [(3, ("a",))]
    first, *_ = role.handle(Ready(1), 2)
    assert first.to == 2 and isinstance(first.message, Batch)


def test_drain_finishes_only_what_is_wholly_under_way():
    role = reader(segments=range(4), shares=Shares({"a": {2: 1.0}, "b": {3: 1.0}}), devices=[2, 3])
    role.start()
    role.handle(Ready(2), 2)
    role.handle(Ready(1), 3)
    for segment in range(3):
        role.handle(SegmentRead(segment, ROWS), LOCAL)
    assert role.handle(Drain("time limit"), LOCAL) == [Send(1, Last((0,))), Send(2, Finish()), Send(3, Finish())]
    assert role.handle(SegmentRead(3, ROWS), LOCAL) == []
    assert role.handle(Ready(1), 2) == []
    assert role.handle(Drain("again"), LOCAL) == [] and role.drained == "time limit"


def test_worker_passes_predictions_on_and_says_bye_once_it_has_nothing_left():
    role = Worker(readers=[0], reducers=[1])
    assert role.start() == [Send(0, Ready(2))]
    [task] = role.handle(Batch(5, ("a", "b"), ROWS), 0)
    assert task.to == LOCAL and isinstance(task.message, Predict)
    assert role.handle(Finish(), 0) == []
    [prediction] = role.handle(Predicted(5, "a", VALUES, 8, 0.5), LOCAL)
    assert prediction.to == 1 and isinstance(prediction.message, Prediction)
    sends = role.handle(Predicted(5, "b", VALUES, 8, 0.25), LOCAL)
    tally = Bye(Tally({"a": MemberTally(2, 0.5), "b": MemberTally(2, 0.25)}))
    assert sends[1:] == [Send(0, Ready(1)), Send(1, tally), Send(0, tally)] and role.done


def reducer(**changes):
    return Reducer(**dict(members=["a", "b"], devices=[2], readers=[0], window=4, seconds=1.0) | changes)


def prediction(segment, member):
    return Prediction(segment, member, VALUES, 8)


def test_reducer_writes_in_member_order_and_reports_only_what_is_durable():
    role = reducer()
    assert role.handle(prediction(0, "b"), 2) == []
    [write] = role.handle(prediction(0, "a"), 2)
    assert write.to == LOCAL and isinstance(write.message, Write) and write.message.batches == (8, 8)
    assert role.handle(Wrote(0), LOCAL) == [Send(LOCAL, Wait(1.0))]
    role.handle(prediction(1, "a"), 2), role.handle(prediction(1, "b"), 2)
    assert role.handle(Wrote(1), LOCAL) == [Send(LOCAL, Flush((0, 1)))]
    assert role.handle(Flushed((0, 1)), LOCAL) == [Send(0, Written((0, 1)))]
    role.handle(prediction(2, "a"), 2), role.handle(prediction(2, "b"), 2)
    role.handle(Wrote(2), LOCAL)
    assert role.handle(Waited(), LOCAL) == [Send(LOCAL, Flush((2,)))]
    role.handle(Flushed((2,)), LOCAL), role.handle(Last((2,)), 0)
    assert not role.done
    role.handle(Bye(), 2)
    assert role.done


def test_reducer_drops_what_the_drain_dropped_and_closes_the_group_when_nothing_else_comes():
    role = reducer(window=200)
    for segment, member in [(0, "a"), (1, "a"), (0, "b")]:
        role.handle(prediction(segment, member), 2)
    role.handle(Wrote(0), LOCAL)
    assert role.handle(Last((0,)), 0) == [Send(LOCAL, Flush((0,)))]
    assert role.handle(prediction(1, "b"), 2) == []


def test_reducer_refuses_a_prediction_that_comes_twice():
    role = reducer()
    role.handle(prediction(0, "a"), 2)
    with pytest.raises(RuntimeError, match="twice"):
        role.handle(prediction(0, "a"), 3)


class World:
    """Three kinds of role over a drawn placement, with arithmetic in place of networks.

    Checked in every world: each (segment, member) is predicted at most once, each segment written at
    most once, the reader holds no more than its window, nothing arrives after the end.
    """

    def __init__(self, seed, *, segments=12, post="held", drain_at=None, placement=None):
        draw = random.Random(seed)
        members = [f"m{i}" for i in range(draw.randint(1, 4))]
        devices = list(range(2, 2 + draw.randint(1, 5)))
        shares = placement or {
            m: {d: draw.choice([0.1, 1.0, 3.0]) for d in draw.sample(devices, draw.randint(1, len(devices)))}
            for m in members
        }
        window = draw.randint(2, 10)
        self.segments = segments
        self.members = members
        self.predicted, self.written, self.durable, self.told = [], {}, [], []
        self.reader = Reader(
            segments=range(segments),
            members=members,
            shares=Shares(shares),
            devices=devices,
            reducers=[1],
            window=window,
            read_ahead=draw.randint(1, window),
        )
        self.reducer = Reducer(members=members, devices=devices, readers=[0], window=window, seconds=draw.random())
        workers = {d: Worker(readers=[0], reducers=[1], room=draw.randint(1, 3)) for d in devices}
        hands = {
            0: reader_hands(lambda s: (np.full((1,), s, np.float64),), lambda p: self.told.extend(p.segments)),
            1: reducer_hands(self.write, lambda group: self.durable.extend(group)),
        } | dict.fromkeys(devices, worker_hands(self.predict, lambda task: None))
        speeds = [draw.choice([0.001, 0.1, 1.0, 10.0]) for _ in range(2 + len(devices))]

        def latency(rank, to, message):
            return draw.random() * speeds[rank]

        self.world = VirtualWorld({0: self.reader, 1: self.reducer} | workers, hands, latency, post)
        if drain_at is not None:
            self.world._at(drain_at, lambda: self.world._offer(0, LOCAL, Drain("test")))

    def predict(self, task):
        for member in task.members:
            self.predicted.append((task.segment, member))
            yield Predicted(task.segment, member, task.rows[0] * 10 + self.members.index(member), 8)

    def write(self, task):
        assert task.segment not in self.written
        self.written[task.segment] = np.concatenate(task.stack).tobytes()

    def run(self):
        self.world.run()
        assert len(self.predicted) == len(set(self.predicted))
        assert sorted(self.durable) == sorted(self.written)
        assert self.told == self.durable
        return self


def expected(segments, members):
    return {s: np.array([s * 10.0 + i for i in range(len(members))]).tobytes() for s in range(segments)}


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_any_interleaving_scores_every_segment_once_with_the_same_bytes(seed, segments):
    world = World(seed, segments=segments).run()
    assert world.written == expected(segments, world.members)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 20))
def test_a_drain_at_any_moment_ends_with_whole_segments(seed, moment):
    world = World(seed, segments=15, drain_at=moment).run()
    everything = expected(15, world.members)
    assert all(everything[segment] == written for segment, written in world.written.items())


def test_blocking_sends_would_deadlock_and_the_world_finds_it():
    """Story: the reader sends a batch to a device that sends to a reducer that sends to the reader."""
    stuck = 0
    for seed in range(60):
        try:
            World(seed, segments=30, post="blocking").run()
        except Stuck:
            stuck += 1
    assert stuck > 0


def test_a_message_after_the_end_is_found():
    """Story: a device that never says Bye to the reducer lets it leave while a dropped prediction is under way."""
    found = 0
    for seed in range(200):
        world = World(seed, segments=20, drain_at=0.5)
        world.reducer._awaited.clear()
        try:
            world.run()
        except LateMessage:
            found += 1
    assert found > 0
