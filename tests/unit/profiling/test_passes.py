"""Passes that are timed: a short one has several batches, and its first ones are not counted."""

from types import SimpleNamespace

import pytest
import torch

import hpcens.profiling.passes
from hpcens.profiling.passes import Passes, repeated


@pytest.mark.parametrize(
    ("width", "seconds", "batches"),
    [(4, 1.0, 1), (4, 2e-3, 1), (4, 1e-3, 2), (4, 1e-9, 32), (1 << 16, 1e-9, 3), (1 << 20, 1e-9, 1)],
)
def test_as_often_as_it_is_short_and_there_is_room(width, seconds, batches):
    staged = (torch.ones(4, width), torch.tensor([0, 1, 2, 3], dtype=torch.uint16))
    rows, numbers = repeated(staged, seconds)
    assert rows.shape == (4 * batches, width) and numbers.tolist() == [0, 1, 2, 3] * batches


class Clocked:
    """Takes a millisecond a batch of four rows, or 10 µs; and as much again for the first sixteen passes."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.passes, self.each = 0.0, [], seconds
        monkeypatch.setattr(hpcens.profiling.passes, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def run(self, name, staged):
        self.passes.append(len(staged[0]))
        self.now += self.each * len(staged[0]) / 4 * (1 + (len(self.passes) <= 16))


def test_the_first_of_short_ones_are_not_counted(monkeypatch):
    engine = Clocked(monkeypatch, 10e-6)
    passes = Passes(engine, "a", (torch.ones(4, 2),), most=1.0)
    assert passes.rows == 4 * 32 and engine.passes == [4, *[128] * 20]
    assert passes.alone == pytest.approx(20e-6) and passes.seconds() == pytest.approx(320e-6)
    few = Passes(Clocked(monkeypatch, 10e-6), "a", (torch.ones(4, 2),), most=0.0)
    assert few.seconds() == pytest.approx(640e-6), "there was no time for more"


def test_long_ones_are_made_once(monkeypatch):
    engine = Clocked(monkeypatch, 1.0)
    passes = Passes(engine, "a", (torch.ones(4, 2),), most=1.0)
    assert engine.passes == [4] and passes.rows == 4 and passes.alone == pytest.approx(2.0)
