"""Segments, shares and fingerprints: plain data that everything else relies on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcens.errors import FingerprintMismatch
from hpcens.result.mismatch import differences, require_same
from hpcens.roles.dispatch import Shares, interleaved
from hpcens.vocabulary import Segmentation, batch_bounds, choose_segment_rows


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
        rows=rows, row_bytes=row_bytes, rows_per_second=speed, devices=devices, batches=(8, 32)
    )
    assert chosen % 32 == 0
    assert chosen == 32 or chosen * row_bytes <= 8 << 20


@given(st.integers(1, 10**7), st.integers(1, 10**6), st.floats(1, 10**6), st.integers(1, 200), st.floats(1, 1e6))
def test_segments_of_members_that_score_a_part_are_larger_within_what_a_reader_may_hold(
    rows, row_bytes, speed, devices, filling
):
    of = dict(rows=rows, row_bytes=row_bytes, rows_per_second=speed, devices=devices, batches=(32,))
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
