"""What looks like images whose values are not scaled, and what does not."""

import h5py
import numpy as np
import pytest

from hpcens.dataset import Source
from hpcens.specs import DatasetSpec

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (20, 3, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("values", "like"),
    [
        (IMAGES, True),
        (IMAGES.astype(np.float32), True),
        (IMAGES.transpose(0, 2, 3, 1).astype(np.int64), True),
        (IMAGES / np.float32(255), False),
        (IMAGES.astype(np.float32) - 128, False),
        (IMAGES.astype(np.uint16) * 16, False),
        (IMAGES // 32, False),  # a map of classes
        (RANDOM.normal(100, 20, (20, 8, 8)).astype(np.float32), False),
        (IMAGES.reshape(20, -1), False),
        (IMAGES[:, :, :2].astype(np.float32), False),
        (np.where(IMAGES == 0, np.float32("nan"), IMAGES), False),
        (IMAGES > 99, False),
    ],
)
def test_only_planes_of_whole_numbers_to_255_are_pixels(tmp_path, values, like):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = values
    source = Source((tmp_path / "d.h5",), DatasetSpec())
    try:
        assert source.facts().pixels == (("x",) if like else ())
    finally:
        source.close()
