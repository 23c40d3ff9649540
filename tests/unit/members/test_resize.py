"""Resizes: as torch and Pillow make them; and what of them is part of a member's digest."""

import json

import numpy as np
import pytest
import torch
from support.project import ENSEMBLE

from hpcens.members import member_digests
from hpcens.members.preprocess import Preprocessing
from hpcens.specs import MemberSpec, ResizeSpec, StepSpec

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 7, 12)).astype(np.uint8)
# The first row of IMAGES[0, 0] as Pillow 13 resizes it to 3 × 5, in its mode F and as BICUBIC
PILLOW_BICUBIC = [169.8111114501953, 135.0548858642578, 103.91931915283203, 110.53781127929688, 143.02435302734375]


def resized(images, **how):
    member = MemberSpec(name="a", preprocess=(StepSpec(resize=ResizeSpec(**how)),))
    [made] = Preprocessing(member, ["images"], ENSEMBLE)(torch.from_numpy(images))
    return made.numpy()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest", "nearest-exact", "area"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(3, 5), (14, 30), (4, 12)])
def test_every_mode_is_that_of_torch(mode, antialias, size):
    smooth = mode.startswith("bi")
    how = {"align_corners": False, "antialias": antialias} if smooth else {}
    wanted = torch.nn.functional.interpolate(torch.from_numpy(IMAGES).double(), size=size, mode=mode, **how).numpy()
    got = resized(IMAGES, size=size, mode=mode, antialias=antialias and smooth)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=4e-4)  # of 255, as versions of torch round


@pytest.mark.parametrize("mode", ["BILINEAR", "BICUBIC"])
@pytest.mark.parametrize("size", [(3, 5), (14, 30), (4, 12)])
def test_with_antialias_images_are_those_of_pillow(mode, size):
    image = pytest.importorskip("PIL.Image")
    got = resized(IMAGES, size=size, mode=mode.lower(), antialias=True)
    for made, row in zip(got.reshape(-1, *size), IMAGES.reshape(-1, 7, 12), strict=True):
        wanted = image.fromarray(row.astype(np.float32)).resize(size[::-1], getattr(image, mode))
        np.testing.assert_allclose(made, np.asarray(wanted), rtol=0, atol=2e-4)


def test_an_image_is_what_pillow_once_gave():
    got = resized(IMAGES, size=(3, 5), mode="bicubic", antialias=True)
    np.testing.assert_allclose(got[0, 0, 0], PILLOW_BICUBIC, rtol=0, atol=1e-4)
    plain = resized(IMAGES, size=(3, 5), mode="bicubic")
    assert np.abs(plain[0, 0, 0] - PILLOW_BICUBIC).max() > 10, "without antialias it is another image"


@pytest.mark.parametrize(
    ("shape", "size", "wanted"),
    [
        ((7, 12), 3, (3, 5)),  # 3 · 12 / 7 is 5.14
        ((12, 7), 3, (5, 3)),
        ((7, 12), 14, (14, 24)),
        ((375, 500), 256, (256, 341)),  # as torchvision has it: 341.33
        ((5, 5), 3, (3, 3)),
    ],
)
def test_one_number_is_the_shorter_side(shape, size, wanted):
    assert resized(np.zeros((1, *shape), np.float32), size=(size,)).shape[1:] == wanted


def test_a_resize_of_old_has_the_digest_it_had(member):
    """And no other key beside it, so that what was scored with it is continued."""

    def digests(**how):
        step = StepSpec(resize=ResizeSpec(**how))
        made = member_digests(
            MemberSpec(name="a", factory=member.factory, weights=member.weights, preprocess=(step,)), ENSEMBLE
        )
        return {key: value for key, value in made.items() if "preprocess" in key}

    assert digests(size=(256, 224)) == {"preprocess[0]": '{"resize": [256, 224]}'}
    assert digests(size=(256, 224), mode="bicubic", antialias=True) == {
        "preprocess[0]": '{"resize": [256, 224]}',
        "resize of preprocess[0]": json.dumps({"antialias": True, "mode": "bicubic"}),
    }
