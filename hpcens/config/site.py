"""Site: what to ask Slurm for, from the profiles of the site, the run.yaml and the command line, in this order.

A profile is a YAML file with the one section `slurm:`. Later ones win, key by key.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hpcens.config.checks import check_values, did_you_mean, explain
from hpcens.config.document import Page, compose, read, shown
from hpcens.config.shorthands import expand_slurm
from hpcens.config.slurm_checks import check_slurm
from hpcens.errors import UsageError
from hpcens.shell import option
from hpcens.specs import RunSpec, SlurmSpec

# sbatch's own, which otherwise look like ours misspelt
_SBATCH = {
    *("cluster_constraint", "container", "cpus_per_gpu", "gpus_per_socket", "gpus_per_task", "nodefile", "nodelist"),
    *("ntasks_per_core", "ntasks_per_socket", "sockets_per_node", "threads_per_core", "time_min", "tmp"),
    "use_min_nodes",
}
# sbatch's own that take no value: on the command line `--slurm hold`, in a profile or the YAML `hold: true`
_FLAGS = {
    *("contiguous", "exclusive", "hold", "ignore_pbs", "overcommit", "oversubscribe", "reboot"),
    *("spread_job", "use_min_nodes"),
}
# sbatch's own that would not do what they say here → what does
_REFUSED = {
    "array": "one submit is one job: submit each dataset by a command of its own; hpcens list shows them, hpcens wait"
    " waits for all",
    "wait": "hpcens submit --wait; or hpcens wait RUN",
    "parsable": "hpcens submit --parsable",
    "test_only": "hpcens submit --dry-run",
    "wrap": "a command of your own belongs into a script: see slurm/hpcens.sbatch",
    "job_name": "jobs are told apart by their names; say it in a comment: slurm.arguments.comment",
    "no_requeue": "slurm.requeues: 0",
    "signal": "the warning before the limit is slurm.drain_seconds",
    "ntasks": "ranks are counted by node: slurm.tasks_per_node",
    "output": "hpcens logs RUN shows what the ranks write",
    "error": "hpcens logs RUN shows what the ranks write",
}
_PROJECT = "hpcens.site.yaml"
_FIELDS = tuple(field.name for field in fields(SlurmSpec))


def site_profiles(project: Path) -> tuple[Path, ...]:
    """Return where site profiles may lie: of the system, of the user, of the project.

    project  folder of the run.yaml. What lies in another working folder may be anybody's, and could name commands for
             the job to run: it is not read, and a note says so.
    """
    elsewhere = Path.cwd() / _PROJECT
    if elsewhere.exists() and elsewhere.resolve() != (project / _PROJECT).resolve():
        what = (
            f"hpcens: note: {_PROJECT} in the working folder is not read, the hpcens.yaml lies in {shown(str(project))}"
        )
        print(f"{what}: put it beside that, or at ~/.config/hpcens/site.yaml", file=sys.stderr, flush=True)
    return Path("/etc/hpcens/site.yaml"), Path.home() / ".config/hpcens/site.yaml", project / _PROJECT


def asked_of_slurm(spec: RunSpec, options: Sequence[str] = ()) -> SlurmSpec:
    """Return what is asked of Slurm by site profiles, the run.yaml and the command line, as `slurm_settings` does."""
    return slurm_settings(spec.slurm, options, site_profiles(spec.search_path))


def slurm_settings(spec: SlurmSpec, options: Sequence[str] = (), files: Iterable[Path] = ()) -> SlurmSpec:
    """Return what is asked of Slurm in the end.

    spec     the `slurm:` section of the run.yaml
    options  options key=value of the command line; a key that is none of SlurmSpec is an argument of sbatch, without a
             value a flag of its
    files    site profiles, the weakest first, see `site_profiles`
    Raises UsageError naming all that is wrong with one of them.
    """
    settings = SlurmSpec()
    for file in files:
        if file.exists():
            settings = _over(settings, _profile(file))
    settings = _over(_over(settings, spec), _command_line(options))
    arguments = dict(_argument(*item) for item in settings.arguments.items())
    meant = {name: value for name, value in arguments.items() if value is not False}
    return replace(settings, arguments=meant, srun={k: v for k, v in settings.srun.items() if v is not False})


def _argument(name: str, value: Any) -> tuple[str, Any]:
    """Return an argument of sbatch as it is handed on; a flag is True, or False where it is not meant.

    Raises UsageError where nothing can be meant.
    """
    key = name.replace("-", "_")
    if refused := next((full for full in _REFUSED if full.startswith(key)), ""):  # sbatch takes a beginning for it
        raise UsageError(f"slurm: {name} cannot be asked for", _REFUSED[refused])
    if key in _FLAGS and str(value).lower() in ("", "true", "false"):
        return name, str(value).lower() != "false"
    if value == "":
        raise UsageError(
            f"slurm: {name} has no value",
            f"{option('slurm', {name: 'VALUE'})}, or {option('slurm', {name: True})} where it takes none",
        )
    return name, value


def _over(below: SlurmSpec, above: SlurmSpec) -> SlurmSpec:
    stated = {name: value for name in _FIELDS if (value := getattr(above, name)) is not None}
    merged = {"arguments": {**below.arguments, **above.arguments}, "srun": {**below.srun, **above.srun}}
    return replace(below, **stated | merged)


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
    check_slurm(page, section)
    if page.problems:
        raise page.error()
    return spec


def _command_line(options: Sequence[str]) -> SlurmSpec:
    section: dict[str, Any] = {}
    for word in options:
        name, equals, value = word.partition("=")
        written = option("slurm", {name: value if equals else True})
        key = name.lstrip("-").replace("-", "_")
        if not key or (not equals and key in _FIELDS):
            raise UsageError(f"{written}: is not key=value", f"for example {option('slurm', {'partition': 'gpu'})}")
        if name.lstrip("-").startswith("srun."):
            section.setdefault("srun", {})[name.lstrip("-").removeprefix("srun.")] = _flag(value) if equals else True
        elif key in ("arguments", "srun"):
            kind, each = ("srun", "srun.") if key == "srun" else ("sbatch", "")
            raise UsageError(
                f"{written}: name one option of {kind}", f"for example {option('slurm', {f'{each}NAME': 'VALUE'})}"
            )
        elif key in _FIELDS:
            section[key] = _value(key, value)
        elif key not in _SBATCH | _FLAGS | _REFUSED.keys() and (meant := did_you_mean(key, _FIELDS)):
            raise UsageError(f"{written}: unknown key", meant)
        else:
            section.setdefault("arguments", {})[name.lstrip("-")] = value if equals else True
    page = Page(Path(option("slurm")))
    return _section(page, compose(page, json.dumps({"slurm": section}))["slurm"])


def _flag(text: str) -> Any:
    return {"true": True, "false": False}.get(text.lower(), text)


def _value(key: str, text: str) -> Any:
    whole: Mapping[str, Any] = {"setup": [text]}
    return whole.get(key, int(text) if text.isdecimal() else text)
