"""Segments, shares and fingerprints: plain data that everything else relies on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcens.errors import FingerprintMismatch
from hpcens.result.fingerprint import differences, require_same
from hpcens.roles.dispatch import Shares
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
