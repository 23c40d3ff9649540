"""Worlds that share a dataset, suspended and killed at any of their system calls: one result, byte for byte.

Their ranks write what a small function gives; lists, claims, starts, blocks and assembly are the real ones.
"""

import contextlib
import errno
import json
import os
import threading
from collections import Counter
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lossy import LossyDisk
from support.project import Project
from support.results import DATA, EXPECTED, ROWS, SEGMENT, content, form, predict, values
from support.suspension import Suspended, SuspendedDisk

from hpcens.config import job_from_json, job_to_json, load
from hpcens.errors import COMPLETE, INCOMPLETE, HpcensError, as_verdict
from hpcens.result.assembly import begin_assembly
from hpcens.result.decision import Decision
from hpcens.result.disk import Disk
from hpcens.result.finished import fingerprint_of
from hpcens.result.parts import Part
from hpcens.result.result import Result
from hpcens.result.verify import look_through
from hpcens.runs import RunDirectory, Verdict
from hpcens.runs.epoch import superseded
from hpcens.specs import Job
from hpcens.units import UnitList, UnitsDirectory
from hpcens.units.blocks import planning
from hpcens.vocabulary import Device, Hosting, MemberNumerics, Numerics, Plan, Predict, Segmentation
from hpcens.worlds.blocks import BlocksWorld

TREE = {"made": "of this"}
PREFLIGHT = SimpleNamespace(to_json=lambda: "{}", facts=SimpleNamespace(row=""))
NUMERICS = Numerics(SEGMENT, {"a": MemberNumerics(2, "eager")}, ("cpu",), "2")
PLAN = Plan(
    planner="optimal",
    devices=(Device("h/cpu0", "cpu", "cpu", 1),),
    hostings=(Hosting(("h/cpu0",), 1, {"a": 1.0}, {"a": 1.0}),),
    numerics=NUMERICS,
    window=4,
    read_ahead=3,
    **dict(rows=ROWS, row_bytes=4, output_bytes=8, differences={}, loading=0),
    **dict(throughput=1, bound=1, limit=""),
)


class Late(UnitsDirectory):
    """A directory whose listing may be that of some looks before, as a network file system's is.

    As there, one's own change to a folder makes one's next listing of it a new one.

    lateness  of each look anew, in looks; then none
    """

    def __init__(self, path, lateness=()):
        super().__init__(path)
        self._lateness = list(lateness)
        self._left, self._before = 0, {}

    def settle(self, attempt, kind, outcome):
        super().settle(attempt, kind, outcome)
        self._left, self._lateness = 0, [0, *self._lateness]

    def attempts(self):
        if self._left:
            self._left -= 1
            return self._before
        self._left = self._lateness.pop() if self._lateness else 0
        self._before = super().attempts()
        return self._before


class Sharing:
    """A folder in which worlds share a dataset."""

    def __init__(self, folder, spec):
        self.folder = folder
        self.whole = folder / "out.h5"
        plain = form(folder)
        self.form = replace(plain, attributes={**plain.attributes, "fingerprint": json.dumps(TREE)})
        self.run = RunDirectory.of(self.whole)
        self.run.path.mkdir()
        self.run.own()
        directory = UnitsDirectory(self.run.path)
        directory.make()
        self.run.blocks.mkdir()
        job = Job(datasets=(folder / "data.h5",), output=self.whole, spec=spec)
        first = UnitList(0, job_to_json(job), {}, (), "", str(self.whole), worlds=2)
        self.units = directory.keep(planning(first), after=0)
        self.scored = Counter()
        self.dead = set()

    def live(self, name, disk, lateness=()):
        """Live a world, in a thread of its own or in this one; its ranks and its assembly write with its disk."""
        world = BlocksWorld(Late(self.run.path, lateness), self.units, "r")
        world._world = replace(world._world, id=name)
        _own.disk, _own.sharing = disk, self
        return world.live()

    def score(self, epoch):
        job = _job(json.loads(epoch.job.read_text())["job"])
        run = RunDirectory.of(job.output)
        if job.segments == (0, 0):
            run.fix_fingerprint(TREE, epoch)
            epoch.keep_plan(PLAN)
            Decision(TREE, PLAN, (2,), "", {}).keep(epoch)
            return
        own = replace(self.form, segmentation=Segmentation(ROWS, SEGMENT, *job.segments))
        result = Result.open(run, epoch, own, _own.disk)
        for segment in result.missing:
            rows = DATA[slice(*own.segmentation.bounds(segment))]
            found = list(predict(Predict(segment, ("a", "b"), (rows,))))
            result.write(segment, values([each.values for each in found]), {}, {0: found[0].bad})
            self.scored[segment] += 1
            result.flush([segment])
        result.revoke_damaged()
        result.finish(job.output, {})
        result.close()


class Ranks:
    """Ranks that are a function of the world's thread."""

    def __init__(self, expected, log):
        self._epoch = None

    def give(self, epoch):
        self._epoch = epoch
        try:
            _own.sharing.score(epoch)
            epoch.judge(Verdict(COMPLETE, "scored"))
        except (HpcensError, OSError) as error:
            known = as_verdict(superseded(epoch) if epoch.successor.exists() else error)
            epoch.judge(Verdict(known.exit_code, known.what))

    def ended(self):
        """Whether they cannot leave a verdict: the start they live went with the whole run."""
        return None if self._epoch.folder.exists() else 1

    def end(self, seconds=0):
        pass


_own = threading.local()
_job = cache(job_from_json)


def checked(job, trials="here"):
    there = job.output.exists() and fingerprint_of(job.output) == TREE
    return SimpleNamespace(job=job, preflight=PREFLIGHT, is_complete=lambda: there)


def assembled(job, preflight, epoch, units, asked):
    sharing = _own.sharing
    try:
        with contextlib.closing(begin_assembly(sharing.run, epoch, sharing.form, _own.disk)) as assembly:
            damaged = []
            for unit in units:
                first, stop = unit.segments
                part = Part(Path(unit.output), replace(sharing.form.segmentation, first=first, stop=stop))
                damaged += [] if assembly.take(part) else [unit.key]
            if not damaged:
                assembly.finish(sharing.whole, {"rows": ROWS})
    except (HpcensError, OSError) as error:
        known = as_verdict(superseded(epoch) if epoch.successor.exists() else error)
        return Verdict(known.exit_code, known.what), []
    return (Verdict(INCOMPLETE, "damaged"), damaged) if damaged else (Verdict(COMPLETE, "whole"), [])


@pytest.fixture(scope="module")
def spec(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("spec")
    return load(Project(folder, weights, folder).yaml().folder / "hpcens.yaml")


@pytest.fixture
def alone(monkeypatch):
    """Have worlds start nothing, watch nobody, and check nothing that is not there."""
    for name, double in {
        "world.UnitRanks": Ranks,
        "world.beating_world": lambda folder: contextlib.nullcontext(),
        "world.digests_kept": contextlib.nullcontext,
        "world.sweep": lambda: None,
        "world.check_once": checked,
        "world.start": lambda found, way: way(found.job, found.preflight),
        "world.made_of": lambda found: {},
        "world.dead_worlds": lambda folder, names, own: set(names) & _own.sharing.dead,
        "blocks.check_once": checked,
        "blocks.made_of": lambda found: {},
        "blocks.assemble": assembled,
        "blocks._WAIT_SECONDS": 0.0,
        "files.job_from_json": _job,
        "world.job_from_json": _job,
        "blocks.BlocksWorld._require_kind": lambda self, decision: None,
    }.items():
        monkeypatch.setattr(f"hpcens.worlds.{name}", double)
    monkeypatch.setattr(os, "fsync", lambda file: None)  # what is lost without it, `LossyDisk` loses
    monkeypatch.setattr("hpcens.launch.local.ranks_of", lambda job: 3)
    monkeypatch.setattr("hpcens.launch.local.mpiexec", lambda: ["mpiexec"])
    monkeypatch.setattr("hpcens.launch.follow.signal.signal", lambda *_: None)


def share(folder, spec, *, turns, kills=(), mistaken=(), lateness=((), (), ())):
    """Let three worlds live by turns; then the same command again. Return what there is, and how often it was scored.

    turns     (world, calls of the system that it may make then)
    kills     (turn, world): it is killed then, and its node loses what it had not synced
    mistaken  (turn, world): it is taken for dead from then on, and lives
    """
    sharing = Sharing(folder, spec)
    disks = [LossyDisk(seed=number) for number in range(3)]
    names = [f"{number:08x}" for number in range(3)]
    worlds = [
        Suspended(partial(sharing.live, names[number], SuspendedDisk(disks[number]), lateness[number]))
        for number in range(3)
    ]
    killed = set()

    def go(number, calls):
        if number not in killed and not worlds[number].ended:
            worlds[number].run(worlds[number].calls + calls)

    for turn, (number, calls) in enumerate(turns):
        for other in {other for at, other in kills if at == turn} - killed:
            if not worlds[other].ended:
                killed.add(other)
                sharing.dead.add(names[other])
                disks[other].crash()
        sharing.dead.update(names[other] for at, other in mistaken if at == turn)
        go(number, calls)
    while not all(number in killed or worlds[number].ended for number in range(3)):
        for number in range(3):
            go(number, 500)
    for number in {0, 1, 2} - killed:
        assert worlds[number].error is None, worlds[number].error
    # whoever settles its block last sees all others: nobody needs the same command again unless a world was lost
    assert sharing.whole.exists() or kills or mistaken
    sharing.live("0000000f", Disk())
    assert content(sharing.whole) == EXPECTED
    assert look_through(sharing.whole).faults == []
    assert not sharing.run.blocks.exists() and not (sharing.run.path / "lists").exists()
    return sharing, killed


_TURNS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 250)), min_size=8, max_size=14)
_MOMENTS = st.sets(st.tuples(st.integers(1, 10), st.integers(0, 2)), max_size=2)
_CALM = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=8, **_CALM)
@given(turns=_TURNS)
def test_worlds_that_all_live_score_every_segment_once(alone, spec, tmp_path_factory, turns):
    sharing, _ = share(tmp_path_factory.mktemp("shared"), spec, turns=turns)
    assert set(sharing.scored.values()) == {1}


@settings(max_examples=25, **_CALM)
@given(
    turns=_TURNS,
    kills=_MOMENTS,
    mistaken=_MOMENTS,
    lateness=st.tuples(*[st.lists(st.integers(0, 3), max_size=6)] * 3),
    links=st.booleans(),
)
def test_worlds_killed_and_taken_for_dead_at_any_call_leave_one_result(
    alone, spec, tmp_path_factory, turns, kills, mistaken, lateness, links
):
    def refused(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    folder = tmp_path_factory.mktemp("shared")
    with contextlib.nullcontext() if links else patch("os.link", refused):
        sharing, killed = share(folder, spec, turns=turns, kills=kills, mistaken=mistaken, lateness=lateness)
    again = sum(count - 1 for count in sharing.scored.values())
    assert again <= (len(killed) + len(mistaken)) * len(Segmentation(ROWS, SEGMENT))
