"""Batches and segments that a plan takes, by the devices there are."""

from dataclasses import replace

import pytest
from support.instances import GIB, MIB, given_problem, on
from support.placements import planned

from hpcens.allocation import most_segment_bytes, timely
from hpcens.vocabulary import IoRates

SMALL = {8: 20_000.0, 128: 300_000.0, 1024: 2e6, 16384: 3e6}
LARGE = {8: 200.0, 64: 900.0, 128: 1000.0, 256: 1001.0}


def gpus(count, **members):
    """Members on GPUs, member → {batch: rows/s}."""
    rows = {("gpu", name): speeds for name, speeds in members.items()}
    of = given_problem(rows, devices=on(*["gpu"] * count, memory=80 * GIB))
    return replace(of, segment_bytes=most_segment_bytes(of.devices), row_bytes=4000, output_bytes=40)


def sizes_of(problem, rows):
    fitted = timely(problem, rows)
    made = planned(fitted, rows=rows, sizes=(8, 64, 128, 256, 1024, 16384))
    return {name: how.batch for name, how in made.numerics.members.items()}, made.numerics.segment_rows


def test_a_fast_member_does_not_make_the_segments_of_a_slow_one_long():
    assert sizes_of(gpus(2, small=SMALL), 10**8) == ({"small": 16384}, 1 << 16)  # 256 MiB hold no more
    batches, rows = sizes_of(gpus(2, small=SMALL, large=LARGE), 10**8)
    assert batches["small"] == 128 and batches["large"] in (128, 256)
    assert rows == 128, "about a tenth of a second of both"


@pytest.mark.parametrize(("rows", "batch"), [(10**8, 16384), (10**5, 1024), (8_000, 128), (100, 8)])
def test_a_small_dataset_leaves_every_gpu_segments(rows, batch):
    batches, segment = sizes_of(gpus(8, small=SMALL), rows)
    assert batches == {"small": batch}
    assert rows // segment >= 2 * 8 or batch <= 128


@pytest.mark.parametrize(
    ("memory", "count", "family", "most"),
    [
        (80 * GIB, 4, "cuda", 256 * MIB),
        (80 * GIB, 8, "cuda", (4 << 30) // 24),  # what readers hold for all of them
        (80 * GIB, 1000, "cuda", 8 * MIB),
        (3 * GIB, 1, "cuda", 128 * MIB),  # a slice: an eighth of it, for three segments
        (80 * GIB, 4, "cpu", 8 * MIB),
    ],
)
def test_segments_are_bounded_by_the_memory_of_devices_and_readers(memory, count, family, most):
    assert most_segment_bytes(on(*["kind"] * count, memory=memory, family=family)) == most


def test_outputs_of_all_members_count_where_segments_are_large():
    one = gpus(1, small={8: 1e6})
    many = replace(gpus(1, **{f"m{i}": {8: 1e8} for i in range(100)}), output_bytes=400)
    assert sizes_of(one, 10**9)[1] == 1 << 16
    assert sizes_of(many, 10**9)[1] == 1 << 12, "256 MiB hold the outputs of no more"


def test_neither_what_runs_reach_nor_reading_moves_segments():
    of = gpus(2, small=SMALL, large=LARGE)
    expected = sizes_of(of, 10**8)
    for part in (0.5, 0.7, 1.3):
        profiles = {key: profile.scaled(part) for key, profile in of.profiles.items()}
        reached = replace(of, profiles=profiles, reached={"gpu": part}, rates=IoRates(reading=50.0 * part))
        assert planned(reached, rows=10**8, sizes=(128,)).numerics.segment_rows == expected[1]
