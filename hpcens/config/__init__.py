"""Read a run.yaml into a RunSpec: once, at the edge, reporting every error with its line, its place and a remedy.

text ─page─► plain data ─expand─► shorthands written out ─pydantic─► RunSpec ─checks─► what types cannot say
pydantic and yaml load only when a file does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hpcens.config.calibration import check_calibration
from hpcens.config.checks import check_ensemble, check_values, explain
from hpcens.config.document import Page, compose, read
from hpcens.config.feature_checks import featured, with_paths
from hpcens.config.rule_checks import Parts
from hpcens.config.seats import remember
from hpcens.config.shorthands import expand
from hpcens.config.site import asked_of_slurm as asked_of_slurm
from hpcens.config.site import slurm_settings as slurm_settings
from hpcens.config.slurm_checks import check_slurm
from hpcens.config.stored import of_today
from hpcens.errors import UsageError
from hpcens.files import MALFORMED
from hpcens.shell import option
from hpcens.specs import FILES, Job, MemberSpec, RunSpec, Space

if TYPE_CHECKING:
    from pydantic import TypeAdapter

RESULT_SUFFIX = ".predictions.h5"
# of a member, what says what its output means
_MEANING = ("output", "classes")


def load(path: Path) -> RunSpec:
    """Read the RunSpec of a YAML file; its relative paths are taken from the file's own folder.

    Raises UsageError naming all that is wrong at once, a line each: `run.yaml:12: members[2].wieghts: unknown key; …`.
    """
    page = Page(path)
    spec = checked(page, compose(page, read(path)), Path(os.path.abspath(path)).parent)
    remember(path, page.lines, spec)
    return spec


def load_mapping(mapping: Mapping[str, Any], folder: Path) -> RunSpec:
    """Read the RunSpec that Python's own data stand for, as those of a YAML file would.

    mapping  keys and values of a configuration; paths, tuples and numbers of numpy are taken too
    folder   where its relative paths start
    Raises UsageError naming all that is wrong at once, a line each: `configuration: members[2].wieghts: unknown key`.
    """
    page = Page(Path("configuration"), numbered=False, folder=folder)
    try:
        text = json.dumps(mapping, default=_plain, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "write numbers, text, lists and mappings, as YAML has them"
        raise UsageError(f"configuration: {error}", remedy) from None
    return checked(page, compose(page, text), folder)


def _plain(value: object) -> Any:
    """Return as JSON has it what only Python has: a path, a number of numpy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(item := getattr(value, "item", None)) and not getattr(value, "shape", None):
        return item()
    raise TypeError(f"a value is of the type {type(value).__name__}, which no YAML file holds")


def checked(page: Page, tree: dict[str, Any], folder: Path) -> RunSpec:
    """Return the RunSpec of a document. Raises UsageError naming all that is wrong.

    page    the document's, for its lines and its problems
    tree    it as plain data; its shorthands are written out in place
    folder  where its relative paths start
    """
    from pydantic import ValidationError

    expand(page, tree)
    try:
        # Through JSON, because only there strict types still let a mapping be a dataclass and a list a tuple.
        spec: RunSpec = _adapter("RunSpec").validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        for flaw in error.errors(include_url=False, include_context=False):
            explain(page, flaw["type"], flaw["loc"], flaw["input"])
    check_values(page, tree)
    check_slurm(page, tree.get("slurm"))
    check_ensemble(page, tree)
    parts = Parts(page, tree)
    check_calibration(parts)
    if page.problems:
        raise page.error()
    output, calibration = spec.output, spec.calibration
    if "datasets" not in tree.get("output", {}):
        if all(member.output == "values" for member in spec.members):
            output = replace(output, datasets=("prediction",))  # members that do not classify have no label
        if calibration is not None and calibration.covering:
            output = replace(output, datasets=(*output.datasets, calibration.covering))
    if calibration is not None:
        calibration = replace(calibration, path=folder / os.path.expanduser(calibration.path))
    if "dtype" not in tree.get("output", {}) and any(member.precision == "float64" for member in spec.members):
        output = replace(output, dtype="float64")
    if output.path is not None:
        output = replace(output, path=folder / os.path.expanduser(output.path))
    if output.folder is not None:
        output = replace(output, folder=folder / os.path.expanduser(output.folder))
    means = (tree.get("task"), tree.get("classes"), *(m.get(key) for m in tree["members"] for key in _MEANING))
    rule, sizes = spec.rule, spec.plan.batch_sizes
    if rule.weights is not None:
        rule = replace(rule, weights=folder / os.path.expanduser(rule.weights))
    features = {name: with_paths(made, folder) for name, made in spec.features.items()}
    return replace(
        spec,
        rule=rule,
        features=features,
        calibration=calibration,
        members=tuple(
            featured(_with_space(_absolute(folder, member), parts.space), features) for member in spec.members
        ),
        cascade=tuple(replace(s, members=tuple(sorted(s.members, key=spec.member_names.index))) for s in spec.cascade),
        plan=replace(spec.plan, batch_sizes=sizes and tuple(sorted(sizes))),
        output=output,
        assumed=all(value is None for value in means),
        search_path=folder,
    )


def _absolute(folder: Path, member: MemberSpec) -> MemberSpec:
    """Return the member with its files' paths made absolute."""
    files = {key: getattr(member, key) for key in FILES if key != "weights"}
    weights = member.weights
    if weights is not None and weights.path is not None:
        weights = replace(weights, path=folder / os.path.expanduser(weights.path))
    absolute = {k: folder / os.path.expanduser(file) for k, file in files.items() if file is not None}
    further = tuple(folder / os.path.expanduser(file) for file in member.files)
    return replace(member, **absolute, weights=weights, files=further)


def _with_space(member: MemberSpec, space: Space) -> MemberSpec:
    """Return the member with the space written out of the mean over its views: the rule's unless it is said."""
    if member.views is None or member.views.space is not None:
        return member
    return replace(member, views=replace(member.views, space=space))


Stored = TypeVar("Stored", RunSpec, Job)


def spec_to_json(spec: RunSpec) -> str:
    """Write a RunSpec as one line of JSON, from which spec_from_json makes an equal one."""
    return json.dumps(asdict(spec), default=os.fspath)


def spec_from_json(text: str) -> RunSpec:
    """Read a stored RunSpec. Raises UsageError where the text is none."""
    return _from_json(RunSpec, text)


def job_to_json(job: Job) -> str:
    """Write a Job as one line of JSON, from which job_from_json makes an equal one."""
    return json.dumps(asdict(job), default=os.fspath)


def job_from_json(text: str) -> Job:
    """Read a stored Job. Raises UsageError where the text is none."""
    return _from_json(Job, text)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    """Return what reads a RunSpec, or a Job: making it takes longer than a hundred readings, and worlds read many."""
    from pydantic import TypeAdapter

    kind: Any = {"RunSpec": RunSpec, "Job": Job}[name]
    return TypeAdapter(kind)


def _from_json(kind: type[Stored], text: str) -> Stored:
    try:
        # Not validate_json: a path may hold bytes that are not UTF-8, which only Python's own JSON carries.
        tree = json.loads(text)
        tree = tree | {"spec": of_today(tree["spec"])} if kind is Job else of_today(tree)
        stored: Stored = _adapter(kind.__name__).validate_python(tree)
    except MALFORMED as error:
        raise UsageError(f"a stored {kind.__name__} cannot be read: {error}", "start a new run") from None
    return stored


def find(config: Path | None) -> Path:
    """Return the configuration to use: the one that is given, else ./hpcens.yaml, else $HPCENS_CONFIG.

    Raises UsageError where none of the three is given.
    """
    if config is not None:
        return config
    if (local := Path("hpcens.yaml")).exists():
        return local
    if named := os.environ.get("HPCENS_CONFIG"):
        return Path(named)
    raise UsageError(
        f"no configuration: {option('config')} is not given, ./hpcens.yaml does not exist, $HPCENS_CONFIG is not set",
        "write one with hpcens init, or name one in any of these three places",
    )


def default_output(datasets: Sequence[Path], limit: int | None) -> Path:
    """Return where the result goes unless the configuration says: the working folder, named after the first dataset.

    limit  number of rows that are scored; None: all
    """
    more = "" if len(datasets) == 1 else f".and-{len(datasets) - 1}-more"
    first = "" if limit is None else f".first-{limit}"
    return Path.cwd() / f"{datasets[0].stem}{more}{first}{RESULT_SUFFIX}"


def template() -> str:
    """Return a commented run.yaml with every key, for `hpcens init`."""
    from importlib import resources

    return resources.files("hpcens.config").joinpath("template.yaml").read_text("utf-8")
