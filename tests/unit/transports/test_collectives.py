"""What rank 0 hands out goes down a tree, in which everybody is met once and nobody sends many copies."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hpcens.transports.collectives import children


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 40))
def test_everybody_is_met_once_by_one_who_has_it_already(size, fan):
    met = [0]
    for place in range(size):
        assert place in met[: place + 1], "before it is to pass it on"
        onward = children(place, size, fan)
        assert len(onward) <= fan and all((child - 1) // fan == place for child in onward)
        met += onward
    assert met == list(range(size))


def test_some_dozens_are_told_by_rank_0_itself():
    assert list(children(0, 33)) == list(range(1, 33)) and not children(1, 33)
