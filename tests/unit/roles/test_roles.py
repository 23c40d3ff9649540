"""What roles decide: equalities on what they send, and invariants over drawn interleavings."""

import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.wiring import Wiring

from hpcens.errors import DeviceFailed, as_verdict
from hpcens.roles.dispatch import Shares, interleaved
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.transports.virtual import LateMessage, Stuck
from hpcens.vocabulary import (
    LOCAL,
    Bad,
    Batch,
    Bye,
    Divided,
    Drain,
    Failed,
    Finish,
    Flush,
    Flushed,
    Last,
    MemberTally,
    Part,
    Predict,
    Predicted,
    Prediction,
    Progress,
    Read,
    Ready,
    Released,
    Returned,
    Routed,
    SegmentRead,
    Send,
    Tally,
    Unable,
    Wait,
    Waited,
    Write,
    Written,
    Wrote,
)

ROWS = (np.zeros((2, 3), np.float32),)
VALUES = np.zeros((2, 4), np.float32)
FINISH = Send(2, Finish())


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
    [batch, last] = role.handle(SegmentRead(1, ROWS), LOCAL)
    assert isinstance(batch.message, Batch) and last == Send(1, Last((0, 1)))
    assert role.handle(Ready(1), 2) == [], "the device may fail with the second"
    assert role.handle(Ready(1), 2) == [FINISH]
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
    speeds = {member: {2: 1.0, 3: 1.0} for member in "ab"}
    shares = Shares({"a": {2: 1.0, 3: 1e-12}, "b": {2: 1.0, 3: 1e-12}}, speeds)
    role = reader(segments=[0], shares=shares, devices=[2, 3])
    role.start()
    role.handle(Ready(1), 3)
    sends = role.handle(SegmentRead(0, ROWS), LOCAL)
    assert [(send.to, send.message.members) for send in sends] == [(3, ("a",))]
    first, *_ = role.handle(Ready(1), 2)
    assert first.to == 2 and isinstance(first.message, Batch)


def test_spare_work_takes_along_the_members_that_share_its_preparation():
    speeds = {member: {2: 1.0, 3: 1.0} for member in "abc"}
    owned = {member: {2: 1.0, 3: 1e-12} for member in "abc"}
    shares = Shares(owned, speeds, together={"a": "aev", "c": "aev"})
    role = reader(segments=[0], members="abc", shares=shares, devices=[2, 3])
    role.start()
    role.handle(Ready(1), 3)
    sends = role.handle(SegmentRead(0, ROWS), LOCAL)
    assert [(send.to, send.message.members) for send in sends] == [(3, ("a", "c"))]


def halves(members="a"):
    """A reader of one segment, whose members, in batches of two, two devices may score; both have room."""
    speeds = {member: {2: 1.0, 3: 1.0} for member in members}
    batches = dict.fromkeys(members, 2)
    role = reader(segments=[0], members=[*members], shares=Shares(speeds), devices=[2, 3], batches=batches)
    role.start(), role.handle(Ready(1), 2), role.handle(Ready(1), 3)
    return role


def places(sends):
    """Who gets which rows, of the sends that are batches."""
    return [
        (send.to, send.message.members, send.message.part and send.message.part.start, len(send.message.rows[0]))
        for send in sends
        if isinstance(send.message, Batch)
    ]


def test_the_last_segment_is_cut_at_batch_bounds_and_the_less_is_left_the_shorter():
    role, rows = halves(), (np.arange(8.0),)
    sends = role.handle(SegmentRead(0, rows), LOCAL)
    assert sorted(place[2:] for place in places(sends)) == [(0, 2), (2, 2)]
    assert {place[0] for place in places(sends)} == {2, 3}
    assert Send(1, Last((0,))) not in sends, "half of it is not under way"
    third, fourth = role.handle(Ready(1), 3), role.handle(Ready(1), 2)
    assert places(third) == [(3, ("a",), 4, 2)]
    assert places(fourth) == [(2, ("a",), 6, 2)] and Send(1, Last((0,))) in fourth
    assert fourth[0].message.rows[0].tolist() == [6, 7] and fourth[0].message.part.whole == 8


def test_a_segment_that_is_handed_out_in_part_is_dropped_by_a_drain():
    role = halves()
    role.handle(SegmentRead(0, (np.arange(8.0),)), LOCAL)
    assert role.handle(Drain("time limit"), LOCAL) == [Send(1, Last(()))]
    assert role.handle(Ready(1), 2) == []
    assert role.handle(Ready(1), 3) == [FINISH, Send(3, Finish())]


def test_a_segment_whose_members_score_other_rows_each_is_not_cut():
    role = halves(members="ab")
    rows = (np.arange(8.0),)
    divided = Divided({"a": rows, "b": (rows[0][:5],)}, np.zeros((8, 1), np.uint8))
    sends = role.handle(SegmentRead(0, divided), LOCAL)
    assert [send.message.part for send in sends if isinstance(send.message, Batch)] == [None, None]


def test_reducer_puts_parts_together_in_the_order_of_their_rows():
    """Story: the second half comes first; its device had no room for whole batches, and each half has bad rows."""
    role = reducer(members=["a"])
    late = Prediction(0, "a", VALUES + 1, 4, (Bad("output", (1,)), Bad("cast", (0,))), Part(2, 4))
    assert role.handle(late, 2) == []
    with pytest.raises(RuntimeError, match="twice"):
        role.handle(late, 2)
    [write] = role.handle(Prediction(0, "a", VALUES, 8, (Bad("output", (0,)),), Part(0, 4)), 3)
    assert write.message.stack[0].tolist() == [[0.0] * 4, [0.0] * 4, [1.0] * 4, [1.0] * 4]
    assert write.message.batches == (4,)
    assert write.message.bad == ((Bad("cast", (2,)), Bad("output", (0, 3))),)


def test_devices_end_together_where_the_last_segments_are_cut():
    """Story: seven segments of eight batches each, on two devices: one would have three of them, and one four."""

    def seconds(batches):
        wiring = Wiring(
            segments=range(7),
            members=["a"],
            shares=Shares({"a": {2: 1.0, 3: 1.0}}),
            devices=[2, 3],
            read=lambda segment: (np.arange(16.0),),
            predict=lambda task: [Predicted(task.segment, "a", task.rows[0], 2, part=task.part)],
            write=lambda rank, task: None,
            window=12,
            read_ahead=6,
            latency=lambda rank, to, message: len(message.rows[0]) if isinstance(message, Predict) else 0.0,
            batches=batches,
        )
        wiring.run()
        return wiring.world.ended

    assert seconds(None) == 4 * 16
    assert seconds({"a": 2}) <= 7 * 16 / 2 + 2


def test_drain_finishes_only_what_is_wholly_under_way():
    role = reader(segments=range(4), shares=Shares({"a": {2: 1.0}, "b": {3: 1.0}}), devices=[2, 3])
    role.start()
    role.handle(Ready(2), 2)
    role.handle(Ready(1), 3)
    for segment in range(3):
        role.handle(SegmentRead(segment, ROWS), LOCAL)
    assert role.handle(Drain("time limit"), LOCAL) == [Send(1, Last((0,)))]
    assert role.handle(SegmentRead(3, ROWS), LOCAL) == []
    assert role.handle(Ready(1), 2) == role.handle(Ready(1), 3) == []
    assert role.handle(Ready(1), 2) == [Send(2, Finish()), Send(3, Finish())]
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


def test_the_first_reader_passes_drains_on_and_lets_the_others_go_last():
    """Story: the second of two readers is told to stop; it says so, and stays until the first lets it go."""
    first, second = reader(segments=[0], others=[9]), reader(segments=[1], first=0)
    first.start(), second.start()
    assert second.handle(Drain("time limit"), LOCAL) == [Send(0, Drain("time limit")), Send(1, Last(())), FINISH]
    assert first.handle(Drain("time limit"), 9) == [Send(9, Drain("time limit")), Send(1, Last(())), FINISH]
    assert second.handle(Drain("time limit"), 0) == []
    assert second.handle(Bye(), 2) == [Send(0, Bye())] and not second.done
    first.handle(Bye(), 2)
    assert not first.done
    assert first.handle(Bye(), 9) == [Send(9, Bye())] and first.done
    second.handle(Bye(), 0)
    assert second.done and first.drained == second.drained == "time limit"


def test_the_first_reader_passes_a_drain_on_when_it_has_nothing_left_itself():
    first = reader(segments=[], others=[9])
    assert first.start() == [Send(1, Last(())), FINISH]
    assert first.handle(Drain("cancelled"), LOCAL) == [Send(9, Drain("cancelled"))]


def test_worker_gives_each_reader_room_and_the_last_one_more():
    role = Worker(readers=[0, 9], reducers=[1, 8])
    assert role.start() == [Send(0, Ready(1)), Send(9, Ready(1))]
    role.handle(Batch(1, ("a",), ROWS), 9), role.handle(Batch(2, ("a",), ROWS), 0)
    [prediction, ready] = role.handle(Predicted(1, "a", VALUES, 8), LOCAL)
    assert prediction.to == 8 and ready == Send(9, Ready(1))
    [prediction, ready] = role.handle(Predicted(2, "a", VALUES, 8), LOCAL)
    assert prediction.to == 1 and ready == Send(0, Ready(1))
    assert role.handle(Finish(), 0) == [Send(9, Ready(1, further=True))]
    assert [send.to for send in role.handle(Finish(), 9)] == [1, 8, 0, 9] and role.done


LOST = Failed("GPU 7 of n0 failed: ECC", "n0")


def test_worker_returns_what_its_broken_device_has_not_run_and_the_slot_with_it():
    role = Worker(readers=[0, 9], reducers=[1], shares=[0, 9])
    role.handle(Batch(1, ("a", "b"), ROWS, 3, Part(4, 8)), 9), role.handle(Batch(2, ("a", "b"), ROWS), 0)
    role.handle(Predicted(1, "a", VALUES, 8), LOCAL)
    returned = Returned(1, ("b",), 2, Part(4, 8))
    sends = role.handle(Unable(LOST, returned), LOCAL)
    assert sends == [Send(0, LOST), Send(9, LOST), Send(9, returned)]
    assert role.handle(Released(3), LOCAL) == [Send(9, Released(3)), Send(9, Ready(1))]
    role.handle(Finish(), 9), role.handle(Finish(), 0)
    returned = Returned(2, ("a", "b"), 2)
    back, through, *bye = role.handle(Unable(LOST, returned), LOCAL)
    assert (back, through) == (Send(0, returned), Send(0, Ready(1)))
    assert [send.to for send in bye] == [1, 0, 9] and role.done
    assert Worker(readers=[0], reducers=[1], failed=LOST).start() == [Send(0, LOST)], "in the round after that"


def lonely(**changes):
    """A reader whose members the second device is to run only if the first does not."""
    shares = Shares({"a": {2: 1.0, 3: 1e-12}, "b": {2: 1.0, 3: 1e-12}})
    role = reader(**dict(shares=shares, devices=[2, 3]) | changes)
    role.start(), role.handle(Ready(2), 2)
    return role


def test_reader_reads_again_what_a_broken_device_had_and_hands_it_to_another():
    role = lonely(slots=3)
    role.handle(SegmentRead(0, ROWS), LOCAL), role.handle(SegmentRead(1, ROWS), LOCAL)
    role.handle(Ready(1), 3)
    assert role.handle(LOST, 2) == [Send(LOCAL, Progress((), 2, failure=LOST.failure))]
    assert role.handle(Returned(0, ("b",), 2), 2) == [Send(LOCAL, Read(0, 2))]
    role.handle(Released(0), 2), role.handle(Ready(1), 2)
    [again] = role.handle(SegmentRead(0, ROWS), LOCAL)
    assert (again.to, again.message.members, again.message.slot) == (3, ("b",), 2)
    assert role.handle(Returned(1, ("a", "b"), 2), 2) == [Send(LOCAL, Read(1, 0))]
    role.handle(Released(1), 2), role.handle(Ready(1), 2)
    assert role.handle(SegmentRead(1, ROWS), LOCAL) == [], "the other has no room"
    [batch] = role.handle(Ready(1), 3)
    assert (batch.to, batch.message.members) == (3, ("a", "b"))
    assert role.handle(Written((0,)), 1) == [Send(LOCAL, Progress((0,), 1, taken=6))]
    assert role.handle(Ready(1), 3) == [FINISH, Send(3, Finish())]


def test_a_part_that_is_returned_is_handed_out_again_as_it_was():
    role, rows = halves(), (np.arange(8.0),)
    places(role.handle(SegmentRead(0, rows), LOCAL))
    role.handle(LOST, 2)
    assert places(role.handle(Returned(0, ("a",), 2, Part(2, 8)), 2)) == [], "the other has no room"
    handed = [place for _ in range(4) for place in places(role.handle(Ready(1), 3))]
    assert [place[2:] for place in handed] == [(2, 2), (4, 2), (6, 2)]


def test_two_parts_of_a_segment_that_are_returned_are_each_handed_out_once():
    """Story: the third device has lost nothing, and gets both, in the order in which they came back."""
    speeds = {"a": {2: 1.0, 3: 1.0, 4: 1e-12}}
    role = reader(segments=[0], members=["a"], shares=Shares(speeds), devices=[2, 3, 4], batches={"a": 2})
    role.start(), role.handle(Ready(1), 2), role.handle(Ready(1), 3)
    first, second = places(role.handle(SegmentRead(0, (np.arange(8.0),)), LOCAL))
    for rank, _, start, rows in (first, second):
        role.handle(LOST, rank), role.handle(Returned(0, ("a",), rows, Part(start, 8)), rank)
    handed = [place for _ in range(5) for place in places(role.handle(Ready(1), 4))]
    assert [place[2] for place in handed[:2]] == [first[2], second[2]]
    assert sorted(row for _, _, start, rows in handed for row in range(start, start + rows)) == [*range(8)]


def test_what_a_broken_device_had_of_a_segment_that_is_dropped_stays_dropped():
    role = halves()
    role.handle(SegmentRead(0, (np.arange(8.0),)), LOCAL)
    role.handle(Drain("time limit"), LOCAL), role.handle(LOST, 2)
    assert role.handle(Returned(0, ("a",), 2, Part(0, 8)), 2) == []
    role.handle(Ready(1), 2)
    assert role.handle(Ready(1), 3) == [FINISH, Send(3, Finish())]


def test_members_of_a_group_are_owed_by_one_device_instead():
    """Story: of two devices alike, each would have been the first to have run one of them."""
    speeds = {member: {2: 1.0, 3: 1.0, 4: 1.0} for member in "abc"}
    owned = {member: {2: 1.0, 3: 1e-12, 4: 1e-12} for member in "abc"}
    shares = Shares(owned, speeds, together={"a": "group", "b": "group"})
    role = reader(segments=[0], members="abc", shares=shares, devices=[2, 3, 4])
    role.start(), role.handle(LOST, 2), role.handle(Ready(1), 3), role.handle(Ready(1), 4)
    sends = role.handle(SegmentRead(0, ROWS), LOCAL)
    assert sorted(places(sends)) == [(3, ("a", "b"), None, 2), (4, ("c",), None, 2)]


def test_members_that_other_devices_host_are_returned_to_each_of_them():
    role = reader(segments=[0], shares=Shares({"a": {2: 1.0, 3: 1e-12}, "b": {2: 1.0, 4: 1e-12}}), devices=[2, 3, 4])
    role.start(), role.handle(Ready(1), 2), role.handle(SegmentRead(0, ROWS), LOCAL)
    role.handle(LOST, 2), role.handle(Returned(0, ("a", "b"), 2), 2), role.handle(Ready(1), 4)
    assert places(role.handle(SegmentRead(0, ROWS), LOCAL)) == [(4, ("b",), None, 2)]
    assert places(role.handle(Ready(1), 4)) == [] and places(role.handle(Ready(1), 3)) == [(3, ("a",), None, 2)]


def test_others_owe_what_a_broken_device_owed():
    role = lonely(segments=range(4), read_ahead=2)
    for segment in range(2):
        role.handle(SegmentRead(segment, ROWS), LOCAL)
    role.handle(LOST, 2), role.handle(Ready(3), 3)
    assert role.handle(SegmentRead(2, ROWS), LOCAL)[0].to == role.handle(SegmentRead(3, ROWS), LOCAL)[0].to == 3
    assert role.handle(Written((2,)), 1) == [Send(LOCAL, Progress((2,), 3, taken=8))]


def test_a_drain_lets_slots_go_that_are_needed_to_finish_what_a_broken_device_had():
    role = lonely(slots=2, segments=range(3))
    role.handle(SegmentRead(0, ROWS), LOCAL)
    role.handle(Drain("time limit"), LOCAL)
    role.handle(LOST, 2)
    assert role.handle(Returned(0, ("a", "b"), 2), 2) == [Send(LOCAL, Read(0, 1))], "while a device may look at slot 0"


def test_a_reducer_hears_once_who_scores_a_segment():
    role = lonely(segments=[0])
    rows = Divided({"a": ROWS}, np.zeros((2, 1), np.uint8))
    routed, batch, _ = role.handle(SegmentRead(0, rows), LOCAL)
    assert isinstance(routed.message, Routed) and batch.to == 2
    role.handle(LOST, 2), role.handle(Returned(0, ("a",), 2), 2), role.handle(Ready(1), 3)
    [again] = role.handle(SegmentRead(0, rows), LOCAL)
    assert (again.to, again.message.members) == (3, ("a",))


def test_a_run_ends_where_no_other_device_hosts_a_member():
    role = reader(shares=Shares({"a": {2: 1.0}, "b": {2: 1.0, 3: 1.0}}), devices=[2, 3], segments=range(9))
    role.start(), role.handle(Ready(2), 2)
    role.handle(SegmentRead(0, ROWS), LOCAL)
    with pytest.raises(DeviceFailed, match="GPU 7 of n0 failed: ECC, and no other device hosts member a") as caught:
        role.handle(LOST, 2)
    assert (caught.value.exit_code, caught.value.node) == (75, "n0")
    assert "run the same command again" in caught.value.remedy


def test_reducer_tells_each_reader_of_its_own_segments():
    role = reducer(readers=[0, 9], reducers=1, window=2, seconds=1.0)
    for segment in (0, 1):
        role.handle(prediction(segment, "a"), 2), role.handle(prediction(segment, "b"), 2)
    assert role.handle(Wrote(0), LOCAL) == [Send(LOCAL, Flush((0,)))]
    assert role.handle(Wrote(1), LOCAL) == [Send(LOCAL, Flush((1,)))]
    assert role.handle(Flushed((0, 1)), LOCAL) == [Send(0, Written((0,))), Send(9, Written((1,)))]
    role.handle(prediction(3, "a"), 2)
    role.handle(Last((1,)), 9), role.handle(Bye(), 2)
    assert role.handle(prediction(3, "b"), 2) == [], "the second reader has dropped it"
    assert not role.done
    role.handle(Last((0,)), 0)
    assert role.done


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
    """A drawn placement, with drawn windows, rooms and latencies, and arithmetic in place of networks.

    routed: members score rows that are drawn, one of three sets, which may be empty.
    grouped: all members but the last run as one, with equal shares.
    failing: of the devices some fail for good, each after some predictions.
    written: segment → the bytes of its stack.
    """

    def __init__(
        self,
        seed,
        *,
        segments=12,
        post="held",
        drain_at=None,
        readers=1,
        reducers=1,
        routed=False,
        grouped=False,
        failing=False,
    ):
        draw = random.Random(seed)
        self.members = [f"m{i}" for i in range(draw.randint(1, 4))]
        reading = [0, *range(100, 99 + readers)]
        reducing = [1, *range(200, 199 + reducers)]
        devices = list(range(2, 2 + draw.randint(1, 5)))
        shares = {
            member: {rank: draw.choice([0.1, 1.0, 3.0]) for rank in draw.sample(devices, draw.randint(1, len(devices)))}
            for member in self.members
        }
        self.group = tuple(self.members[:-1]) if grouped else ()
        shares |= dict.fromkeys(self.group, shares[self.members[0]])
        window = draw.randint(2, 10)
        slots = draw.choice([None, *range(1, 8)])
        messages = draw.sample(devices, draw.randint(0, len(devices))) if draw.random() < 0.5 else ()
        self.sets = draw.random()
        self.written, self.predicted = {}, {}
        self.shares = shares
        failed = random.Random(f"{seed} fails")
        self.failing = {rank: failed.randint(-1, 9) for rank in devices if failing and failed.random() < 0.6}
        speeds = {rank: draw.choice([0.001, 0.1, 1.0, 10.0]) for rank in (*reading, *reducing, *devices)}
        self.wiring = Wiring(
            segments=range(segments) if isinstance(segments, int) else segments,
            members=self.members,
            shares=Shares(
                shares,
                parts={m: draw.random() for m in self.members} if routed else None,
                together=dict.fromkeys(self.group, "group"),
            ),
            devices=devices,
            read=self.divided if routed else lambda segment: (rows_of(segment),),
            predict=self.predict,
            write=self.write,
            readers=reading,
            reducers=reducing,
            window=window,
            read_ahead=draw.randint(1, window),
            seconds=draw.random(),
            rooms={rank: draw.randint(1, 3) for rank in devices},
            latency=lambda rank, to, message: draw.random() * speeds[rank],
            post=post,
            batches=None
            if draw.random() < 0.2
            else {m: draw.choice([1, 2, 3, 8]) for m in self.members} | dict.fromkeys(self.group, 2),
            scores=(lambda segment: self.divided(segment).rows) if routed else None,
            slots=slots,
            messages=messages,
            failing=self.failing,
        )
        self.reader, self.reducer = self.wiring.readers[0], self.wiring.reducers[1]
        if drain_at is not None:
            self.wiring.drain(draw.choice(reading), drain_at, "test")

    def divided(self, segment):
        """A segment whose members score all rows, the first alone, or none."""
        draw = random.Random(f"{self.sets} {segment}")
        sets = [(rows_of(segment),), (rows_of(segment)[:1],), None]
        chosen = {member: draw.choice(sets) for member in self.members}
        return Divided({m: rows for m, rows in chosen.items() if rows is not None}, np.zeros((7, 1), np.uint8))

    def predict(self, task):
        done = self.predicted.setdefault((task.segment, task.start), set())
        left = {*self.group} - done  # a device may fail between two members of a group
        assert {*self.group} & {*task.members} in (set(), left), "a group is handed out as one"
        for member in task.members:
            yield Predicted(task.segment, member, task.rows[0] * 10 + self.members.index(member), 8, part=task.part)
            done.add(member)

    def expected(self, segments):
        """What is written where rows are divided: of each member its own rows, in member order."""
        for segment in range(segments):
            rows = self.divided(segment).rows
            stack = [rows[m][0] * 10 + i for i, m in enumerate(self.members) if m in rows]
            yield segment, np.concatenate([*stack, np.zeros(0)]).tobytes()

    def write(self, rank, task):
        self.written[task.segment] = np.concatenate([*task.stack, np.zeros(0)]).tobytes()

    def run(self):
        self.wiring.run()
        return self


def rows_of(segment):
    return segment + np.arange(7) / 8


def expected(segments, members):
    return {s: np.concatenate([rows_of(s) * 10 + i for i in range(len(members))]).tobytes() for s in range(segments)}


many = st.integers(1, 4)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), many, many)
def test_a_group_is_handed_out_as_one(seed, segments, readers, reducers):
    world = World(seed, segments=segments, readers=readers, reducers=reducers, grouped=True).run()
    assert world.written == expected(segments, world.members)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), many, many)
def test_any_interleaving_scores_every_segment_once_with_the_same_bytes(seed, segments, readers, reducers):
    world = World(seed, segments=segments, readers=readers, reducers=reducers).run()
    assert world.written == expected(segments, world.members)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 20), many, many)
@example(seed=0, moment=0.0, readers=2, reducers=2)  # before anything is written
def test_a_drain_at_any_moment_ends_with_whole_segments(seed, moment, readers, reducers):
    """Story: any of the readers is told to stop; all of them hear of it."""
    world = World(seed, segments=15, drain_at=moment, readers=readers, reducers=reducers).run()
    everything = expected(15, world.members)
    assert all(everything[segment] == written for segment, written in world.written.items())
    if len(world.written) < 15:
        assert world.reader.drained == "test"


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), many, many, st.none() | st.floats(0, 20))
def test_any_interleaving_hands_each_member_the_rows_it_scores_and_no_others(seed, segments, readers, reducers, moment):
    """Story: of a segment some members score all rows, some a part, some none; it may be drained at any moment."""
    world = World(seed, segments=segments, readers=readers, reducers=reducers, drain_at=moment, routed=True).run()
    everything = dict(world.expected(segments))
    assert all(everything[segment] == written for segment, written in world.written.items())
    assert world.reader.drained or len(world.written) == segments


@given(st.integers(0, 2**32), st.integers(1, 30), many, many)
@settings(max_examples=40)
def test_members_that_share_their_preparation_are_never_parted(seed, segments, readers, reducers):
    """Where they have equal shares of the devices that host them, in any order of what happens."""
    draw = random.Random(seed)
    speeds = {device: draw.choice([0.2, 1.0, 5.0]) for device in (20, 21, 22)}
    handed = []

    def predict(task):
        handed.append({*task.members} & {"a", "b"})
        return [Predicted(task.segment, member, VALUES, 2, 0.1) for member in task.members]

    Wiring(
        segments=range(segments),
        members="abc",
        shares=Shares(dict.fromkeys("abc", speeds), together={"a": "aev", "b": "aev"}),
        devices=[*speeds],
        read=lambda segment: ROWS,
        predict=predict,
        write=lambda rank, task: None,
        readers=range(readers),
        reducers=range(10, 10 + reducers),
        window=8,
        latency=lambda rank, to, message: draw.random() / speeds.get(rank, 1.0),
    ).run()
    assert [both for both in handed if both] == [{"a", "b"}] * segments


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), many, many, st.none() | st.floats(0, 20), st.sampled_from("-rg"))
def test_what_devices_that_fail_leave_is_done_by_others_or_by_the_next_start(
    seed, segments, readers, reducers, moment, kind
):
    """Story: devices are lost, each at another moment, while the run goes on, or is drained; or were lost before."""
    of = dict(readers=readers, reducers=reducers, routed=kind == "r", grouped=kind == "g")
    world = World(seed, segments=segments, drain_at=moment, failing=True, **of)
    everything = dict(world.expected(segments)) if kind == "r" else expected(segments, world.members)
    try:
        world.run()
    except DeviceFailed as error:
        verdict = as_verdict(error)
        [member] = [m for m in world.members if verdict.what.endswith(f"no other device hosts member {m}")]
        assert world.shares[member].keys() <= world.failing.keys()
        assert all(f"device {rank} of n{rank} failed" in verdict.what for rank in world.shares[member])
        assert verdict.exit_code == 75 and "run the same command again" in verdict.remedy
        assert verdict.node in [f"n{rank}" for rank in world.shares[member]]
    else:
        if not any(reader.drained for reader in world.wiring.readers.values()):
            assert len(world.written) == segments and world.wiring.taken >= world.wiring.returned
        assert len(set(world.wiring.failures)) == len(world.wiring.failures)
    durable = {segment: world.written[segment] for segment in world.wiring.durable}
    left = [segment for segment in range(segments) if segment not in durable]
    assert durable | World(seed, segments=left, **of).run().written == everything


def test_members_that_score_the_same_rows_share_a_batch_and_the_reducer_hears_who_scores():
    role = reader(segments=[0], members=["a", "b", "c"], shares=Shares({m: {2: 1.0} for m in "abc"}))
    role.start()
    role.handle(Ready(2), 2)
    part = (ROWS[0][:1],)
    rows = Divided({"a": ROWS, "b": part, "c": ROWS}, np.zeros((2, 1), np.uint8))
    told, first, second, *_ = role.handle(SegmentRead(0, rows), LOCAL)
    assert told.to == 1 and told.message.members == ("a", "b", "c")
    assert (first.message.members, second.message.members) == (("a", "c"), ("b",))
    assert first.message.rows is ROWS and second.message.rows is part


def test_a_segment_that_no_member_scores_is_written_at_once():
    role = reader(segments=[0])
    role.start()
    told, *end = role.handle(SegmentRead(0, Divided({}, np.zeros((2, 1), np.uint8))), LOCAL)
    assert end == [Send(1, Last((0,))), FINISH]
    [write] = reducer(routed=True).handle(told.message, 0)
    assert write.to == LOCAL and write.message.stack == () and write.message.route is told.message


def test_folds_that_lie_one_after_another_keep_all_devices_busy():
    """Story: of five members on five devices each scores a fifth of the rows, and these lie together."""
    members, segments = [f"m{i}" for i in range(5)], range(200)
    parts = dict.fromkeys(members, 0.2)

    def seconds(order):
        wiring = Wiring(
            segments=order,
            members=members,
            shares=Shares(
                {m: {2 + i: 0.2} for i, m in enumerate(members)},
                {m: {2 + i: 1.0} for i, m in enumerate(members)},
                parts,
            ),
            devices=range(2, 7),
            read=lambda segment: Divided({members[segment // 40]: (rows_of(segment),)}, np.zeros((2, 1), np.uint8)),
            predict=lambda task: (Predicted(task.segment, m, task.rows[0], 8) for m in task.members),
            write=lambda rank, task: None,
            window=30,
            read_ahead=15,
            latency=lambda rank, to, message: 1.0 if isinstance(message, Predict) else 0.0,
            scores=lambda segment: [members[segment // 40]],
        )
        wiring.run()
        return wiring.world.ended

    assert seconds(segments) > 100  # one fold after another, but for what is read ahead
    assert seconds(interleaved(segments, parts)) < 45


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
