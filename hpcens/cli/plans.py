"""Verbs before any device hour is spent: profile, plan, simulate, init."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from dataclasses import replace

from hpcens.cli.job import job_of
from hpcens.cli.terminal import show
from hpcens.errors import COMPLETE, UsageError


def profile(options: Namespace) -> int:
    from hpcens.launch.start import check_once
    from hpcens.planning.capacity import Capacity, profiled
    from hpcens.profiling.book import ProfileBook

    if options.list:
        show(profiled())
        return COMPLETE
    if options.clear:
        print(f"{ProfileBook.default().clear()} profiles are forgotten")
        return COMPLETE
    if not options.dataset:
        raise UsageError("no dataset is given", "hpcens profile DATASET.H5; or --list what was measured before")
    checked = check_once(replace(job_of(options), thorough=options.thorough))
    if Capacity(checked.job, checked.preflight).measure() == 0:
        print("all members were measured on this host's devices before")
    print("profiled; next: hpcens plan " + shlex.join(options.dataset))
    return COMPLETE


def plan(options: Namespace) -> int:
    from hpcens.launch.start import check_once
    from hpcens.planning.capacity import Capacity, PlanRequest

    checked = check_once(job_of(options))
    desk = Capacity(checked.job, checked.preflight)
    desk.measure()
    wish = PlanRequest(options.nodes, options.deadline, options.compare, options.output, options.html, options.json)
    show(desk.answer(wish, shaded=sys.stdout.isatty()))
    return COMPLETE


def simulate(options: Namespace) -> int:
    from hpcens.planning.capacity import simulated

    show(simulated(options.plan, options.rows, as_json=options.json))
    return COMPLETE


def init(options: Namespace) -> int:
    from hpcens.config import template

    try:
        with options.path.open("x") as file:
            file.write(template())
    except FileExistsError:
        raise UsageError(f"{options.path} exists", "give another name: hpcens init RUN.YAML") from None
    except OSError as error:
        raise UsageError(f"{options.path}: {error.strerror}", "give another name: hpcens init RUN.YAML") from None
    print(f"{options.path} is written; next: edit it, then hpcens plan DATASET.H5 --config {options.path}")
    return COMPLETE
