"""Verbs before any device hour is spent: profile, plan, simulate."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import replace

from hpcens.api.planned import measured
from hpcens.checks.members import taken
from hpcens.cli.job import job_of
from hpcens.cli.terminal import say, show
from hpcens.config import asked_of_slurm, find, load
from hpcens.errors import COMPLETE, UsageError
from hpcens.files import require_folder
from hpcens.launch.start import check_once, trials_of
from hpcens.planning import simulation
from hpcens.planning.capacity import PlanRequest
from hpcens.profiling import ProfileBook
from hpcens.reports.html import write_page
from hpcens.reports.plans import answer_lines, simulation_lines, taken_lines
from hpcens.reports.profiles import profile_lines
from hpcens.shell import counted, quoted
from hpcens.vocabulary import Plan


def profile(options: Namespace) -> int:
    """Measure members on this host's devices, or print or delete what is kept."""
    if options.list:
        show(profile_lines(ProfileBook.default(), _listed_members(options)))
        return COMPLETE
    if options.all:
        raise UsageError("--all is for --list", "hpcens profile --list --all")
    if options.clear:
        say(f"{counted(ProfileBook.default().clear(), 'profile is', 'profiles are')} forgotten")
        return COMPLETE
    if not options.dataset:
        raise UsageError("no dataset is given", "hpcens profile DATASET.H5; or --list what was measured before")
    _, missing = measured(check_once(replace(job_of(options), thorough=options.thorough)))
    if not missing:
        say("all members were measured on this host's devices before")
    say("profiled; next: hpcens plan " + " ".join(map(quoted, options.dataset)))
    return COMPLETE


def _listed_members(options: Namespace) -> tuple[str, ...] | None:
    """Return the names of the members whose figures are listed; None: of all, as where there is no configuration."""
    if options.all:
        return None
    try:
        path = find(options.config)
    except UsageError:
        return None
    return load(path).member_names


def plan(options: Namespace) -> int:
    """Print the plan that is asked for, and write the files that are wanted."""
    for path in filter(None, (options.output, options.html)):
        require_folder(path)
    job = job_of(options)
    checked = check_once(job, trials_of(asked_of_slurm(job.spec)))
    capacity, _ = measured(checked, optional=True)
    answer = capacity.answer(PlanRequest(options.nodes, options.deadline, options.compare))
    if answer.plan is not None and options.output:
        answer.plan.save(options.output)
    if answer.plan is not None and options.html:
        write_page(answer.plan, options.html)
    if answer.plan is not None and options.json:
        say(answer.plan.to_json())
    else:
        show(answer_lines(answer, options.deadline, shaded=sys.stdout.isatty()))
        show(taken_lines(taken(checked.job, checked.preflight)))
    return COMPLETE


def simulate(options: Namespace) -> int:
    """Run a stored plan in virtual time, over as many rows as it was made for or as are given."""
    stored = Plan.load(options.plan)
    if options.rows is not None:
        stored = replace(stored, rows=options.rows)
    simulated = simulation.simulate(stored)
    if options.json:
        say(simulated.to_json())
    else:
        show(simulation_lines(stored, simulated))
    return COMPLETE
