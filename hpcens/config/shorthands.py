"""Shorthands: what a user may write in short, written out, so that types can be checked."""

from __future__ import annotations

import re
from typing import Any

from hpcens.config.calibration import expand_calibration
from hpcens.config.cascade_checks import expand_cascade
from hpcens.config.checks import explain
from hpcens.config.document import Page, Place, shown
from hpcens.config.feature_checks import expand_features
from hpcens.config.keys import KEYS, pattern
from hpcens.config.member_checks import expand_member, read_names

_MOST_CLASSES = 100_000
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?(?:[eE]\+?\d{1,2})?) *([A-Za-z]*)", re.ASCII)
_UNITS = {"": 1, "B": 1} | {p + i + "B": (1024 if i else 1000) ** n for n, p in enumerate("KMGT", 1) for i in ("", "i")}


def expand(page: Page, tree: dict[str, Any]) -> None:
    """Write the shorthands of a document out, in place; a section left empty is as good as absent."""
    for field in tree.keys() & {"search_path", "assumed"}:  # of RunSpec, but not the user's to set
        explain(page, "unexpected_keyword_argument", (field,), tree.pop(field))
    for key in [key for key, value in tree.items() if value is None and key in KEYS]:
        del tree[key]
    for key, field in (("rule", "name"), ("dataset", "input"), ("output", "path")):
        _expand_text(tree, key, field)
    if isinstance(dataset := tree.get("dataset"), dict):
        _expand_text(dataset, "select", "path")
        if isinstance(dataset.get("trust"), str):
            dataset["trust"] = [dataset["trust"]]
        if isinstance(inputs := dataset.get("inputs"), dict):
            for name in inputs:
                _expand_text(inputs, name, "path")
                if isinstance(wanted := inputs[name], dict) and type(wanted.get("decode")) is bool:
                    wanted["decode"] = str(wanted["decode"]).lower()
    if isinstance(slurm := tree.get("slurm"), dict):
        expand_slurm(page, slurm)
    if isinstance(file := tree.get("classes"), str):
        tree["classes"] = read_names(page, ("classes",), file)
    if type(number := tree.get("classes")) is int:
        if 2 <= number <= _MOST_CLASSES:
            tree["classes"] = [str(i) for i in range(number)]
        else:
            page.refuse(("classes",), f"{number} is not 2 to {_MOST_CLASSES}; for example classes: 10")
    expand_features(page, tree)
    if "calibration" in tree:
        expand_calibration(page, tree)
    if "cascade" in tree:
        expand_cascade(page, tree)
    output = tree.get("output")
    if isinstance(output, dict) and isinstance(output.get("compression"), str):
        output["compression"] = {"name": output["compression"]}
    keep = output.get("keep") if isinstance(output, dict) else None
    by = keep.get("by") if isinstance(keep, dict) else None
    if isinstance(by, dict) and type(by.get("class")) is int:
        by["class"] = str(by["class"])
    for i, member in enumerate(members if isinstance(members := tree.get("members"), list) else ()):
        if isinstance(member, dict):
            if "featuriser" in member:  # of MemberSpec, but not the user's to set
                explain(page, "unexpected_keyword_argument", ("members", i, "featuriser"), member.pop("featuriser"))
            expand_member(page, ("members", i), member)
            if tree.get("task") == "regression" and member.get("output") is None:
                member["output"] = "values"
    if isinstance(devices := tree.get("devices"), dict):
        for kind in devices.keys() & {"cpu", "cuda"}:
            _expand_device(page, devices, kind)
    for name, nodes in tree["cluster"].items() if isinstance(tree.get("cluster"), dict) else ():
        if isinstance(nodes, dict):
            _expand_memory(page, nodes, ("cluster", name))


def _expand_text(tree: dict[str, Any], key: str, field: str) -> None:
    if isinstance(tree.get(key), str):
        tree[key] = {field: tree[key]}


def _expand_device(page: Page, devices: dict[str, Any], kind: str) -> None:
    place = ("devices", kind)
    device = devices[kind]
    if device is None and place not in page.refused:
        page.refuse(place, f"is empty; write for example {kind}: {KEYS[pattern(place)].example}, or remove the key")
    if type(device) is int or (kind, device) == ("cuda", "all"):
        devices[kind] = device = {"count": device}
    if not isinstance(device, dict):
        return
    if kind == "cuda" and device.get("count") == "all":
        device["count"] = None
    _expand_memory(page, device, place)


def expand_slurm(page: Page, slurm: dict[str, Any]) -> None:
    """Write the shorthands of a `slurm:` section out, in place."""
    for key in [key for key, value in slurm.items() if value is None]:
        del slurm[key]
    _expand_memory(page, slurm, ("slurm",))
    for key in ("time", "account", "partition", "qos", "constraint", "mpi"):
        if type(slurm.get(key)) is int:  # 90 minutes, or an account that is a number
            slurm[key] = str(slurm[key])
    if isinstance(options := slurm.get("srun"), dict):  # srun's own have dashes only
        slurm["srun"] = {name.replace("_", "-"): value for name, value in options.items()}
        if len(slurm["srun"]) < len(options):
            page.refuse(("slurm", "srun"), "names an option twice, with - and with _; keep one")
    if isinstance(slurm.get("setup"), str):
        slurm["setup"] = slurm["setup"].splitlines()


def _expand_memory(page: Page, parent: dict[str, Any], place: Place) -> None:
    memory = parent.get("memory")
    if isinstance(memory, str | float):
        parent["memory"] = _bytes(memory)
        if parent["memory"] is None:
            page.refuse((*place, "memory"), f"{shown(memory)} is no amount of memory; for example 4GiB or 500 MB")


def _bytes(memory: str | float) -> int | None:
    """Return an amount of memory in bytes; None where it is none."""
    amount = _SIZE.fullmatch(str(memory).strip())
    unit = _UNITS.get(amount[2][:1].upper() + amount[2][1:]) if amount else None
    size = float(amount[1]) * unit if amount and unit else 0.0
    whole = size.is_integer() or unit != 1  # 1.5 bytes are a forgotten unit
    return round(size) if whole and 1 <= size < 2**63 else None
