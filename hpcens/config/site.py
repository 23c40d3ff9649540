"""Site: what to ask Slurm for, from the profiles of the site, the run.yaml and the command line, in this order.

A profile is a YAML file with the one section `slurm:`. Later ones win, key by key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hpcens.config.checks import check_values, did_you_mean, explain
from hpcens.config.document import Page, compose, read
from hpcens.config.shorthands import expand_slurm
from hpcens.errors import UsageError
from hpcens.specs import SlurmSpec

# sbatch's own, which otherwise look like ours misspelt
_SBATCH = {
    *("cluster_constraint", "container", "cpus_per_gpu", "gpus_per_socket", "gpus_per_task", "nodefile", "nodelist"),
    *("ntasks_per_core", "ntasks_per_socket", "sockets_per_node", "threads_per_core", "time_min", "tmp"),
    "use_min_nodes",
}
_FIELDS = tuple(field.name for field in fields(SlurmSpec))


def profiles() -> tuple[Path, ...]:
    """Return where site profiles may lie: of the system, of the user, of the project (the working folder)."""
    return Path("/etc/hpcens/site.yaml"), Path.home() / ".config/hpcens/site.yaml", Path("hpcens.site.yaml")


def slurm_settings(spec: SlurmSpec, options: Sequence[str] = (), files: Iterable[Path] | None = None) -> SlurmSpec:
    """Return what is asked of Slurm in the end.

    spec     the `slurm:` section of the run.yaml
    options  options key=value of the command line; a key that is none of SlurmSpec is an argument of sbatch
    files    site profiles, the weakest first; default: `profiles()`
    Raises UsageError naming all that is wrong with one of them.
    """
    settings = SlurmSpec()
    for file in profiles() if files is None else files:
        if file.exists():
            settings = _over(settings, _profile(file))
    return _over(_over(settings, spec), _command_line(options))


def _over(below: SlurmSpec, above: SlurmSpec) -> SlurmSpec:
    stated = {name: value for name in _FIELDS if (value := getattr(above, name)) is not None}
    return replace(below, **stated | {"arguments": {**below.arguments, **above.arguments}})


def _profile(file: Path) -> SlurmSpec:
    page = Page(file)
    tree = compose(page, read(file))
    for key in tree.keys() - {"slurm"}:
        page.problem((key,), "unknown key; a site profile has the one section slurm:")
    return _section(page, tree.get("slurm") or {})


def _section(page: Page, section: Any) -> SlurmSpec:
    from pydantic import TypeAdapter, ValidationError

    spec = SlurmSpec()
    if isinstance(section, dict):
        expand_slurm(page, section)
    try:
        spec = TypeAdapter(SlurmSpec).validate_json(json.dumps(section), strict=True)
    except ValidationError as error:
        for flaw in error.errors(include_url=False, include_context=False):
            explain(page, flaw["type"], ("slurm", *flaw["loc"]), flaw["input"])
    check_values(page, {"slurm": section})
    if page.problems:
        raise page.error()
    return spec


def _command_line(options: Sequence[str]) -> SlurmSpec:
    section: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        key = name.lstrip("-").replace("-", "_")
        if not equals or not key:
            raise UsageError(f"--slurm {option}: is not key=value", "for example --slurm partition=gpu")
        if key in _FIELDS and key != "arguments":
            section[key] = _value(key, value)
        elif key not in _SBATCH and (meant := did_you_mean(key, _FIELDS)):
            raise UsageError(f"--slurm {option}: unknown key", meant)
        else:
            section.setdefault("arguments", {})[name.lstrip("-")] = value
    page = Page(Path("--slurm"))
    return _section(page, compose(page, json.dumps({"slurm": section}))["slurm"])


def _value(key: str, text: str) -> Any:
    whole: Mapping[str, Any] = {"setup": [text]}
    return whole.get(key, int(text) if text.isdecimal() else text)
