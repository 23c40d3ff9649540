"""The member: what a user says of one network of the ensemble."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from hpcens.specs.features import FeaturesSpec
from hpcens.specs.features import Precision as Precision
from hpcens.specs.features import Trust as Trust
from hpcens.specs.features import WeightsSpec as WeightsSpec
from hpcens.specs.steps import STRICT as STRICT
from hpcens.specs.steps import StepSpec

Space = Literal["logits", "probabilities", "values"]
Task = Literal["binary", "multiclass", "multilabel", "regression"]
NARROWER: tuple[Precision, ...] = ("tf32", "bfloat16", "float16")
"""Precisions that round more than float32 does."""
OutputDtype = Literal["float32", "float64"]
"""Dtypes in which members' outputs are sent and combined."""
MemberBadRows = Literal["pass"]
ViewName = Literal["identity", "hflip", "vflip", "rot90", "rot180", "rot270", "transpose", "transverse"]
SourceName = Literal["factory", "torchscript", "exported", "onnx", "pickled"]

LAST = -1
"""The last axis: where classes are unless `class_axis` says otherwise, if a row has one axis alone."""
SOURCES: tuple[SourceName, ...] = get_args(SourceName)
"""Where a member may come from: a key of MemberSpec each."""
FILES = ("weights", *SOURCES[1:])
"""The keys of MemberSpec that name a file."""

RowsSpec = dict[str, tuple[int | str, ...]]
"""Route → values of which a row has one for a member to score it; `not ROUTE` → values of which it has none; `path` →
that of a mask. All of them have to hold."""
NOT_OF = "not "
"""What a key of RowsSpec begins with where the rows with other values are meant."""


def described_rows(rows: RowsSpec) -> str:
    """Say which rows are meant."""
    return ", ".join(f"{key} {' or '.join(map(str, values))}" for key, values in rows.items())


UNDONE_BY = ", undone by "
"""Between the two functions of a view, where it is described."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSpec:
    """One way to look at a row.

    call  a ViewName, of what is done to the last two axes: identity; hflip (left and right exchanged) and vflip (top
          and bottom) of torchvision; rot90, rot180 and rot270, counter-clockwise as torch.rot90; transpose (height and
          width exchanged) and transverse (the same, then turned by 180 degrees) of Pillow. Or the import path of a
          function: it takes all inputs, as a step without `input` does, and returns as many, each of its own shape
    undo  import path of a function from what the member gives for that, (batch, *output shape), to what it would have
          given without; None: a name undoes itself, and what is given for a function is the same
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    call: str
    undo: str | None = None

    @property
    def by_name(self) -> bool:
        """Whether it is one of the names."""
        return ":" not in self.call

    @property
    def described(self) -> str:
        """What it is, in words."""
        return self.call if self.undo is None else f"{self.call}{UNDONE_BY}{self.undo}"


TURNING = ("rot90", "rot270", "transpose", "transverse")
"""Views that exchange height and width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewsSpec:
    """In what views a member sees each row; its output is the mean over them.

    apply  the views, in the order in which they are added up
    space  in which the mean is taken: that of the rule, or that of the member's output (None: the rule's)
    keep   hold the output of each view as well; config refuses it
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    apply: tuple[ViewSpec, ...]
    space: Space | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PassesSpec:
    """How often a stochastic member is run on each row, and from where its random numbers start.

    count  passes; its output is the mean over them
    seed   of the random numbers of all passes
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    count: int
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """One network of the ensemble, from exactly one of factory, torchscript, exported, onnx and pickled.

    name         identifies the member in the plan, the result and every message
    factory      import path `package.module:callable` that builds the torch module
    arguments    keyword arguments of the factory
    weights      state dict of the factory's module; a path alone is as good as a WeightsSpec of it
    torchscript  file of torch.jit.save
    exported     file of torch.export.save
    onnx         ONNX file, run by onnxruntime: on a GPU by onnxruntime-gpu, else on the CPU
    pickled      whole module of torch.save; only with trust
    trust        pickle: what else would be refused may be unpickled, and can run any code; file_access: a graph may
                 read and write files as it runs
    files        further files that its code opens, whose content is part of what the member is
    features     name of the featuriser whose output the module is called with (None: with the dataset's inputs)
    featuriser   that featuriser itself, which config puts here
    inputs       inputs of the dataset the module takes, in its order; with features, what it takes of those, by their
                 names or numbers (None: all)
    preprocess   steps on the device, in order; inputs are float32, or float64 under that precision, unless their
                 first step is a cast
    precision    of the module and its inputs; outputs are float64 from there on under float64, else float32 (None: not
                 written, which is float32, and refuses a module whose own numbers are float64); tf32: float32, but for
                 the products of matrices and convolutions, whose factors a GPU rounds to 10 bits; auto: the fastest
                 that is near enough to float32, chosen when a run is planned
    select       which of several outputs: index of a tuple, key of a mapping, or attribute
    output       space of the module's output: logits, probabilities or values
    class_axis   axis of its output that has the classes, rows being 0 (None: the ensemble's)
    classes      the module's classes in its order, each with the ensemble's (None: the same, in the same order)
    weight       the member's weight under the rule `weighted`
    gradients    whether the module takes gradients in its forward: it runs in eager alone, not in inference mode
    passes       how often it is run with its dropout modules in train mode, and averaged (None: once, without dropout)
    bad_rows     pass: NaN and infinity in its inputs are the module's to handle, and only what it gives is judged
    rows         which rows it scores (None: all)
    views        in what views it sees each row, after the preprocessing (None: as the row is)
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    name: str
    factory: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: WeightsSpec | None = None
    torchscript: Path | None = None
    exported: Path | None = None
    onnx: Path | None = None
    pickled: Path | None = None
    trust: tuple[Trust, ...] | None = None
    files: tuple[Path, ...] = ()
    features: str | None = None
    featuriser: FeaturesSpec | None = None
    inputs: tuple[str, ...] | None = None
    preprocess: tuple[StepSpec, ...] = ()
    precision: Precision | None = None
    select: str | None = None
    output: Space = "logits"
    class_axis: int | None = None
    classes: dict[str, str] | None = None
    weight: float | None = None
    gradients: bool = False
    passes: PassesSpec | None = None
    bad_rows: MemberBadRows | None = None
    rows: RowsSpec | None = None
    views: ViewsSpec | None = None

    def __post_init__(self) -> None:
        if isinstance(self.weights, Path):
            object.__setattr__(self, "weights", WeightsSpec(path=self.weights))

    @property
    def source(self) -> SourceName:
        """Which of the sources is given."""
        return next(source for source in SOURCES if getattr(self, source) is not None)

    @property
    def unpickles(self) -> bool:
        """Whether what else would be refused may be unpickled."""
        return "pickle" in (self.trust or ())

    @property
    def computes_in(self) -> Precision:
        """The precision in which the module computes; where it is yet to be chosen, float32."""
        return "float32" if self.unsaid else self.precision or "float32"

    @property
    def unsaid(self) -> bool:
        """Whether the YAML does not say in which precision it computes."""
        return self.precision in (None, "auto")

    @property
    def dtype(self) -> str:
        """The dtype of the module's numbers and its inputs."""
        return "float32" if self.computes_in == "tf32" else self.computes_in

    @property
    def output_dtype(self) -> OutputDtype:
        """The dtype in which its outputs are kept until they are stored."""
        return "float64" if self.precision == "float64" else "float32"

    @property
    def front(self) -> MemberSpec:
        """What is called with the dataset's inputs, as a member: its featuriser, where it has one, else itself."""
        if self.featuriser is None:
            return self
        made = self.featuriser
        return MemberSpec(
            name=f"{self.features} (features)",
            factory=made.factory,
            arguments=made.arguments,
            weights=made.weights or WeightsSpec(),
            trust=made.trust,
            files=made.files,
            inputs=made.inputs,
            preprocess=made.preprocess,
            precision=made.precision,
        )

    @property
    def preparation(self) -> str:
        """What is the same for members whose rows are prepared alike, at a price; empty where nothing can be shared.

        Not of members whose own autograd or random numbers the preparation may be part of.
        """
        front = self.front
        calls = self.passes is not None and any(step.call is not None for step in self.preprocess)
        calls = calls or any(place.startswith("views") for place in self.functions)
        if self.gradients or calls or (self.featuriser is None and all(s.cast for s in self.preprocess)):
            return ""
        made_of = asdict(self.featuriser) if self.featuriser is not None else None
        steps = [asdict(step) for step in front.preprocess]
        return json.dumps([self.features, made_of, front.inputs, steps, front.output_dtype], default=str)

    @property
    def functions(self) -> dict[str, str]:
        """What of the YAML names a function on the way of its rows, by its place: `preprocess[0]` → import path."""
        steps = {f"preprocess[{i}]": step.call for i, step in enumerate(self.preprocess)}
        views = self.views.apply if self.views is not None else ()
        calls = {f"views[{i}]": view.call for i, view in enumerate(views) if not view.by_name}
        undos = {f"views[{i}].undo": view.undo for i, view in enumerate(views)}
        return {place: path for place, path in (steps | calls | undos).items() if path is not None}

    def first_step(self, name: str, *, first: bool) -> StepSpec | None:
        """Return the step by which an input is taken; None where no step does anything to it.

        first  whether it is the member's first input, which steps are applied to unless they name another
        """
        on_it = (
            step
            for step in self.preprocess
            if step.input == name or (step.input is None and (first or step.call is not None))
        )
        return next(on_it, None)

    @property
    def file(self) -> Path:
        """The file with the member's weights. Not of one whose factory loads them."""
        file = self.weights.path if self.weights is not None else getattr(self, self.source)
        assert isinstance(file, Path), "config refuses a member without"
        return file

    @property
    def loads_itself(self) -> bool:
        """Whether its factory loads the weights itself."""
        return self.weights is not None and self.weights.path is None


def prepared_together(members: Iterable[MemberSpec]) -> dict[str, str]:
    """Return what is the same for members that share what is computed before their networks, of those that do."""
    keys = {member.name: f"{member.preparation} {member.rows}" for member in members if member.preparation}
    return {name: key for name, key in keys.items() if list(keys.values()).count(key) > 1}
