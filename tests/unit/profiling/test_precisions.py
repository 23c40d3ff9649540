"""Narrower precisions beside float32: what is measured of them, how far, and what is told."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from support.engines import Cpu, Cuda
from support.profiles import ROWS, keys
from support.project import ENSEMBLE

from hpcens.errors import MemberError
from hpcens.profiling.bench import measure
from hpcens.profiling.precisions import is_judged, race, rivals, shortfall
from hpcens.profiling.references import References, labels
from hpcens.specs import MemberSpec, RunSpec
from hpcens.vocabulary import BatchProfile, Measurement, Profile, cpu_devices

pytestmark = pytest.mark.usefixtures("one_thread")
MEMBER = MemberSpec(name="conv", factory="nets:Conv", precision="auto")


def profile(speed, **of):
    return Profile(1, 1, 0.1, (4,), {8: BatchProfile(8, speed, 1, 0.0)}, (8,), **of)


def asked(member=MEMBER, rows=10**9, thorough=False, runtimes=("eager", "frozen"), rivals=("bfloat16",)):
    of = {
        precision: {r: replace(key, precision=precision) for r, key in keys(*runtimes).items()} for precision in rivals
    }
    about = (member, keys(*runtimes), (4, 8), 0.3, rows, 1e-4, thorough)
    return Measurement(*about, rivals=of, precision_tolerance=0.01)


class Takes:
    """Gives profiles that were written down, of a precision and a runtime."""

    def __init__(self, **profiles):
        self.profiles = profiles
        self.asked = []

    def __call__(self, measurement):
        precision = measurement.member.precision
        for runtime, key in measurement.keys.items():
            self.asked.append((precision, runtime))
            given = self.profiles[f"{precision}_{runtime}"]
            if isinstance(given, Exception):
                raise given
            yield key, given


def raced(takes, measurement=None, hardware=None):
    found = race(measurement or asked(), takes, hardware or Cpu().hardware)
    return {(key.precision, key.runtime): got for key, got in found}


PLAIN = {"auto_eager": profile(100.0), "auto_frozen": profile(200.0)}


def test_what_is_fast_and_near_is_measured_in_every_runtime():
    takes = Takes(**PLAIN, bfloat16_eager=profile(150.0, rounding=2e-3, judged=512), bfloat16_frozen=profile(500.0))
    found = raced(takes)
    assert takes.asked[2:] == [("bfloat16", "eager"), ("bfloat16", "frozen")]
    assert found["bfloat16", "frozen"].best == 500.0 and len(found) == 4


@pytest.mark.parametrize(
    ("eager", "said"),
    [
        (profile(150.0, rounding=0.02, judged=512), "off by 0.02 from float32"),
        (profile(50.0, rounding=1e-3, judged=512), "0.25 × the rows/s of float32"),
    ],
)
def test_what_is_far_off_or_slow_is_measured_no_further(eager, said):
    takes = Takes(**PLAIN, bfloat16_eager=eager)
    assert list(raced(takes)) == [("float32", "eager"), ("float32", "frozen"), ("bfloat16", "eager")]
    assert shortfall(eager, 200.0, 0.01) == said


def test_what_a_member_cannot_compute_in_leaves_it_in_float32():
    found = raced(Takes(**PLAIN, bfloat16_eager=MemberError("member conv cannot be brought to bfloat16", "x")))
    assert {found["bfloat16", runtime].refused for runtime in ("eager", "frozen")} == {
        "member conv cannot be brought to bfloat16"
    }


def test_what_the_device_lacks_is_not_tried():
    takes, card = Takes(**PLAIN, float16_eager=profile(1.0), float16_frozen=profile(1.0)), Cuda()
    card.api.capability = (7, 5)
    found = raced(takes, asked(rivals=("tf32", "bfloat16", "float16")), card.hardware)
    assert "this GPU has 7.5" in found["tf32", "eager"].refused and "7.5" in found["bfloat16", "frozen"].refused
    assert {precision for precision, _ in takes.asked} == {"auto", "float16"}


def test_few_rows_do_not_pay_for_the_comparison_unless_it_is_asked_for():
    takes = Takes(**PLAIN, bfloat16_eager=profile(150.0), bfloat16_frozen=profile(150.0))
    refused = raced(takes, asked(rows=300))["bfloat16", "eager"]
    assert refused.worth_from > 300 and "would not pay for 300 rows" in refused.refused
    assert raced(takes, asked(rows=300, thorough=True))["bfloat16", "eager"].best == 150.0
    assert is_judged(refused, 10**6) and not is_judged(profile(1.0, judged=100), 10**6)
    assert is_judged(profile(1.0, judged=100), 100)


def test_which_there_are():
    assert rivals(MEMBER, "cpu") == ("bfloat16",) and rivals(MEMBER, "cuda") == ("tf32", "bfloat16", "float16")
    assert rivals(replace(MEMBER, precision=None), "cuda") == () == rivals(replace(MEMBER, precision="tf32"), "cuda")


def test_a_real_member_is_held_against_float32_on_all_the_rows(weights, tmp_path):
    member = replace(MEMBER, weights=weights / "conv.safetensors")
    [device] = cpu_devices("here", "model", count=1, cores=1, memory=1 << 30)
    spec = RunSpec(members=(member,), search_path=ENSEMBLE)
    others = (np.random.default_rng(2).random((300, 3, 8, 8), np.float32),)
    of = {"inputs": ("images",), "device": device, "space": "probabilities", "rows": (ROWS,), "cache": tmp_path}
    take = partial(measure, spec=spec, others=others, **of)
    found = {key.precision: got for key, got in race(asked(member, runtimes=("eager",)), take, Cpu().hardware)}
    assert found["float32"].judged == 0 and found["float32"].rounding == 0.0
    narrow = found["bfloat16"]
    assert narrow.judged == 300 and 1e-6 < narrow.rounding < 0.01 and 0 <= narrow.labels < 0.1


def test_labels_that_differ_are_counted_by_row():
    references = References((), True, labelled=lambda values: values.argmax(-1))
    references.wide = np.array([[0.9, 0.1], [0.4, 0.6], [0.51, 0.49], [0.2, 0.8]])
    got = references.judged(profile(1.0), np.array([[0.9, 0.1], [0.4, 0.6], [0.49, 0.51], [0.3, 0.7]]))
    assert got.labels == 0.25 and got.rounding == pytest.approx(0.1) and got.judged == 4
    assert references.judged(profile(1.0), None) == profile(1.0)


@pytest.mark.parametrize(
    ("task", "space", "wanted"),
    [("multiclass", "probabilities", [1, 0]), ("multilabel", "logits", [[True, True], [True, False]])],
)
def test_labels_are_of_the_classes(task, space, wanted):
    spec = RunSpec(members=(MEMBER,), task=task)
    assert labels(np.array([[0.1, 0.4], [0.9, -0.1]]), spec, space).tolist() == wanted
    assert labels(np.ones((2, 3)), RunSpec(members=(MEMBER,)), "values") is None
