"""How a dataset is cut into blocks that worlds share."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from hpcens.units.blocks import cut
from hpcens.vocabulary import Segmentation


def sizes(segments, seconds, worlds, devices=1):
    return [stop - first for first, stop in cut(Segmentation(segments * 16, 16), seconds, worlds, devices)]


@settings(deadline=None)
@given(st.integers(1, 50_000), st.floats(0.01, 1e6), st.integers(1, 300), st.integers(1, 16))
def test_blocks_are_all_segments_once_the_largest_first_and_not_too_many(segments, seconds, worlds, devices):
    blocks = cut(Segmentation(segments * 16, 16), seconds, worlds, devices)
    ordered = sorted(blocks)
    assert ordered[0][0] == 0 and ordered[-1][1] == segments
    assert all(stop == first for (_, stop), (first, _) in itertools.pairwise(ordered))
    found = [stop - first for first, stop in blocks]
    assert found == sorted(found, reverse=True) and min(found) > 0
    most = max(1000, 20 * worlds)
    assert len(found) <= most * (2 if devices > 1 else 1)  # multiples of few segments are rounded down to half at most


def test_the_last_blocks_of_many_are_worth_a_start_and_no_more():
    """A hundred worlds, 100,000 segments of 7.5 s: the least was 100 segments, twelve minutes, whatever was left."""
    found = sizes(100_000, 750_000.0, 100, devices=8)
    assert max(found) == 120 and min(found) == 8 and len(found) <= 2000
    assert sum(size % 8 for size in found) == 0


def test_of_a_thousand_worlds_each_has_several_blocks():
    assert 4000 <= len(sizes(100_000, 750_000.0, 1000)) <= 20_000


def test_no_block_is_larger_than_what_is_to_be_lost_with_one():
    """What was left at the end went with the last: 187 segments where 120 were the most."""
    assert max(sizes(2995, 870_230.0, 13, devices=8)) == 3
