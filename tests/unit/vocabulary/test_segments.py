"""Segments, shares and fingerprints: plain data that everything else relies on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcens.errors import FingerprintMismatch
from hpcens.result.mismatch import differences, require_same
from hpcens.roles.dispatch import Shares, interleaved
from hpcens.vocabulary import LARGEST_SEGMENT, Pace, Segmentation, batch_bounds, choose_segment_rows


@given(st.integers(1, 1000), st.integers(1, 100), st.integers(1, 40))
def test_segments_and_batches_cover_every_row_once(rows, segment_rows, batch):
    segmentation = Segmentation(rows, segment_rows)
    covered = []
    for segment in range(len(segmentation)):
        start, stop = segmentation.bounds(segment)
        for first, last in batch_bounds(segmentation.size(segment), batch):
            assert 0 < last - first <= batch
            covered += range(start + first, start + last)
        assert stop - start == segmentation.size(segment)
    assert covered == list(range(rows))


@given(st.integers(1, 10**7), st.integers(1, 10**6), st.floats(1, 10**6), st.integers(1, 64))
def test_segments_are_whole_batches_and_small_enough(rows, row_bytes, speed, devices):
    chosen = choose_segment_rows(
        rows=rows, row_bytes=row_bytes, paces=[Pace(speed, 0.5)], devices=devices, batches=(8, 24)
    )
    assert (chosen // 24).bit_count() == 1 and chosen % 24 == 0, "a power of two of whole batches"
    if chosen > 24:
        assert chosen * row_bytes <= 8 << 20
        assert chosen <= rows / (2 * devices), "two for each device at least"
        assert chosen <= 2**0.5 * 0.5 * speed + 24


# rows/s of a GPU on all it hosts, bytes of a row, rows of the dataset, GPUs; rows of a segment
GPUS = [
    (9_000, 150_528, 10**6, 8, 1024),  # a convolutional network on images: 114 ms
    (300, 150_528, 10**6, 8, 32),
    (30e6, 1_000, 10**9, 1, 1 << 18),  # small networks: bounded by bytes
    (9_000, 150_528, 2_000, 8, 64),  # a small dataset: two for each GPU at least
    (9_000, 150_528, 300, 8, 16),
]


@pytest.mark.parametrize(("speed", "row_bytes", "rows", "devices", "expected"), GPUS)
def test_segments_of_gpus_hold_some_time_of_their_work(speed, row_bytes, rows, devices, expected):
    of = dict(rows=rows, row_bytes=row_bytes, devices=devices, batches=(8, 16), most_bytes=LARGEST_SEGMENT)
    chosen = choose_segment_rows(**of, paces=[Pace(speed, 0.1), Pace(4 * speed, 0.1)])
    assert chosen == expected, "the slowest device counts"
    if chosen * row_bytes < LARGEST_SEGMENT // 2 and rows > 10**4:
        assert 0.05 <= chosen / speed <= 0.2


@given(st.floats(10, 1e5), st.floats(0.7, 1.3), st.sampled_from((0.1, 0.5)), st.integers(1, 64))
def test_a_speed_that_moves_by_thirty_percent_moves_no_segments(speed, moved, seconds, devices):
    of = dict(rows=10**8, row_bytes=1000, devices=devices, batches=(8,), most_bytes=LARGEST_SEGMENT)
    before = choose_segment_rows(**of, paces=[Pace(speed, seconds)])
    assert choose_segment_rows(**of, paces=[Pace(moved * speed, seconds)], earlier=before) == before


@pytest.mark.parametrize("earlier", [12, 1 << 20, 64])
def test_an_earlier_choice_that_fits_no_more_is_left(earlier):
    of = dict(rows=10**6, row_bytes=1000, devices=2, batches=(8,), paces=[Pace(10_000, 0.1)])
    assert choose_segment_rows(**of, earlier=earlier) == choose_segment_rows(**of) == 1024


@given(st.integers(1, 10**7), st.integers(1, 10**6), st.floats(1, 10**6), st.integers(1, 200), st.floats(1, 1e6))
def test_segments_of_members_that_score_a_part_are_larger_within_what_a_reader_may_hold(
    rows, row_bytes, speed, devices, filling
):
    of = dict(rows=rows, row_bytes=row_bytes, paces=[Pace(speed / devices, 0.5)], devices=devices, batches=(32,))
    before, chosen = choose_segment_rows(**of), choose_segment_rows(**of, filling=filling, copies=2.0)
    assert chosen >= before and chosen % 32 == 0
    if chosen > before:
        assert chosen <= 4 * filling and chosen * row_bytes <= 256 << 20
        assert chosen * row_bytes * 2 * 3 * devices <= 4 << 30


@given(st.integers(0, 300), st.lists(st.floats(0.001, 1), min_size=1, max_size=9))
def test_interleaved_segments_are_all_of_them_from_all_over(count, parts):
    order = interleaved(range(count), {f"m{i}": part for i, part in enumerate(parts)})
    assert sorted(order) == list(range(count))
    if count >= 100:
        assert max(order[:64]) >= count / 2


@settings(deadline=None)  # two thousand segments, on a machine that may be busy
@given(st.dictionaries(st.integers(2, 9), st.floats(0.01, 10), min_size=1), st.integers(1, 5))
def test_segments_are_dealt_in_proportion_to_shares_and_members_meet(shares, count):
    dealt = Shares({f"m{i}": shares for i in range(count)})
    owners = [{dealt.owner(segment, f"m{i}") for i in range(count)} for segment in range(2000)]
    assert all(len(of) == 1 for of in owners)
    for rank, share in shares.items():
        got = sum(of == {rank} for of in owners) / 2000
        assert abs(got - share / sum(shares.values())) < 0.01


def test_differences_are_told_field_by_field():
    old = {"data": {"rows": 5}, "rule": {"name": "mean"}, "gone": 1}
    new = {"data": {"rows": 6}, "rule": {"name": "mean"}, "new": [2]}
    assert list(differences(old, new)) == [
        "data.rows: 5 then, 6 now",
        "gone: 1 then, absent now",
        "new: absent then, [2] now",
    ]
    require_same(old, dict(old), "out.h5")
    with pytest.raises(FingerprintMismatch, match=r"out.h5 was made of something else:\n  data.rows: 5 then, 6 now"):
        require_same(old, new, "out.h5")
