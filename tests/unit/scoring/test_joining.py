"""When a rank is joined: it is told at once, and counts from there."""

from hpcens.scoring import joining
from hpcens.scoring.joining import Joining
from hpcens.vocabulary import LOCAL, Progress, Ready


class Transport:
    """Deliver messages at the times on a clock that are theirs."""

    def __init__(self, arrivals, clock):
        self._arrivals, self._clock = list(arrivals), clock

    def receive(self):
        self._clock.now, source, message = self._arrivals.pop(0)
        return source, message


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_seconds_count_from_the_first_word_of_another_rank(monkeypatch):
    """Rows that a reader reads ahead and the time in which devices load are none of a round's."""
    clock, begun = Clock(), []
    monkeypatch.setattr(joining, "time", clock)
    arrivals = [(101.0, LOCAL, Progress((), 0)), (104.0, 2, Ready(2)), (105.0, 2, Ready(1)), (110.0, 3, Ready(2))]
    joined = Joining(Transport(arrivals, clock), lambda: begun.append(clock.now))
    joined.receive()
    assert joined.seconds == 1.0 and not begun
    for _ in range(3):
        joined.receive()
    assert joined.seconds == 6.0 and begun == [104.0]


def test_it_has_begun_before_anything_is_told_of_it(monkeypatch):
    """A device that is broken from the start never asks for rows, and is told of."""
    clock, begun = Clock(), []
    monkeypatch.setattr(joining, "time", clock)
    joined = Joining(Transport([(102.0, 2, Progress((), 0))], clock), lambda: begun.append(clock.now))
    joined.receive()
    assert begun == [102.0] and joined.seconds == 0.0
