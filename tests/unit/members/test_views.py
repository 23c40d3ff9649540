"""Views: what a member sees, what is turned back, and their mean; against numpy in float64, for any shape."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from hpcens import members
from hpcens.checks.member_trial import try_member
from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.errors import MemberError
from hpcens.members import member_digests
from hpcens.members.views import TURNS, is_map
from hpcens.specs import MemberSpec, ResizeSpec, RunSpec, StepSpec, ViewSpec, ViewsSpec, WeightsSpec

CODE = """
import torch
from torch import nn

class Dense(nn.Module):
    # a class for each pixel, by weights that differ from place to place: nothing is the same once it is turned
    def __init__(self, height=6, width=6, last=False):
        super().__init__()
        torch.manual_seed(0)
        self.last = last
        self.place = nn.Parameter(torch.randn(4, 3, height, width))
    def forward(self, x):
        y = torch.einsum("nchw,kchw->nkhw", x, self.place)
        return y.movedim(1, -1).contiguous() if self.last else y

class Whole(nn.Module):
    def __init__(self, shape=(4,), inputs=108):
        super().__init__()
        torch.manual_seed(0)
        self.shape, self.head = tuple(shape), nn.Linear(inputs, torch.Size(shape).numel())
    def forward(self, x):
        return self.head(x.flatten(1)).unflatten(1, self.shape)

class Spoils(Whole):
    def forward(self, x):
        return super().forward(x.mul_(2))

class Squeezed(Whole):
    def forward(self, x):
        return super().forward(x).squeeze()

class Both(Whole):
    def forward(self, x, y):
        return super().forward(x) + y.sum(1, keepdim=True)

class Voxels(nn.Module):
    def forward(self, x):
        return x * torch.arange(16.0).reshape(4, 4).to(x.dtype)

class Coarse(nn.Module):
    def forward(self, x):
        return nn.functional.avg_pool2d(x, 2) * torch.arange(9.0).reshape(3, 3)

def rolled(x):
    return x.roll(1, -1)

def rolled_back(x):
    return x.roll(-1, -1)

def same(x):
    return x

def first_row(x):
    return x[:1]

def narrow(x):
    return x[..., 1:]

def raises(x):
    if (x > 9).any():
        raise ValueError("too large")
    return x

def raises_always(x):
    raise RuntimeError("never")

def two(x, y):
    return x.flip(-1), y
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, path = tmp_path_factory.mktemp("seen"), list(sys.path)
    (folder / "seen.py").write_text(CODE)
    yield folder
    sys.path[:] = path
    sys.modules.pop("seen", None)


def rows(shape=(7, 3, 6, 6), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def view(text):
    """`hflip`, or `call`, or `call → undo`."""
    call, _, undo = text.partition(" → ")
    if call in PLAIN:
        return ViewSpec(call=call)
    return ViewSpec(call=f"seen:{call}", undo=f"seen:{undo}" if undo else None)


def viewed(*views, factory="Dense", space=None, **member):
    seen = ViewsSpec(apply=tuple(map(view, views)), space=space) if views else None
    return MemberSpec(name="m", factory=f"seen:{factory}", weights=WeightsSpec(), views=seen, **member)


def loaded(member, folder, *, space="probabilities", inputs=("x",), **spec):
    return members.load(member, RunSpec(members=(member,), search_path=folder, **spec), inputs=inputs, space=space)


def scored(member, folder, *x, batch=3, blank=None, **options):
    engine = Engine(CpuHardware(1), blank)
    engine.host("m", loaded(member, folder, **options), batch=batch)
    return engine.run("m", [torch.from_numpy(each) for each in x])[0]


def network(name, folder, **arguments):
    from hpcens.usercode import import_callable

    return import_callable(f"seen:{name}", folder)(**arguments).eval()


def plain(net, x, names, back=True):
    """What a network gives for each view, in numpy and float64: (views, rows, …)."""
    with torch.inference_mode():
        net = net.double()
        given = [net(torch.from_numpy(PLAIN[n](x.astype(np.float64)).copy())).numpy() for n in names]
    return np.stack([BACK[n](y) if back else y for n, y in zip(names, given, strict=True)])


# numpy's own words for the same, on the last two axes
PLAIN = {
    "identity": lambda x: x,
    "hflip": lambda x: x[..., ::-1],
    "vflip": lambda x: x[..., ::-1, :],
    "rot90": lambda x: np.rot90(x, 1, (-2, -1)),
    "rot180": lambda x: np.rot90(x, 2, (-2, -1)),
    "rot270": lambda x: np.rot90(x, 3, (-2, -1)),
    "transpose": lambda x: np.swapaxes(x, -1, -2),
    "transverse": lambda x: np.rot90(np.swapaxes(x, -1, -2), 2, (-2, -1)),
}
BACK = PLAIN | {"rot90": PLAIN["rot270"], "rot270": PLAIN["rot90"]}
FLAT = ("identity", "hflip", "vflip", "rot180")
SETTINGS = settings(deadline=None, max_examples=40)


@SETTINGS
@given(name=st.sampled_from(sorted(PLAIN)), shape=st.lists(st.integers(1, 4), min_size=2, max_size=5))
def test_each_name_is_what_numpy_says_and_is_undone(name, shape):
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    forth, back = TURNS[name]
    assert np.array_equal(forth(x, (-2, -1)).numpy(), PLAIN[name](x.numpy()))
    assert torch.equal(back(forth(x, (-2, -1)), (-2, -1)), x)


@SETTINGS
@given(data=st.data())
def test_maps_are_turned_back_and_averaged(folder, data):
    """Whichever axis has the classes, in either space, of any height and width, in any batch."""
    height, width, last = data.draw(st.integers(2, 6)), data.draw(st.integers(2, 6)), data.draw(st.booleans())
    space = data.draw(st.sampled_from([None, "logits"]))
    possible = PLAIN if height == width else FLAT
    names = data.draw(st.lists(st.sampled_from(sorted(possible)), min_size=1, max_size=8, unique=True))
    arguments = {"height": height, "width": width, "last": last}
    member = viewed(*names, space=space, arguments=arguments, class_axis=-1 if last else 1)
    x = rows((5, 3, height, width))
    got = scored(member, folder, x, class_axis=1, batch=data.draw(st.integers(1, 5)))
    given = plain(network("Dense", folder, **arguments | {"last": False}), x, names)
    wanted = softmax(given.mean(0), 1) if space else softmax(given, 2).mean(0)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-7)


@SETTINGS
@given(
    names=st.lists(st.sampled_from(sorted(PLAIN)), min_size=1, max_size=8, unique=True),
    task=st.sampled_from(["multiclass", "regression"]),
)
def test_classes_and_values_without_a_place_are_averaged_as_they_are(folder, names, task):
    values = task == "regression"
    member = viewed(*names, factory="Whole", output="values" if values else "logits")
    got = scored(member, folder, rows(), space="values" if values else "probabilities", task=task)
    given = plain(network("Whole", folder), rows(), names, back=False)
    np.testing.assert_allclose(got, (given if values else softmax(given, 2)).mean(0), rtol=2e-5, atol=1e-6)


def test_what_does_not_change_under_its_views_keeps_every_bit(folder):
    """The mean of equal outputs is each of them, in any number, and in any order of sums."""
    for count in (2, 3, 5, 7):
        names = ["same"] * count
        member = viewed(*names, factory="Whole")
        assert scored(member, folder, rows()).tobytes() == scored(viewed(factory="Whole"), folder, rows()).tobytes()


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 8])
def test_the_bytes_of_a_batch_are_those_of_its_views_by_themselves(folder, batch):
    """Each view is a batch of the planned size: no other shape is computed, so no other bits come of it."""
    x, options = rows(), {"batch": batch, "space": "values", "task": "regression"}
    got = scored(viewed("identity", "rot90", output="values"), folder, x, **options)
    straight = scored(viewed(output="values"), folder, x, **options)
    turned = scored(viewed(output="values"), folder, np.ascontiguousarray(PLAIN["rot90"](x)), **options)
    mean = ((straight.astype(np.float64) + BACK["rot90"](turned)) / 2).astype(np.float32)
    assert got.tobytes() == mean.tobytes()


def test_each_view_sees_the_row_and_not_what_the_network_made_of_another(folder):
    spoils = scored(viewed(*PLAIN, factory="Spoils"), folder, rows())
    given = plain(network("Whole", folder), 2 * rows(), list(PLAIN), back=False)
    np.testing.assert_allclose(spoils, softmax(given, 2).mean(0), rtol=2e-5)


def test_a_network_that_loses_the_axis_of_one_row_is_run_on_two(folder):
    member = viewed("identity", "hflip", factory="Squeezed")
    whole = viewed("identity", "hflip", factory="Whole")
    assert np.allclose(scored(member, folder, rows(), batch=1), scored(whole, folder, rows(), batch=1))


def test_float64_stays_float64(folder):
    member = viewed(*PLAIN, factory="Whole", output="values", precision="float64")
    got = scored(member, folder, rows().astype(np.float64), space="values", task="regression")
    given = plain(network("Whole", folder), rows(), list(PLAIN), back=False)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, given.mean(0), rtol=1e-12)


def test_they_come_after_the_preprocessing(folder):
    """Bytes with the channels last, of any height and width, resized and cropped to what the network takes."""
    images = np.random.default_rng(0).integers(0, 255, (4, 10, 14, 3)).astype(np.uint8)
    resize = ResizeSpec(size=(8, 9))
    steps = (StepSpec(layout="NHWC->NCHW"), StepSpec(scale=1 / 255), StepSpec(resize=resize), StepSpec(crop=(6, 6)))
    got = scored(viewed("identity", "rot90", preprocess=steps), folder, images, class_axis=1)
    x = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 255
    x = torch.nn.functional.interpolate(x, (8, 9), mode="bilinear")[..., 1:7, 1:7].numpy()
    wanted = softmax(plain(network("Dense", folder), x, ["identity", "rot90"]), 2).mean(0)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_functions_of_the_users_own_are_called_and_undone(folder):
    """`undo` is called with the output that is selected, before any softmax."""
    net, x = network("Dense", folder), rows()
    got = scored(viewed("identity", "rolled → rolled_back"), folder, x, class_axis=1)
    given = plain(net, x, ["identity"])[0], np.roll(plain(net, np.roll(x, 1, -1), ["identity"])[0], -1, -1)
    np.testing.assert_allclose(got, np.mean([softmax(y, 1) for y in given], 0), rtol=2e-5)


def test_inputs_without_two_axes_are_left_as_they_are(folder):
    x, y = rows(), rows((7, 3), seed=1)
    got = scored(viewed("identity", "vflip", factory="Both"), folder, x, y, inputs=("x", "y"))
    given = plain(network("Whole", folder), x, ["identity", "vflip"], back=False) + y.sum(1, keepdims=True)
    np.testing.assert_allclose(got, softmax(given, 2).mean(0), rtol=2e-5)
    by_hand = scored(viewed("identity", "two", factory="Both"), folder, x, y, inputs=("x", "y"))
    flipped = scored(viewed("identity", "hflip", factory="Both"), folder, x, y, inputs=("x", "y"))
    assert by_hand.tobytes() == flipped.tobytes()


@pytest.mark.parametrize(
    ("views", "shape", "factory", "message"),
    [
        (["rot90"], (7, 3, 4, 6), "Whole", r"rot90 exchanges height and width, and the inputs have 4 × 6.*square"),
        (["hflip"], (7, 36), "Whole", r"of inputs \(3, 36\) none has rows of two axes"),
        (["hflip"], (7, 6, 6, 3), "Whole", r"\(3, 6, 6, 3\) looks like that of channels.*layout: NHWC->NCHW"),
        (
            ["hflip"],
            (7, 3, 6, 6),
            "Grid",
            r"views\[0\] \(hflip\): its output \(3, 4, 5\) is no map of rows of 6 × 6.*undo",
        ),
        (["hflip"], (7, 3, 6, 6), "Line", r"its output \(3, 4, 5\) is no map of rows"),
        (["rolled"], (7, 3, 6, 6), "Dense", r"views\[0\] \(seen:rolled\): .* nothing says how.*add undo"),
        (["narrow"], (7, 3, 6, 6), "Dense", r"it made \(3, 3, 6, 5\) of \(3, 3, 6, 6\).*its own shape"),
        (["first_row"], (7, 3, 6, 6), "Whole", r"it made \(1, 3, 6, 6\) of \(3, 3, 6, 6\)"),
        (["same → first_row"], (7, 3, 6, 6), "Dense", r"undo seen:first_row made \(1, 4, 6, 6\) of \(3, 4, 6, 6\)"),
        (
            ["identity", "same → narrow"],
            (7, 3, 6, 6),
            "Dense",
            r"its output has the shape \(3, 4, 6, 5\), and that of the",
        ),
        (["nothing"], (7, 3, 6, 6), "Whole", r"views\[0\] \(seen:nothing\): cannot import.*there is no nothing"),
        (["same → nothing"], (7, 3, 6, 6), "Whole", r"cannot import seen:nothing"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(folder, views, shape, factory, message):
    arguments = {"Grid": {"shape": [4, 5]}, "Line": {"shape": [4, 5]}}.get(factory, {})
    if factory == "Whole":
        arguments = {"inputs": int(np.prod(shape[1:]))}
    options = {"class_axis": 1} if factory in ("Dense", "Line") else {}
    if factory == "Grid":
        options = {"space": "values", "task": "regression"}
    member = viewed(*views, factory={"Grid": "Whole", "Line": "Whole"}.get(factory, factory), arguments=arguments)
    member = replace(member, output="values") if factory == "Grid" else member
    with pytest.raises(MemberError) as caught:
        scored(member, folder, rows(shape), **options)
    assert re.search(message, f"{caught.value.what} → {caught.value.remedy}", re.DOTALL), caught.value


def test_a_function_that_raises_on_some_rows_makes_them_bad_ones(folder):
    from hpcens.vocabulary import Predict

    x = rows()
    x[4, 0, 0, 0] = 10
    member = viewed("identity", "raises", factory="Whole")
    with pytest.raises(
        MemberError, match=r"member m: views\[1\] \(seen:raises\) raised ValueError: too large \(rows 3–5"
    ):
        scored(member, folder, x)
    engine = Engine(CpuHardware(1), (4,))
    engine.host("m", loaded(member, folder), batch=3)
    [predicted] = engine.predict(Predict(0, ("m",), (x,)))
    assert [(bad.cause, bad.rows) for bad in predicted.bad] == [("raised", (4,))]
    good = np.delete(np.arange(7), 4)
    assert predicted.values[good].tobytes() == scored(member, folder, np.where(x == 10, 0, x))[good].tobytes()


def test_an_undoing_that_raises_is_no_rows_fault(folder):
    """Under bad_rows: mask, too: which row is to blame cannot be told."""
    member = viewed("same → raises_always", factory="Whole")
    with pytest.raises(MemberError, match=r"undo seen:raises_always raised RuntimeError: never"):
        scored(member, folder, rows(), blank=(4,))


@pytest.mark.parametrize(
    ("size", "of_output", "lies_over"),
    [
        *(((64, 48), (64 // n, 48 // n), True) for n in (1, 2, 4, 8, 16)),
        *(((n * 7, n * 7), (7, 7), True) for n in (14, 32)),
        ((33, 65), (17, 33), True),  # strides of 2, rounded up
        ((33, 65), (16, 32), True),
        ((12, 8), (24, 16), True),
        ((572, 572), (388, 388), True),  # a border cut off
        ((20, 30), (1, 1), True),
        *(((64, 64), other, False) for other in ((6, 10), (3, 3), (5, 4), (64, 63), (10, 10))),
    ],
)
def test_a_map_is_told_by_its_height_and_width(size, of_output, lies_over):
    assert is_map(size, of_output) == lies_over


def test_coarser_maps_are_turned_back(folder):
    x = rows()
    got = scored(viewed(*PLAIN, factory="Coarse", output="values"), folder, x, space="values", task="regression")
    np.testing.assert_allclose(got, plain(network("Coarse", folder), x, list(PLAIN)).mean(0), rtol=2e-5, atol=1e-6)


def test_they_are_part_of_what_a_member_is(folder):
    bare = member_digests(viewed(factory="Whole"), folder)
    seen = member_digests(viewed("identity", "rolled → rolled_back", space="logits", factory="Whole"), folder)
    assert (seen.pop("views[0]"), seen.pop("views[1]")) == ("identity", "seen:rolled, undone by seen:rolled_back")
    assert seen.pop("space of views") == "logits"
    assert seen.pop("code of views[1]") == seen.pop("code of views[1].undo") == bare["code"]
    assert seen == bare


def tried(member, folder, x, space="probabilities", **spec):
    run = RunSpec(members=(member,), search_path=folder, **spec)
    given = {"inputs": ("x",), "space": space, "cores": 1, "hardware": CpuHardware(1), "rows": (x[:2],)}
    return try_member(member, run, others=(x[2:],), **given)


def test_a_trial_says_what_is_averaged_and_turned_back(folder):
    trial = tried(viewed("identity", "rot90"), folder, rows(), class_axis=1)
    wanted = "mean of the probabilities of 2 views (identity, rot90), turned back on axes 2 and 3"
    assert trial.taken == f"logits (4, 6, 6) → softmax over axis 1, {wanted}" and trial.warnings == ()
    whole = tried(viewed("hflip", "vflip", space="logits", factory="Whole"), folder, rows())
    assert whole.taken == "logits (4) → softmax over axis 1, mean of the logits of 2 views (hflip, vflip)"
    [warning] = whole.warnings
    assert "does not see its rows as they are, only by hflip, vflip: write views: [identity, hflip, vflip]" in warning


def test_inputs_of_other_height_and_width_are_for_functions(folder):
    member = viewed("identity", "vflip", factory="Both")
    with pytest.raises(MemberError, match=r"\(3, 3, 6, 6\), \(3, 3, 4, 6\) differ in height and width") as caught:
        scored(member, folder, rows(), rows((7, 3, 4, 6)), inputs=("x", "y"))
    assert "functions of yours" in caught.value.remedy


def test_volumes_are_turned_slice_by_slice(folder):
    """On the last two axes, whatever lies before them."""
    x = rows((5, 2, 3, 4, 4))
    got = scored(viewed("identity", "rot270", factory="Voxels", output="values"), folder, x, space="values")
    given = plain(network("Voxels", folder), x, ["identity", "rot270"])
    np.testing.assert_allclose(got, given.mean(0), rtol=2e-5)


def test_narrow_outputs_are_averaged_in_float64(folder):
    """Of a member of bfloat16 each view is rounded by itself, and the mean is not."""
    names = ("identity", "hflip", "rot90")
    member = viewed(*names, factory="Whole", output="values", precision="bfloat16")
    options = {"space": "values", "task": "regression"}
    got = scored(member, folder, rows(), **options)
    each = [scored(replace(member, views=None), folder, PLAIN[n](rows()).copy(), **options) for n in names]
    assert got.tobytes() == np.mean(np.float64(each), 0).astype(np.float32).tobytes()


def test_the_weights_are_there_once(folder):
    """However many views there are; nor does the memory of their outputs grow with them."""
    kinds = viewed(*PLAIN, factory="Whole"), viewed(factory="Whole")
    weights = [sum(p.nbytes for p in loaded(each, folder).state_dict().values()) for each in kinds]
    assert weights[0] == weights[1]
