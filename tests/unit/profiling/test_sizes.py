"""Batch sizes that are tried: on GPUs powers of two up to memory, as long as they gain something."""

from itertools import pairwise

import numpy as np
import pytest
from support.engines import Cpu, Cuda
from support.profiles import KEY
from support.project import ENSEMBLE

import hpcens.profiling.bench
from hpcens.profiling.bench import measure
from hpcens.profiling.sizes import Growth, rows_to_sample, sizes_to_try
from hpcens.specs import RunSpec
from hpcens.vocabulary import BatchProfile, Device, Measurement

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
# rows/s at each of the sizes; on how many of them a GPU and a CPU is measured
SPEEDS = [
    ((100, 200, 400, 800, 1600, 3200, 6400, 12800), 8, 8),
    ((100, 200, 390, 391, 400, 401, 402, 403), 5, 8),  # 400 gains nothing over 390 worth it, and 391 did not either
    ((100, 101, 110, 111, 130, 131, 131, 900), 7, 8),  # once is not twice
    ((100, 80, 400, 400, 400, 400, 400, 400), 2, 2),  # far behind
]


@pytest.mark.parametrize(("speeds", "on_gpu", "on_cpu"), SPEEDS)
@pytest.mark.parametrize("family", ["cuda", "cpu"])
def test_larger_batches_are_tried_while_they_gain(speeds, on_gpu, on_cpu, family, member, tmp_path, monkeypatch):
    def timed(engine, name, staged, batch, *, workspace, **_):
        assert len(staged[0]) == batch
        return BatchProfile(batch, float(speeds[SIZES.index(batch)]), workspace, 0.0)

    hardware = Cuda().hardware if family == "cuda" else Cpu().hardware
    monkeypatch.setattr(hpcens.profiling.bench, "open_hardware", lambda _: hardware)
    monkeypatch.setattr(hpcens.profiling.bench, "timed", timed)
    asked = Measurement(member, {"eager": KEY}, SIZES, 600.0, rows=10**6, tolerance=1e-4, thorough=False)
    of = dict(spec=RunSpec(members=(member,), search_path=ENSEMBLE), inputs=("images",), space="probabilities")
    device = Device("h/0", family, KEY.kind, 1 << 34)
    rows = (np.zeros((3, 3, 8, 8), np.float32),)
    [(_, profile)] = measure(asked, device=device, rows=rows, cache=tmp_path, **of)
    assert list(profile.batches) == list(SIZES[: on_gpu if family == "cuda" else on_cpu])
    assert profile.tried == SIZES, "what is not worth it is not tried at the next start either"


def test_a_runtime_is_measured_at_the_sizes_that_eager_chose():
    growth = Growth(1000.0, patient=True)
    assert not any(growth.ends(speed, 0.85) for speed in (1001.0, 1002.0, 900.0, 1003.0))


@pytest.mark.parametrize(
    ("family", "row_bytes", "largest"),
    [("cpu", 100, 128), ("cuda", 100, 65536), ("cuda", 150_528, 1024), ("cuda", 602_112, 256), ("cuda", 10**8, 128)],
)
def test_sizes_are_powers_of_two_that_a_segment_can_hold(family, row_bytes, largest):
    sizes = sizes_to_try(family, row_bytes)
    assert sizes[0] == 8 and sizes[-1] == largest
    assert all(after == 2 * before for before, after in pairwise(sizes))


def test_few_rows_are_read_for_large_batches():
    assert rows_to_sample(0, 1000) == 0 and rows_to_sample(128, 10**7) == 128
    assert rows_to_sample(65536, 1000) == 65536 and rows_to_sample(1024, 10**6) == 128
