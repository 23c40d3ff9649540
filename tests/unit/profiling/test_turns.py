"""The rematch: near ties are told apart by what was measured in turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcens.profiling.turns import contenders, decided, settled
from hpcens.vocabulary import BatchProfile, Profile

SPEEDS = st.floats(1, 1000)


def profile(weights=10, context=100, **speeds):
    """batch sizes as b8=rows/s"""
    batches = {int(name[1:]): BatchProfile(int(name[1:]), speed, 5, 0.0) for name, speed in speeds.items()}
    return Profile(weights, context, 0.1, (4,), batches, tuple(batches))


def test_who_is_close_enough():
    found = {"eager": profile(b8=100, b16=84), "frozen": profile(b8=90, b16=99), "compiled": profile(b8=50)}
    assert contenders(found, 10**9) == (("eager", 8), ("frozen", 16), ("frozen", 8))
    assert contenders({"eager": profile(b8=100, b16=80)}, 10**9) == ()
    assert contenders({"eager": profile()}, 10**9) == ()


def test_they_have_to_fit_beside_each_other():
    found = {"eager": profile(b8=100), "frozen": profile(weights=1000, b8=99), "compiled": profile(b8=98)}
    assert contenders(found, 130) == (("eager", 8), ("compiled", 8))
    assert contenders(found, 129) == ()


@given(eager=SPEEDS, frozen=SPEEDS, others=SPEEDS, turns=st.lists(SPEEDS, min_size=1, max_size=7), drift=SPEEDS)
def test_the_turns_give_the_order_and_the_first_measurement_the_level(eager, frozen, others, turns, drift):
    before = {"eager": profile(b8=eager, b16=others), "frozen": profile(b8=frozen)}
    slow, fast = [drift * of for of in turns], [drift * of * 1.25 for of in turns]
    after = settled(before, {("eager", 8): slow, ("frozen", 8): fast})
    speed = {name: of.batches[8].rows_per_second for name, of in after.items()}
    assert speed["frozen"] == pytest.approx(1.25 * speed["eager"])
    assert min(eager, frozen) / 1.26 <= speed["eager"] <= max(eager, frozen), "the drift is not taken over"
    assert after["eager"].batches[16] == before["eager"].batches[16]


def test_without_turns_nothing_changes():
    before = {"eager": profile(b8=3)}
    assert settled(before, {}) == before


@pytest.mark.parametrize(
    ("slow", "fast", "known"),
    [
        ([10, 20, 10, 20, 10], [10.5, 21, 10.4, 21.2, 10.6], True),  # the machine drifts, the lead stays
        ([10, 10, 10, 10], [20, 20, 20, 20], False),
        ([10, 11, 10, 9, 10], [11, 10, 9, 10.1, 11], False),
    ],
)
def test_decided_is_what_leads_in_turns(slow, fast, known):
    assert decided({("eager", 8): slow, ("frozen", 8): fast}) is known
    assert decided({("frozen", 8): fast, ("eager", 8): slow}) is known
