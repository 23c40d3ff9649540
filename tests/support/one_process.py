"""Whole runs in one process: real members, rule, store and file, in a world of virtual time instead of MPI."""

from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

from hpcens.checks.member_trial import ROWS, try_member
from hpcens.checks.preflight import check, is_complete
from hpcens.checks.trials import TrialBook
from hpcens.combining import tried_combiner
from hpcens.config import load
from hpcens.dataset.inspection import facts_of
from hpcens.dataset.source import Source
from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.members import load as load_member
from hpcens.members.stacked import load_stacked
from hpcens.planning.numerics import fingerprint_under, fixed_numerics, with_precisions
from hpcens.planning.phases import Assignment, phases_of
from hpcens.result.decision import Decision
from hpcens.result.earlier import require_same_axis
from hpcens.result.fingerprint import torch_version
from hpcens.result.outputs import pass_entropies
from hpcens.result.scored import scored_form
from hpcens.roles.dispatch import Shares
from hpcens.roles.rank_roles import RankRoles
from hpcens.runs import RunDirectory
from hpcens.scoring.division import Division
from hpcens.scoring.writer import Writer
from hpcens.specs import Job
from hpcens.specs.classes import check_shapes
from hpcens.units import Unit
from hpcens.vocabulary import NO_SEGMENTS, Device, Hosting, MemberNumerics, Numerics, Plan, Segmentation
from hpcens.vocabulary.groups import STACKED, group_by_member, group_name, units_of
from hpcens.worlds.assembling import assembled
from support.results import begin
from support.wiring import Wiring

SEGMENT, BATCH = 4, 2
DEVICES = (2, 3)


def run(config, dataset, output, *, phases=(), writers=1, most=None):
    """Score a dataset, as `hpcens run` does; return the names of the members that were scored.

    phases  names of members, a group a phase; () for all at once
    most    end after so many segments, those of all phases counted; None: go on to the result
    """
    job = Job(datasets=(dataset,), output=output, spec=load(config))
    with patch("hpcens.checks.preflight.inspecting", _inspecting):
        preflight = check(job, TrialBook(output.with_suffix(".trials")))
    if is_complete(job, preflight):
        return ()
    return score_start(job, preflight, phases=phases, writers=writers, most=most)


def run_in_blocks(config, dataset, output):
    """Score a dataset block by block, the last first, and put the blocks together, as worlds that share it do."""
    job = Job(datasets=(dataset,), output=output, spec=load(config))
    with patch("hpcens.checks.preflight.inspecting", _inspecting):
        preflight = check(job, TrialBook(output.with_suffix(".trials")))
    score_start(replace(job, segments=NO_SEGMENTS), preflight)
    whole = RunDirectory.of(output)
    segments = len(Segmentation(preflight.facts.rows, SEGMENT))
    spans = (segments // 2 + 1, segments), (1, segments // 2 + 1), (0, 1)
    blocks = [Unit(f"{n:016x}", "", str(whole.blocks / f"{n}.h5"), 0, span, 1) for n, span in enumerate(spans)]
    for block in blocks:
        part = RunDirectory.of(Path(block.output))
        part.path.mkdir(parents=True)
        part.adopt(whole.fixed_fingerprint)
        score_start(replace(job, output=Path(block.output), whole=output, segments=block.segments), preflight)
    *taken, verdict = assembled(job, preflight, begin(whole), blocks)
    assert not any(each.damaged for each in taken)
    return verdict


def score_start(job, preflight, *, phases=(), writers=1, most=None):
    """Score what was checked; parameters and what is returned as those of `run`."""
    names = tuple(member.name for member in job.spec.members if member.name not in preflight.stored)
    fixed = fixed_numerics(job, preflight)
    how = MemberNumerics(BATCH, "eager")
    if job.spec.plan.runtime == STACKED and len(names) > 1:
        how = MemberNumerics(BATCH, STACKED, group=group_name(names))
    members = dict.fromkeys(names, how) | dict(fixed.members if fixed else {})
    plan = Plan(
        planner="optimal",
        devices=(),
        hostings=(),
        numerics=with_precisions(Numerics(SEGMENT, members, ("cpu",), torch_version()), job.spec.members),
        phases=phases,
        window=4,
        read_ahead=3,
        **dict(rows=preflight.facts.rows, row_bytes=8, output_bytes=8, differences={}, loading=0),
        **dict(throughput=1, bound=1, limit=""),
    )
    with closing(Source(job.datasets, job.spec.dataset, job.limit)) as source:
        _start(job, preflight, names, plan, source, writers, most)
    return names


@contextmanager
def _inspecting(paths, spec, limit, rows=None):
    """Look at a dataset in this process, which none of these can crash."""
    yield partial(facts_of, paths, spec, limit, rows)


def _start(job, preflight, names, plan, source, writers, most):
    """From the trial of the members to the result, or to the end of what is to be scored."""
    shape = _tried(job, preflight, names, source)
    tree = fingerprint_under(plan.numerics, job, preflight)
    directory = RunDirectory.of(job.output)
    directory.path.mkdir(exist_ok=True)
    epoch = begin(directory)
    directory.fix_fingerprint(tree, epoch)
    found = dict(facts=preflight.facts, digests=preflight.digests, space=preflight.space)
    form = scored_form(job, shape=shape, tree=tree, plan=plan, library="", **found)
    if job.segments == NO_SEGMENTS:
        device, speeds = Device("here/cpu0", "cpu", "cpu", 1), dict.fromkeys(names, 1.0)
        epoch.keep_plan(replace(plan, devices=(device,), hostings=(Hosting((device.name,), 1, speeds, speeds),)))
        Decision(tree, plan, shape, "", {}).keep(epoch)
        return
    combiner = tried_combiner(job.spec, preflight.space, form.outputs, preflight.rule, shape)
    beside = pass_entropies(job.spec, shape, preflight.space)
    left = phases_of(directory, plan, form, shape, beside, job.spec.cascade)
    assignment = Assignment(job, preflight, RankRoles((0,), (1,), {}), plan, shape, left, ())
    division = Division(source, job.spec, directory, epoch)
    for phase in left:
        division.open(phase)
        of = [
            Writer(assignment, phase, combiner, run=directory, epoch=epoch, place=place, writers=writers)
            for place in range(writers)
        ]
        _score(assignment, phase, of, division, most)
        assert [writer.result.revoke_damaged() for writer in of] == [[]] * writers
        for writer in of[1:]:
            writer.close()
        if most is None or most >= len(phase.form.segmentation):
            of[0].finish({"rows": preflight.facts.rows, "finished": 0.0})
        of[0].close()
        if most is not None and (most := most - len(phase.form.segmentation)) < 0:
            break
    division.close()


def _tried(job, preflight, names, source):
    """The shape of a member's output for one row, which all have; each is tried, as before any start."""
    options = dict(inputs=preflight.facts.names, space=preflight.space, cores=1, rows=source.head(ROWS))
    members = [member for member in job.spec.members if member.name in names]
    trials = {m.name: try_member(m, job.spec, hardware=CpuHardware(1), **options) for m in members}
    check_shapes({name: trial.shape for name, trial in trials.items()})
    shape = next(iter(trials.values())).shape
    require_same_axis(job, preflight.space, shape, preflight.stored)
    return shape


def _score(assignment, phase, writers, division, most):
    """One round: a reader, these writers, and devices that host all members of the phase."""
    job, preflight = assignment.job, assignment.preflight
    blank = assignment.shape if job.spec.bad_rows == "mask" else None
    engine = Engine(CpuHardware(1), blank, segment_rows=SEGMENT)
    scored = {member.name: member for member in job.spec.members if member.name in phase.members}
    numerics = {name: assignment.plan.numerics.members[name] for name in scored}
    for name, members in units_of(numerics).items():
        loaded, options = [scored[m] for m in members], dict(inputs=preflight.facts.names, space=preflight.space)
        grouped = numerics[members[0]].group
        forward = (load_stacked if grouped else load_member)(loaded if grouped else loaded[0], job.spec, **options)
        engine.host(name, forward, batch=numerics[members[0]].batch)
    reducers = dict(enumerate(writers, 20))
    scores = None
    if job.spec.routed or phase.stage:

        def scores(segment):
            return [member for member in phase.members if member in division.read(segment).rows]

    Wiring(
        segments=sorted(segment for writer in writers for segment in writer.result.missing)[:most],
        members=phase.members,
        shares=Shares(
            {m: dict.fromkeys(DEVICES, 1.0) for m in phase.members},
            parts=preflight.facts.parts,
            together=group_by_member(numerics),
        ),
        devices=DEVICES,
        read=division.read,
        predict=engine.predict,
        write=lambda rank, task: reducers[rank].write(task),
        flush=lambda rank, segments: reducers[rank].result.flush(segments),
        reducers=list(reducers),
        scores=scores,
    ).run()
