"""The precision of a member: whether it fits what else is said of it, and of where it runs."""

from __future__ import annotations

from typing import Any

from hpcens.config.document import Place
from hpcens.config.rule_checks import Parts
from hpcens.specs import NARROWER

_OF_CPUS = ("frozen", "frozen_channels_last", "openvino")


def check_precision(parts: Parts, place: Place, usable: dict[str, Any]) -> None:
    """Check a member's precision. usable: its keys that are not refused."""
    page, runtime = parts.page, parts.at("plan", "runtime")
    precision, place = usable.get("precision", "float32"), (*place, "precision")
    if "onnx" in usable and precision in (*NARROWER, "auto"):
        page.problem(place, "an ONNX file has its own; remove it, or export another file")
    if precision == "auto" and "passes" in usable:
        what = "auto holds a member against itself in float32, in which passes draw other numbers; write the precision"
        page.problem(place, what)
    if precision == "auto" and parts.at("calibration"):
        what = "auto is chosen anew for each run, and calibration was fitted in one precision; write that one"
        page.problem(place, what)
    if precision == "float64" and runtime == "openvino":
        what = "float64 cannot be computed by plan.runtime: openvino; write runtime: auto, or remove precision"
        page.problem(place, what)
    if precision == "tf32" and (what := _of_cpus(parts)):
        page.problem(place, f"tf32 is of GPUs, and {what}; write precision: float32, which a CPU computes")
    if precision == "tf32" and runtime in _OF_CPUS:
        page.problem(place, f"tf32 is of GPUs, and plan.runtime: {runtime} of CPUs; write runtime: auto")


def _of_cpus(parts: Parts) -> str:
    """Say that CPUs compute, alone or beside GPUs; empty where none does, as far as the YAML tells."""
    beside = " too" if parts.at("devices", "cuda") is not None else ""
    return "" if parts.at("devices", "cpu") is None else f"devices.cpu has members run on CPUs{beside}"


def check_tolerance(parts: Parts) -> None:
    """Check that the tolerance of precisions is of use."""
    place = ("plan", "precision_tolerance")
    if parts.at(*place) is not None and "auto" not in parts.of_members("precision").values():
        parts.page.problem(place, "is for members with precision: auto, and there are none; remove it")
