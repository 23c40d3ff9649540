"""What a user asks for: the content of a run.yaml as frozen data, paths made absolute.

Only shapes and defaults live here; reading and checking a YAML file is `config`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from hpcens.specs.calibration import CalibratedKind as CalibratedKind
from hpcens.specs.calibration import Calibration as Calibration
from hpcens.specs.cascade import ACCEPTED as ACCEPTED
from hpcens.specs.cascade import OF_SPREAD as OF_SPREAD
from hpcens.specs.cascade import LimitSpec as LimitSpec
from hpcens.specs.cascade import StageSpec as StageSpec
from hpcens.specs.cascade import described_cascade as described_cascade
from hpcens.specs.cascade import sets_in_stages as sets_in_stages
from hpcens.specs.classes import check_shapes as check_shapes
from hpcens.specs.classes import class_faults as class_faults
from hpcens.specs.classes import class_rounds as class_rounds
from hpcens.specs.classes import merged_classes as merged_classes
from hpcens.specs.dataset import DatasetSpec as DatasetSpec
from hpcens.specs.dataset import DatasetTrust as DatasetTrust
from hpcens.specs.dataset import Decode as Decode
from hpcens.specs.dataset import InputSpec as InputSpec
from hpcens.specs.dataset import SelectSpec as SelectSpec
from hpcens.specs.devices import CpuSpec as CpuSpec
from hpcens.specs.devices import CudaSpec as CudaSpec
from hpcens.specs.devices import DevicesSpec as DevicesSpec
from hpcens.specs.devices import NodesSpec as NodesSpec
from hpcens.specs.features import FeaturesSpec as FeaturesSpec
from hpcens.specs.keep import KeepSpec as KeepSpec
from hpcens.specs.member import FILES as FILES
from hpcens.specs.member import LAST as LAST
from hpcens.specs.member import NARROWER as NARROWER
from hpcens.specs.member import NOT_OF as NOT_OF
from hpcens.specs.member import SOURCES as SOURCES
from hpcens.specs.member import STRICT
from hpcens.specs.member import TURNING as TURNING
from hpcens.specs.member import UNDONE_BY as UNDONE_BY
from hpcens.specs.member import MemberBadRows as MemberBadRows
from hpcens.specs.member import MemberSpec as MemberSpec
from hpcens.specs.member import OutputDtype as OutputDtype
from hpcens.specs.member import PassesSpec as PassesSpec
from hpcens.specs.member import Precision as Precision
from hpcens.specs.member import RowsSpec as RowsSpec
from hpcens.specs.member import Space as Space
from hpcens.specs.member import Task as Task
from hpcens.specs.member import Trust as Trust
from hpcens.specs.member import ViewName as ViewName
from hpcens.specs.member import ViewSpec as ViewSpec
from hpcens.specs.member import ViewsSpec as ViewsSpec
from hpcens.specs.member import WeightsSpec as WeightsSpec
from hpcens.specs.member import described_rows as described_rows
from hpcens.specs.member import prepared_together as prepared_together
from hpcens.specs.rule import COMBINABLE as COMBINABLE
from hpcens.specs.rule import NORMALIZED as NORMALIZED
from hpcens.specs.rule import RULE_SPACES as RULE_SPACES
from hpcens.specs.rule import RuleName as RuleName
from hpcens.specs.rule import RuleSpec as RuleSpec
from hpcens.specs.slurm import CheckMembers as CheckMembers
from hpcens.specs.slurm import SlurmSpec as SlurmSpec
from hpcens.specs.steps import STEPS as STEPS
from hpcens.specs.steps import CastName as CastName
from hpcens.specs.steps import NormalizeSpec as NormalizeSpec
from hpcens.specs.steps import ResizeMode as ResizeMode
from hpcens.specs.steps import ResizeSpec as ResizeSpec
from hpcens.specs.steps import StepSpec as StepSpec

PlannerName = Literal["optimal", "greedy", "worst-fit"]
RuntimeName = Literal[
    "auto",
    "eager",
    "channels_last",
    "frozen",
    "frozen_channels_last",
    "openvino",
    "compiled",
    "cuda_graphs",
    "channels_last_cuda_graphs",
    "compiled_cuda_graphs",
    "stacked",
    "tensorrt",
]
OutputName = Literal[
    "prediction",
    "label",
    "top-K",
    "members",
    "variance",
    "entropy",
    "expected_entropy",
    "mutual_information",
    "disagreement",
    "set",
    "interval",
]
DtypeName = Literal["float32", "float16", "uint8", "float64"]
BadRows = Literal["fail", "mask"]
CompressionName = Literal["gzip", "lzf", "zstd", "blosc-zstd", "blosc-lz4"]

OF_CLASSES = frozenset({"label", "top-K", "entropy", "expected_entropy", "mutual_information", "disagreement", "set"})
"""Outputs that members which give values do not have."""

OF_ENTROPY = ("entropy", "expected_entropy", "mutual_information")
"""Outputs that are of entropies: of members with passes, over all passes."""

NOT_MULTILABEL = frozenset({"vote", "geometric", "top-K", "disagreement", "set"})
"""Rules and outputs that choose between classes: labels that do not exclude one another do not have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """Which planner computes the allocation matrix, and what it may choose from.

    batch_sizes  None: by the family of the device, see `profiling.sizes`
    runtime      auto: the fastest that agrees with eager on rows of the dataset; else this one for every member
    tolerance    by how much a runtime may differ from eager, and a member from itself when it is called again: in
                 probabilities, else as a part of a value's standard deviation over rows
    precision_tolerance  by how much a member of `precision: auto` may differ from itself in float32, likewise
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    planner: PlannerName = "optimal"
    batch_sizes: tuple[int, ...] | None = None
    runtime: RuntimeName = "auto"
    tolerance: float = 1e-4
    precision_tolerance: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSpec:
    """How the finished file is compressed; level None: the filter's own default."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    name: CompressionName
    level: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """Where the result goes (None: named after the dataset) and what it holds.

    folder       of results that are named after their datasets, as those of many files are; None: the working folder
    datasets     OutputNames, with a number for the K of top-K
    dtype        dtype of the prediction, the top values and the members' outputs; uint8 is for probabilities, × 255;
                 uncertainties are float32, under float64 they are float64 too
    compression  compression of the finished file, which is then a copy (None: none)
    keep         rows that it keeps (None: all)
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    path: Path | None = None
    folder: Path | None = None
    datasets: tuple[str, ...] = ("prediction", "label")
    dtype: DtypeName = "float32"
    compression: CompressionSpec | None = None
    keep: KeepSpec | None = None

    @property
    def top(self) -> int | None:
        """The K of top-K, None where it is not asked for."""
        return next((int(name[4:]) for name in self.datasets if name.startswith("top-")), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything a run needs to know but the dataset's path: one run.yaml, resolved.

    members        the ensemble, in the order in which outputs are stacked
    features       featurisers by name, whose output members may be called with
    classes        class names, in the order of the members' axis of classes
    class_axis     axis of the classes, in the members' outputs and in the result, rows being 0 (None: see `layout`)
    task           what the members' outputs are (None: by each member's `output`)
    assumed        the YAML says nowhere what the outputs are: then two values a row or more are refused
    calibration    what was fitted to the ensemble against labels, and is applied to what the rule gives
    cascade        stages of members, of which a later one scores what the earlier ones have not accepted (empty: all
                   members score at once)
    cluster        kinds of node by name, to plan for before any is asked for
    search_path    directory from which factories are imported (that of the YAML file)
    bad_rows       rows with NaN or infinity, or on which preprocessing raises, end the run, or are masked and counted
    fsync_seconds  at most this long lies between a segment's write and its being durable
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    members: tuple[MemberSpec, ...]
    dataset: DatasetSpec = field(default_factory=DatasetSpec)
    features: dict[str, FeaturesSpec] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    class_axis: int | None = None
    task: Task | None = None
    assumed: bool = False
    rule: RuleSpec = field(default_factory=RuleSpec)
    calibration: Calibration | None = None
    cascade: tuple[StageSpec, ...] = ()
    devices: DevicesSpec = field(default_factory=DevicesSpec)
    cluster: dict[str, NodesSpec] = field(default_factory=dict)
    plan: PlanSpec = field(default_factory=PlanSpec)
    output: OutputSpec = field(default_factory=OutputSpec)
    slurm: SlurmSpec = field(default_factory=SlurmSpec)
    bad_rows: BadRows = "fail"
    fsync_seconds: float = 2.0
    search_path: Path = Path()

    @property
    def member_names(self) -> tuple[str, ...]:
        """Names of the members, in the order of the ensemble."""
        return tuple(member.name for member in self.members)

    @property
    def routed(self) -> bool:
        """Whether some member's `rows` leave rows out."""
        return any(member.rows is not None for member in self.members)

    @property
    def partial(self) -> bool:
        """Whether members may lack an output for a row: by their `rows`, or behind a cascade."""
        return self.routed or bool(self.cascade)

    def sets(self, routed: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
        """Return the sets of members from which rows may be combined; () where it is always all.

        routed  those that rows have by members' `rows`; empty where all members score all rows
        """
        routed = tuple(routed)
        return sets_in_stages(self.cascade, routed or (self.member_names,)) if self.cascade else routed

    def stage_of(self, member: str) -> int:
        """Return the stage of the cascade in which a member scores, from 0; without a cascade 0."""
        return next((n for n, stage in enumerate(self.cascade) if member in stage.members), 0)

    @property
    def combined_dtype(self) -> OutputDtype:
        """The dtype to which the rule rounds: float64 where a member gives it or the result holds it, else float32."""
        dtypes = {self.output.dtype, *(member.output_dtype for member in self.members)}
        return "float64" if "float64" in dtypes else "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One dataset to score under one RunSpec: what a run directory was made for.

    datasets  the HDF5 files, in the order of their rows
    output    the finished result
    limit     score only this many first rows of those selected (None: all)
    plan      a stored plan whose numerics (and matrix, on the same devices) are used
    trace     file for a timeline of all ranks (None: none)
    thorough  measure members in every runtime, whether or not preparing it pays for this dataset
    whole     the result that this one is a part of (None: of none)
    segments  the part: its first segment, and the one after its last (None: all)
    """

    datasets: tuple[Path, ...]
    output: Path
    spec: RunSpec
    limit: int | None = None
    plan: Path | None = None
    trace: Path | None = None
    thorough: bool = False
    whole: Path | None = None
    segments: tuple[int, int] | None = None
