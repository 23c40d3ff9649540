"""Views: a member sees each row in several ways, and its output is the mean over them.

Views are made of what the module is called with, after the preprocessing, and called one after another in batches of
the planned size: the network, however it is executed, sees no other shape, and the weights are there once. What it
gives for a view is turned back before the mean, where it is a map of the row; a class or a value has no place that
could be turned. The mean is taken in float64, in the order of the views, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hpcens.errors import MemberError
from hpcens.members.conversion import Conversion
from hpcens.members.preprocess import PreprocessingFailed
from hpcens.specs import TURNING, MemberSpec, ViewSpec
from hpcens.usercode import import_member_code

Axes = tuple[int, int]
_Turn = Callable[[torch.Tensor, Axes], torch.Tensor]

_LAST: Axes = (-2, -1)
# By how many pixels of a row a network may have made one of its output, and where it may round up or down.
_MOST_STRIDE = 32
_ROUNDED = (2, 4, 8, 16, 32)
_CHANNELS = (1, 3, 4)  # of images


def _itself(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return x


def _hflip(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return x.flip(axes[1])


def _vflip(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return x.flip(axes[0])


def _rot90(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return torch.rot90(x, 1, axes)


def _rot180(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return x.flip(axes)


def _rot270(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return torch.rot90(x, 3, axes)


def _transpose(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return x.transpose(*axes)


def _transverse(x: torch.Tensor, axes: Axes) -> torch.Tensor:
    return x.transpose(*axes).flip(axes)


TURNS: Mapping[str, tuple[_Turn, _Turn]] = {
    "identity": (_itself, _itself),
    "hflip": (_hflip, _hflip),
    "vflip": (_vflip, _vflip),
    "rot90": (_rot90, _rot270),
    "rot180": (_rot180, _rot180),
    "rot270": (_rot270, _rot90),
    "transpose": (_transpose, _transpose),
    "transverse": (_transverse, _transverse),
}
"""What each name does to two axes, and what undoes it."""


@dataclass(frozen=True, slots=True)
class _View:
    """One view. label: how errors name it; turn: what is done by name, and what undoes it."""

    label: str
    spec: ViewSpec
    turn: tuple[_Turn, _Turn] | None
    call: Callable[..., object] | None
    undo: Callable[[torch.Tensor], object] | None


class Views:
    """All views of a member."""

    def __init__(self, member: MemberSpec, search_path: Path, conversion: Conversion) -> None:
        """Make a member's views. Raises MemberError where a function cannot be imported.

        conversion  from what the member gives to what the ensemble combines
        """
        assert member.views is not None, "who has none makes none"
        self._member = member.name
        self._conversion = conversion
        self.in_space_of_rule = member.views.space in (None, conversion.space)
        self._space = member.views.space or conversion.space
        self._views = [_view(member.name, i, view, search_path) for i, view in enumerate(member.views.apply)]
        self._turned_back: Axes | None = None
        self._turns = any(view.turn is not None and view.spec.call != "identity" for view in self._views)
        self._exchanges = next((view.spec.call for view in self._views if view.spec.call in TURNING), None)

    def described(self) -> str:
        """Say of what the mean is taken, and what was turned back, once a batch was run."""
        names = ", ".join(view.spec.call for view in self._views)
        back = self._turned_back
        turned = f", turned back on axes {back[0]} and {back[1]}" if back is not None else ""
        return f"mean of the {self._space} of {len(self._views)} views ({names}){turned}"

    def try_calls(self, inputs: Sequence[torch.Tensor]) -> None:
        """Call all functions of the user's own on inputs, and raise what they raise."""
        for view in self._views:
            if view.call is not None:
                self._seen(view, inputs)

    def mean(
        self,
        inputs: Sequence[torch.Tensor],
        run: Callable[[Sequence[torch.Tensor]], torch.Tensor],
        convert: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> torch.Tensor:
        """Return the mean of a member's outputs over the views, (batch, *output shape) in their dtype.

        inputs   (batch, *shape) of each, as the module is called with
        run      calls the module, which may change what it is called with
        convert  from an output to the space in which the mean is taken; None: it is in that
        Raises MemberError where a view or its undoing does not fit, PreprocessingFailed where a function raises.
        """
        size = self._size(inputs)
        total: torch.Tensor | None = None
        dtype = torch.float32
        for view in self._views:
            values = self._undone(view, run(self._seen(view, inputs)), size)
            if convert is not None:
                values = convert(values)
            if total is None:
                total, dtype = values.to(torch.float64, copy=True), values.dtype
            elif values.shape != total.shape:
                what = (
                    f"its output has the shape {tuple(values.shape)}, and that of the first view {tuple(total.shape)}"
                )
                raise self._wrong(view.label, what, "let each view, once undone, give an output of one shape")
            else:
                total += values
        assert total is not None, "config refuses a member without a view"
        return (total / len(self._views)).to(dtype)

    def _size(self, inputs: Sequence[torch.Tensor]) -> tuple[int, int] | None:
        """Return height and width of what is turned; None where nothing is.

        Raises MemberError where an input has none, they differ, or a turn would exchange what is not the same.
        """
        if not self._turns:
            return None
        by_hand = "write the views as functions of yours: {call: m:f, undo: m:g}"
        images = [x for x in inputs if x.dim() >= 3]
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        if not images:
            what = f"of inputs {shapes} none has rows of two axes, which could be turned"
            raise self._wrong(
                "views", what, f"bring it to (rows, …, height, width) by a layout or call step; or {by_hand}"
            )
        for x in images:
            if x.dim() == 4 and x.shape[3] in _CHANNELS and x.shape[1] not in _CHANNELS and x.shape[2] != x.shape[3]:
                what = f"the last of the axes {tuple(x.shape)} looks like that of channels, and views turn the last two"
                raise self._wrong("views", what, f"add {{layout: NHWC->NCHW}} to members[].preprocess; or {by_hand}")
        sizes = {(x.shape[-2], x.shape[-1]) for x in images}
        if len(sizes) > 1:
            what = f"inputs {shapes} differ in height and width, and all that have them would be turned"
            raise self._wrong("views", what, by_hand)
        [(height, width)] = sizes
        if self._exchanges is not None and height != width:
            what = f"{self._exchanges} exchanges height and width, and the inputs have {height} × {width}"
            raise self._wrong("views", what, "resize or crop to a square, or leave out rot90, rot270 and transposes")
        return height, width

    def _seen(self, view: _View, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the module is called with in a view, of memory of its own."""
        if view.turn is not None:
            forth, _ = view.turn
            turned = (forth(x, _LAST) if x.dim() >= 3 else x for x in inputs)
            return [_owned(seen, x) for seen, x in zip(turned, inputs, strict=True)]
        assert view.call is not None, "config refuses a view that is neither"
        returned = _called(view.label, view.call, *(x.clone() for x in inputs))
        seen = list(returned) if isinstance(returned, tuple | list) else [returned]
        shapes = [tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__ for x in seen]
        if shapes != (wanted := [tuple(x.shape) for x in inputs]):
            what = f"it made {', '.join(map(str, shapes)) or 'nothing'} of {', '.join(map(str, wanted))}"
            raise self._wrong(view.label, what, "let a view return each input in its own shape")
        return [s.to(x.dtype).contiguous() for s, x in zip(seen, inputs, strict=True) if isinstance(s, torch.Tensor)]

    def _undone(self, view: _View, values: torch.Tensor, size: tuple[int, int] | None) -> torch.Tensor:
        """Return what the member gave for a view as it lies in the row itself.

        values  (batch, *output shape)
        size    height and width of what was turned
        """
        if view.undo is not None:
            undone = _called(f"{view.label} undo {view.spec.undo}", view.undo, values)
            if not isinstance(undone, torch.Tensor) or undone.shape[:1] != values.shape[:1]:
                given = tuple(undone.shape) if isinstance(undone, torch.Tensor) else type(undone).__name__
                what = f"undo {view.spec.undo} made {given} of {tuple(values.shape)}"
                raise self._wrong(view.label, what, "let it return one tensor of as many rows")
            return undone.to(values.dtype)
        if view.spec.call == "identity":
            return values
        free = free_axes(values.dim(), self._conversion.axis_in(values))
        if view.turn is None:
            if len(free) > 1:
                what = f"the output has the shape {tuple(values.shape)}, and nothing says how it is brought back"
                raise self._wrong(
                    view.label, what, "add undo: package.module:function; one that returns it as it is may do"
                )
            return values
        axes = self._turned_axes(view, values, free, size)
        return values if axes is None else view.turn[1](values, axes)

    def _turned_axes(
        self, view: _View, values: torch.Tensor, free: Sequence[int], size: tuple[int, int] | None
    ) -> Axes | None:
        """Return the axes of an output that were turned with the row; None where it has none.

        free  its axes but those of rows and classes
        """
        assert size is not None, "a turn has looked at it"
        with_classes = values.dim() - 1 - len(free) == 1
        if not free or (len(free) == 1 and not with_classes):
            return None
        axes = (free[-2], free[-1]) if len(free) > 1 else None
        if axes is None or not is_map(size, (values.shape[axes[0]], values.shape[axes[1]])):
            what = f"its output {tuple(values.shape)} is no map of rows of {size[0]} × {size[1]}, to be turned back"
            raise self._wrong(view.label, what, "write the view as functions of yours: {call: m:f, undo: m:g}")
        self._turned_back = axes
        return axes

    def _wrong(self, place: str, what: str, remedy: str) -> MemberError:
        return MemberError(f"member {self._member}: {place}: {what}", remedy)


def free_axes(count: int, of_classes: int | None) -> tuple[int, ...]:
    """Return the axes of an output but those of rows and of classes. count: of all axes; of_classes: None: none is."""
    return tuple(axis for axis in range(1, count) if axis != of_classes)


def is_map(size: tuple[int, int], of_output: tuple[int, int]) -> bool:
    """Tell whether an output of this height and width may lie over rows of that: equal, coarser, finer, or cut evenly.

    size       height and width of the rows
    of_output  of the output
    """
    if of_output == (1, 1):
        return True
    for stride in range(1, _MOST_STRIDE + 1):
        if all(n == m * stride or m == n * stride for n, m in zip(size, of_output, strict=True)):
            return True
        rounded = stride in _ROUNDED
        if rounded and all(m in (n // stride, -(-n // stride)) for n, m in zip(size, of_output, strict=True)):
            return True
    border = size[0] - of_output[0]
    return border == size[1] - of_output[1] and 0 < border <= size[0] // 2


def _view(member: str, place: int, spec: ViewSpec, search_path: Path) -> _View:
    label = f"views[{place}] ({spec.call})"
    owner = f"member {member}: {label}"
    return _View(
        label,
        spec,
        TURNS[spec.call] if spec.by_name else None,
        None if spec.by_name else import_member_code(owner, spec.call, search_path),
        import_member_code(owner, spec.undo, search_path) if spec.undo is not None else None,
    )


def _owned(seen: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return a view in memory of its own and in order: the module may change it, and prepared ones need it whole."""
    seen = seen.contiguous()
    return seen.clone() if seen.data_ptr() == x.data_ptr() else seen


def _called(label: str, function: Callable[..., object], *tensors: torch.Tensor) -> object:
    try:
        return function(*tensors)
    except (Exception, SystemExit) as error:
        raise PreprocessingFailed(label, error) from error
