"""Phases: members scored group after group over all rows; the bytes are those of scoring them all at once."""

import json
import os
import signal

import h5py
import numpy as np
import pytest
from conftest import ENSEMBLE, MEMBERS, Project
from hypothesis import given, settings
from hypothesis import strategies as st
from lossy import Crash, LossyDisk
from test_run import HELD, journalled, rank_of, wait_for
from test_store import begin, directory, flip

from hpcens.combining import Combiner
from hpcens.errors import HpcensError, Incomplete
from hpcens.hands import reader_hands, reducer_hands, worker_hands
from hpcens.matrix import MemberNumerics, Numerics, Plan
from hpcens.messages import Bad, Predicted
from hpcens.outputs import Output, outputs_of
from hpcens.phases import Assignment, phases_of, require_room_for
from hpcens.preflight import Preflight
from hpcens.roles.casting import Cast
from hpcens.roles.dispatch import Shares
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.segments import Segmentation
from hpcens.specs import Job, MemberSpec, OutputSpec, RunSpec
from hpcens.store.disk import Disk
from hpcens.store.form import Form
from hpcens.store.journal import Kind, read_journal
from hpcens.store.source import Facts
from hpcens.store.verify import verify
from hpcens.transports.virtual import VirtualWorld
from hpcens.writing import Writer

EXTRA = "output: {datasets: [prediction, label, members, variance]}\nbad_rows: mask"
PHASES = (("conv",), ("linear", "recurrent"))
EAGER = "[16], runtime: eager"


def write_plan(project, phases=PHASES):
    """plan.json in these phases, every member on every device; 25 segments."""
    path = project.folder / "plan.json"
    if not path.exists():
        project.hpcens("plan", "dataset.h5", "-o", "plan.json")
    raw = json.loads(path.read_text())
    speeds = {member: speed for hosting in raw["hostings"] for member, speed in hosting["speeds"].items()}
    names = [device["name"] for device in raw["devices"]]
    raw["hostings"] = [
        {
            "devices": names,
            "memory": 0,
            "speeds": {member: speeds[member] for member in group},
            "shares": dict.fromkeys(group, raw["throughput"] / len(names)),
            "phase": phase,
        }
        for phase, group in enumerate(phases or [tuple(MEMBERS)])
    ]
    raw["numerics"]["segment_rows"] = 16
    path.write_text(json.dumps(raw | {"phases": phases, "window": 8, "read_ahead": 6}))
    return path


def bad_data(project):
    """400 rows, some of which hold NaN."""
    project.data(400)
    with h5py.File(project.dataset, "r+") as file:
        file["images"][[3, 200, 399], 0, 0, 0] = np.nan
    return project


@pytest.fixture(scope="module")
def at_once(tmp_path_factory, weights, cache):
    """A run of all members at once."""
    project = bad_data(Project(tmp_path_factory.mktemp("at-once"), weights, cache)).yaml(EXTRA, batch_sizes=EAGER)
    project.hpcens("run", "dataset.h5", "--plan", str(write_plan(project, ())))
    return project


def results(project):
    """All datasets of rows, and what the journal notes."""
    with h5py.File(project.output) as file:
        found = {}
        file.visititems(
            lambda name, of: (
                found.update({name: of[()].tobytes()})
                if isinstance(of, h5py.Dataset) and "hpcens" not in name
                else None
            )
        )
    notes = journalled(project)[-1].notes()
    return found, sorted((n.kind, n.segment, n.member, n.batch, n.checksum) for n in notes)


def journals(project, pattern):
    return [read_journal(path) for path in sorted(project.run.glob(f"epochs/*/{pattern}"))]


def durable(project, pattern):
    """Segments that the newest of these journals holds."""
    found = [content for content in journals(project, pattern) if content]
    return len(found[-1].written()) if found else 0


def inherited(project, pattern):
    """How many segments each start took over."""
    return [
        record.segment
        for content in journals(project, pattern)
        for record in content.records
        if record.kind == Kind.INHERITED
    ]


def held_in(folder, weights, cache, at_once, member):
    """The same work in two phases, with a member that stops after some segments while the file `hold` exists."""
    project = bad_data(Project(folder, weights, cache))
    project.yaml(EXTRA, members=MEMBERS | {member: f"Held{MEMBERS[member]}"}, batch_sizes=EAGER)
    (folder / "nets_fast.py").write_text((ENSEMBLE / "nets.py").read_text())
    (folder / "nets.py").write_text(HELD.replace("Linear", MEMBERS[member]))
    (folder / "plan.json").write_text((at_once.folder / "plan.json").read_text())
    write_plan(project)
    project.hpcens("profile", "dataset.h5")
    (folder / "hold").touch()
    return project


@pytest.mark.mpi
def test_phases_give_the_bytes_of_all_at_once(project, at_once):
    bad_data(project).yaml(EXTRA, batch_sizes=EAGER)
    (project.folder / "plan.json").write_text((at_once.folder / "plan.json").read_text())
    out = project.hpcens("run", "dataset.h5", "--plan", str(write_plan(project)))
    assert results(project) == results(at_once)
    assert "phase 1 of 2" in out and "phase 2 of 2" in out
    assert "400 rows scored" in out and "3 by input of conv, first row 3" in out
    assert not list(project.run.glob("phase-*.h5")), "what phases have stored is in the result"
    report = json.loads((project.run / "epochs/0001/report.json").read_text())
    rows = {}
    for of in report["instances"]:
        rows[of["member"]] = rows.get(of["member"], 0) + of.get("rows", 0)
    assert rows == dict.fromkeys(MEMBERS, 400)
    assert "sound" in project.hpcens("verify", "dataset.predictions.h5")


@pytest.mark.mpi
@pytest.mark.parametrize(("member", "role"), [("conv", "reducer"), ("linear", "device")])
def test_kill_a_rank_in_any_phase_and_run_again(tmp_path, weights, cache, at_once, member, role):
    """Story: kill -9 in the first or in the second phase; again, and the phase goes on where it was."""
    project = held_in(tmp_path, weights, cache, at_once, member)
    phase = 1 if member == "conv" else 2
    pattern = "phase-*-journal" if phase == 1 else "journal"
    try:
        process = project.start("run", "dataset.h5", "--plan", "plan.json")
        wait_for(lambda: durable(project, pattern) >= 2, process)
        victim = rank_of(project, role)
        os.kill(victim["pid"], signal.SIGKILL)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 1 and f"rank {victim['rank']} ({victim['role']})" in error
        status = json.loads(project.hpcens("status", "--json", "dataset.predictions.run"))
        assert (status["phase"], status["phases"], status["of"]) == (phase, 2, 400)
        assert len(list(project.run.glob("phase-????????????.h5"))) == phase - 1
        kept = durable(project, pattern)
        (tmp_path / "hold").unlink()
        project.hpcens("run", "dataset.h5", "--plan", "plan.json")
        assert results(project) == results(at_once)
        assert sorted(inherited(project, pattern)) == [0, kept]
        assert len(list(project.run.glob("epochs/*/phase-*-journal"))) == 3 - phase, "a phase is scored once"
        assert "sound" in project.hpcens("verify", "dataset.predictions.h5")
    finally:
        project.end()


ROWS, SEGMENT = 22, 4
NAMES = ("a", "b", "c")
DATA = np.random.default_rng(3).random((ROWS, 2), np.float32)
SPEC = RunSpec(
    members=tuple(MemberSpec(name=name, factory="f:f", output="probabilities") for name in NAMES),
    output=OutputSpec(datasets=("prediction", "label", "members")),
    bad_rows="mask",
)
PREFLIGHT = Preflight(Facts(ROWS, (), {}), {}, {}, "probabilities")


def plan(groups):
    numerics = Numerics(SEGMENT, {name: MemberNumerics(8, "eager") for name in NAMES}, ("cpu",), "2")
    figures = dict(
        rows=ROWS, row_bytes=8, output_bytes=8, reading=None, differences={}, loading=0, throughput=1, bound=1, limit=""
    )
    return Plan(
        planner="optimal",
        devices=(),
        hostings=(),
        numerics=numerics,
        window=4,
        read_ahead=3,
        phases=groups,
        **figures,
    )


def predict(task):
    for member in task.members:
        values = task.rows[0] + np.float32(NAMES.index(member))
        bad = (Bad("output", (0, 2)),) if (task.segment, member) in ((1, "a"), (4, "b")) else ()
        yield Predicted(task.segment, member, values, 4 if task.segment == 2 else 8, bad=bad)


def start(folder, disk, groups, most=9):
    """One start in the virtual world: every phase that is left, until all is done, `most` are, or the disk dies."""
    run, planned = directory(folder), plan(groups)
    segmentation = Segmentation(ROWS, SEGMENT)
    outputs = outputs_of(SPEC, (2,), "probabilities")
    whole = Form(outputs=outputs, segmentation=segmentation, attributes=ATTRIBUTES, documents={"plan": "{}"})
    epoch = begin(run)
    combiner = Combiner(SPEC, "probabilities", outputs, {})
    phases = phases_of(run, planned, whole, (2,))[:most]
    job = Job(datasets=(), output=folder / "out.h5", spec=SPEC)
    assignment = Assignment(job, PREFLIGHT, Cast((0,), (1,), {}), planned, (2,), phases, ())
    writer = None
    try:
        for phase in phases:
            writer = Writer(assignment, phase, combiner, run=run, epoch=epoch, disk=disk)
            result = writer.result
            reader = Reader(
                segments=result.missing,
                members=phase.members,
                shares=Shares({member: {2: 1.0, 3: 1.0} for member in phase.members}),
                devices=[2, 3],
                reducers=[1],
                window=4,
                read_ahead=3,
            )
            reducer = Reducer(members=phase.members, devices=[2, 3], readers=[0], window=4, seconds=5.0)
            workers = {rank: Worker(readers=[0], reducers=[1]) for rank in (2, 3)}
            hands = {
                0: reader_hands(lambda s: (DATA[slice(*segmentation.bounds(s))],), lambda progress: None),
                1: reducer_hands(writer.write, result.flush),
                **dict.fromkeys(workers, worker_hands(predict, lambda task: None)),
            }
            world = VirtualWorld({0: reader, 1: reducer, **workers}, hands, lambda rank, to, message: 0.1 * rank)
            world.run()
            assert result.revoke_damaged() == []
            writer.finish({"rows": ROWS})
            writer.close()
    except Crash:
        disk.crash()
    finally:
        for stored in writer._stored if writer else ():  # a process that dies lets go of its files
            stored.file.close()


ATTRIBUTES = {"fingerprint": '{"members": {}}', "members": "{}"}
ALL, TWO, THREE = (), (("b",), ("a", "c")), (("a",), ("b",), ("c",))


def outcome(folder):
    """Every dataset of rows, and the notes of the journal."""
    run = directory(folder)
    with h5py.File(folder / "out.h5") as file:
        names = ["prediction", "label", "valid", *(f"members/{name}" for name in NAMES)]
        rows = {name: file[name][()].tobytes() for name in names}
    content = next(found for epoch in run.epochs() if (found := read_journal(run.journal(epoch))))
    return rows, sorted((n.kind, n.segment, n.member, n.batch, n.checksum) for n in content.notes())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    start(folder, Disk(), ALL)
    found = outcome(folder)
    assert len(found[1]) == 5
    return found


def test_crash_at_any_call_of_every_phase_and_resume(tmp_path, whole):
    """Story: the machine dies at call k of a run in phases; the next start ends in the bytes of all at once."""
    (tmp_path / "whole").mkdir()
    disk = LossyDisk()
    start(tmp_path / "whole", disk, TWO)
    assert outcome(tmp_path / "whole") == whole
    for k in range(0, disk.calls, 4):
        folder = tmp_path / str(k)
        folder.mkdir()
        start(folder, LossyDisk(dies_at=k, seed=k), TWO)
        if not (folder / "out.h5").exists():
            start(folder, Disk(), TWO)
        assert outcome(folder) == whole, f"call {k}"
        assert verify(folder / "out.h5").faults == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from([ALL, TWO, THREE])), max_size=5), st.integers(0, 2**32))
def test_any_chain_of_crashes_over_changing_groups_ends_in_the_same_bytes(tmp_path_factory, whole, starts, seed):
    """Story: each start has other devices, so the plan forms other groups; what is complete is not scored again."""
    folder = tmp_path_factory.mktemp("chain")
    known = set()
    for k, groups in starts:
        if not (folder / "out.h5").exists():
            start(folder, LossyDisk(dies_at=k, seed=seed + k), groups)
            stored = set(directory(folder).phases())
            assert known <= stored or (folder / "out.h5").exists()
            known = stored
    if not (folder / "out.h5").exists():
        start(folder, Disk(), TWO)
    assert outcome(folder) == whole


def test_damage_to_a_stored_phase_is_scored_again_by_the_next_start(tmp_path, whole):
    """Story: a phase is complete, a byte of its file rots: the start that finds it ends, the next one repairs it."""
    start(tmp_path, Disk(), TWO, most=1)
    [path] = directory(tmp_path).phases()
    flip(path, "members/b", 3 * SEGMENT * 8 + 1)
    with pytest.raises(HpcensError, match="rows 12–15 differ from their checksum, scored in an earlier phase"):
        start(tmp_path, Disk(), TWO)
    assert directory(tmp_path).phases() == []
    start(tmp_path, Disk(), TWO)
    assert outcome(tmp_path) == whole


def test_what_a_phase_of_another_result_has_left_does_not_count(tmp_path, whole):
    start(tmp_path, Disk(), TWO, most=1)
    [path] = directory(tmp_path).phases()
    with h5py.File(path, "r+") as file:
        file.attrs["fingerprint"] = '{"members": {"x": 1}}'
    start(tmp_path, Disk(), TWO)
    assert outcome(tmp_path) == whole


def test_room_is_asked_for_what_every_phase_writes(tmp_path):
    run = directory(tmp_path)
    outputs = (Output("prediction", (10**9,), "<f4"),)
    form = Form(outputs=outputs, segmentation=Segmentation(10**6, 10), attributes=ATTRIBUTES, documents={})
    job = Job(datasets=(), output=tmp_path / "out.h5", spec=SPEC)
    with pytest.raises(Incomplete, match=r"will take 8,000,000\.0 GB"):
        require_room_for(job, run, phases_of(run, plan(TWO), form, (10**9,)))
    run.phase(("b",)).working(1).touch()
    with pytest.raises(Incomplete, match=r"will take 4,000,000\.0 GB"):
        require_room_for(job, run, phases_of(run, plan(TWO), form, (10**9,)))
