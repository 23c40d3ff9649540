"""Preprocessing: every step against plain numpy, in any order, on any input; what does not fit is told."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from support.project import ENSEMBLE

from hpcens.errors import MemberError
from hpcens.members.preprocess import Preprocessing
from hpcens.specs import MemberSpec, NormalizeSpec, ResizeSpec, StepSpec, class_faults, class_rounds, merged_classes


def prepared(steps, *rows, names=("images",), spec_inputs=None):
    member = MemberSpec(name="a", preprocess=tuple(steps), inputs=spec_inputs)
    with torch.inference_mode():
        return Preprocessing(member, names, ENSEMBLE)(*map(torch.from_numpy, rows))


def only(steps, rows):
    [made] = prepared(steps, rows)
    return made


def images(dtype=np.uint8, shape=(5, 3, 7, 6)):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def resized(x, height, width):
    """Bilinear by its definition: pixel centres, corners not aligned, edges repeated."""

    def axis(x, size, n):
        x = np.moveaxis(x, n, -1)
        at = np.clip((np.arange(size) + 0.5) * x.shape[-1] / size - 0.5, 0, None)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, x.shape[-1] - 1)
        return np.moveaxis(x[..., low] * (1 - (at - low)) + x[..., high] * (at - low), -1, n)

    return axis(axis(x, height, -2), width, -1)


MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
STEPS = {
    "scale": (StepSpec(scale=0.0039), lambda x: x * 0.0039),
    "normalize": (
        StepSpec(normalize=NormalizeSpec(mean=MEAN, std=STD)),
        lambda x: (x - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1)),
    ),
    "normalize by one": (
        StepSpec(normalize=NormalizeSpec(mean=(100.0,), std=(50.0,))),
        lambda x: (x - 100) / 50,
    ),
    "resize": (StepSpec(resize=ResizeSpec(size=(4, 9))), lambda x: resized(x, 4, 9)),
    "crop": (
        StepSpec(crop=(2, 3)),
        lambda x: sliding_window_view(x, (2, 3), (2, 3))[:, :, (x.shape[2] - 2) // 2, (x.shape[3] - 3) // 2],
    ),
    "mirror": (StepSpec(layout="NCHW->NCWH"), lambda x: x.transpose(0, 1, 3, 2)),
    "call": (StepSpec(call="nets:halved"), lambda x: x / 2),
    "call on one": (StepSpec(call="nets:halved", input="images"), lambda x: x / 2),
}


class TestSteps:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
    @pytest.mark.parametrize("name", STEPS)
    def test_one_is_what_its_definition_says(self, name, dtype):
        step, plain = STEPS[name]
        x = images(dtype)
        made = only([step], x)
        wanted = plain(x.astype(np.float64))
        assert made.dtype == torch.float32 and made.shape == wanted.shape
        np.testing.assert_allclose(made.numpy(), wanted, rtol=4e-6, atol=4e-6)

    @settings(deadline=None, max_examples=60)
    @given(names=st.lists(st.sampled_from(sorted(STEPS)), max_size=4))
    def test_several_are_done_in_order(self, names):
        x = images(shape=(3, 3, 9, 9))
        wanted = x.astype(np.float64)
        for name in names:
            assume(name != "crop" or min(wanted.shape[2:]) >= 3)
            wanted = STEPS[name][1](wanted)
        made = only([STEPS[name][0] for name in names], x)
        np.testing.assert_allclose(made.numpy(), wanted, rtol=2e-5, atol=2e-5)

    def test_an_image_stored_channels_last_is_the_same_image(self):
        x = images()
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        steps = [StepSpec(layout="NHWC->NCHW"), STEPS["normalize"][0], STEPS["resize"][0]]
        made = only(steps, last)
        assert made.is_contiguous() and torch.equal(made, only(steps[1:], x))

    def test_rows_without_channels_are_resized_too(self):
        x = images(shape=(4, 7, 6))
        np.testing.assert_allclose(
            only([StepSpec(resize=ResizeSpec(size=(3, 3)))], x).numpy(), resized(x.astype(float), 3, 3), rtol=1e-5
        )

    def test_without_steps_rows_are_float32_and_a_copy(self):
        x = images(np.float32)
        made = only([], x)
        assert made.dtype == torch.float32 and (made.numpy() == x).all()
        assert not np.shares_memory(made.numpy(), x)

    @pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int64", "int32", "uint8"])
    def test_a_cast_at_first_takes_rows_as_they_are(self, dtype):
        x = np.array([[2**24 + 1, 3], [-1, 7]], np.int64)
        made = only([StepSpec(cast=dtype)], x)
        assert torch.equal(made, torch.from_numpy(x).to(getattr(torch, dtype)))
        assert not np.shares_memory(only([StepSpec(cast="int64")], x).numpy(), x)

    def test_a_later_cast_is_of_float32(self):
        steps = [StepSpec(scale=0.5), StepSpec(cast="int32")]
        assert only(steps, np.array([[3, 5]])).tolist() == [[1, 2]]

    @pytest.mark.parametrize(
        ("step", "shape", "said"),
        [
            (
                StepSpec(crop=(8, 2)),
                (5, 3, 7, 6),
                r"preprocess\[0\] \(crop\): 8 × 2 cannot be cut from 7 × 6 \(input \(5, 3",
            ),
            (StepSpec(crop=(1, 1)), (5, 3), "cannot be cut from 0 × 0"),
            (StepSpec(resize=ResizeSpec(size=(2, 2))), (5, 3), r"resize takes \(rows, height, width\) or"),
            (StepSpec(layout="NHWC->NCHW"), (5, 3, 7), "NHWC->NCHW is for 4 axes, rows included"),
            (STEPS["normalize"][0], (5, 7, 6, 3), "3 channels are given, axis 1 has 7"),
            (STEPS["normalize"][0], (5,), "3 channels are given, axis 1 has 0"),
            (StepSpec(call="nets:drop_row"), (5, 3), r"it made \(4, 3\) of 5 rows; a step keeps the rows it is given"),
            (StepSpec(call="nets:to_list"), (5, 3), "returned int, not a tensor or a tuple of them"),
        ],
    )
    def test_what_does_not_fit_the_rows_is_told(self, step, shape, said):
        with pytest.raises(MemberError, match=f"member a: .*{said}"):
            only([step], images(shape=shape))

    @pytest.mark.parametrize("step", [STEPS["normalize"][0], STEPS["resize"][0]])
    def test_integers_are_refused_where_floats_are_needed(self, step):
        with pytest.raises(
            MemberError, match=r"preprocess\[1\] .*needs floats, and the input is uint8; cast it before"
        ):
            only([StepSpec(cast="uint8"), step], images())


class TestInputs:
    NAMES = ("images", "meta")

    def test_steps_are_on_the_first_input_unless_they_say(self):
        x, meta = images(), images(shape=(5, 4))
        steps = [
            StepSpec(scale=2.0),
            StepSpec(scale=3.0, input="meta"),
            StepSpec(cast="int64", input="images"),
        ]
        first, second = prepared(steps, x, meta, names=self.NAMES)
        assert first.dtype == torch.int64 and (first.numpy() == 2 * x.astype(int)).all()
        assert second.dtype == torch.float32 and (second.numpy() == 3.0 * meta).all()

    def test_each_has_a_first_cast_of_its_own(self):
        tokens = np.array([[2**24 + 1]], np.int64)
        steps = [StepSpec(scale=2.0), StepSpec(cast="int64", input="meta")]
        _, second = prepared(steps, images(shape=(1, 2)), tokens, names=self.NAMES)
        assert second.tolist() == [[2**24 + 1]]
        called = [StepSpec(call="nets:swapped"), StepSpec(cast="int64", input="meta")]
        first, second = prepared(called, images(shape=(1, 2)), tokens, names=self.NAMES)
        assert first.dtype == torch.float32 and second.dtype == torch.int64

    def test_a_function_may_take_and_give_all_of_them(self):
        x, meta = images(), images(shape=(5, 4))
        a, b = prepared([StepSpec(call="nets:swapped")], x, meta, names=self.NAMES)
        assert (a.numpy() == meta).all() and (b.numpy() == x).all()
        [joined] = prepared([StepSpec(call="nets:joined")], x, meta, names=self.NAMES)
        assert (joined.numpy() == np.concatenate([x.reshape(5, -1), meta], 1)).all()

    def test_an_input_that_was_joined_is_gone(self):
        steps = [StepSpec(call="nets:joined"), StepSpec(scale=2.0, input="meta")]
        with pytest.raises(MemberError, match=r"preprocess\[1\] \(scale\): its input is gone: an earlier step left 1"):
            prepared(steps, images(), images(shape=(5, 4)), names=self.NAMES)


class TestClasses:
    @given(st.data())
    def test_rounds_add_up_what_is_mapped(self, data):
        ensemble = [f"e{i}" for i in range(data.draw(st.integers(1, 5)))]
        own = data.draw(st.permutations(ensemble + data.draw(st.lists(st.sampled_from(ensemble), max_size=4))))
        classes = {f"m{i}": name for i, name in enumerate(own)}
        assert list(class_faults(classes, ensemble)) == []
        values = np.arange(1, len(own) + 2)
        values[-1] = 0
        got = sum(values[list(places)] for places in class_rounds(classes, ensemble))
        wanted = [sum(i + 1 for i, there in enumerate(own) if there == name) for name in ensemble]
        assert got.tolist() == wanted
        assert (merged_classes(classes) == []) == (len(class_rounds(classes, ensemble)) == 1)

    def test_what_is_not_total_is_named(self):
        assert list(class_faults({"x": "a", "y": "z"}, ["a", "b", "c"])) == [
            "y is mapped to z, which is no class of the ensemble (a, b, c)",
            "nothing is mapped to b, c: every class of the ensemble needs one of the member's",
        ]
