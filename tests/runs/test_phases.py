"""Phases, several readers and several reducers: the bytes are those of all members at once, one reader, one reducer."""

import json
import os
import signal

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs.test_run import HELD, journalled, signatures, wait_for
from support.lossy import Crash, LossyDisk
from support.project import ENSEMBLE, MEMBERS, Project
from unit.result.test_result import begin, directory, flip

from hpcens.checks.preflight import Preflight
from hpcens.combining.combiner import Combiner
from hpcens.dataset.source import Facts
from hpcens.errors import HpcensError, Incomplete
from hpcens.planning.phases import Assignment, phases_of, require_room_for
from hpcens.result.disk import Disk
from hpcens.result.form import Form
from hpcens.result.journal import Kind, read_journal
from hpcens.result.outputs import Output, outputs_of
from hpcens.result.result import Result
from hpcens.result.verify import verify
from hpcens.roles.dispatch import Shares
from hpcens.roles.rank_roles import RankRoles
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.scoring.writer import Writer
from hpcens.specs import Job, MemberSpec, OutputSpec, RunSpec
from hpcens.transports.tasks import reader_hands, reducer_hands, worker_hands
from hpcens.transports.virtual import VirtualWorld
from hpcens.vocabulary import Bad, MemberNumerics, Numerics, Plan, Predicted, Segmentation

EXTRA = "output: {datasets: [prediction, label, members, variance]}\nbad_rows: mask"
PHASES = (("conv",), ("linear", "recurrent"))
EAGER = "[16], runtime: eager"


def write_plan(project, phases=PHASES, readers=1, reducers=1):
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
    path.write_text(
        json.dumps(raw | {"phases": phases, "readers": readers, "reducers": reducers, "window": 8, "read_ahead": 6})
    )
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
    (folder / "nets.py").write_text(HELD.replace("Linear", MEMBERS[member]).replace("> 12", "> 4"))
    (folder / "plan.json").write_text((at_once.folder / "plan.json").read_text())
    write_plan(project)
    project.hpcens("profile", "dataset.h5")
    (folder / "hold").touch()
    return project


@pytest.mark.mpi
@pytest.mark.parametrize(("phases", "readers", "reducers"), [(PHASES, 1, 1), ((), 4, 1), (PHASES, 2, 3)])
def test_any_number_of_phases_readers_and_reducers_gives_the_same_bytes(project, at_once, phases, readers, reducers):
    bad_data(project).yaml(EXTRA, batch_sizes=EAGER)
    (project.folder / "plan.json").write_text((at_once.folder / "plan.json").read_text())
    out = project.hpcens("run", "dataset.h5", "--plan", str(write_plan(project, phases, readers, reducers)))
    assert results(project) == results(at_once)
    assert "400 rows scored" in out and "3 by input of conv, first row 3" in out
    assert ("phase 1 of 2" in out and "phase 2 of 2" in out) == bool(phases)
    assert not list(project.run.glob("phase-*.h5")), "what phases have stored is in the result"
    assert [s["role"] for s in signatures(project)].count("reader") == readers
    report = json.loads((project.run / "epochs/0001/report.json").read_text())
    rows = {}
    for of in report["instances"]:
        rows[of["member"]] = rows.get(of["member"], 0) + of.get("rows", 0)
    assert rows == dict.fromkeys(MEMBERS, 400)
    assert "sound" in project.hpcens("verify", "dataset.predictions.h5")
    events = (json.loads(line) for line in (project.run / "epochs/0001/events.jsonl").read_text().splitlines())
    assert [of["rows"] for of in events if of["event"] == "progress"][-1] == 400


@pytest.mark.mpi
@pytest.mark.parametrize(("member", "role", "crew"), [("conv", "reducer", 1), ("linear", "reader", 2)])
def test_kill_a_rank_in_any_phase_and_run_again(tmp_path, weights, cache, at_once, member, role, crew):
    """Story: kill -9 of the only reducer in the first phase, of the second reader in the second one; again, and the
    phase goes on where it was."""
    project = held_in(tmp_path, weights, cache, at_once, member)
    write_plan(project, PHASES, crew, crew)
    phase = 1 if member == "conv" else 2
    pattern = "phase-*-journal" if phase == 1 else "journal"
    try:
        process = project.start("run", "dataset.h5", "--plan", "plan.json")
        wait_for(lambda: durable(project, pattern) >= 2, process)
        victim = [s for s in signatures(project) if s["role"] == role][-1]
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


@pytest.mark.mpi
def test_a_signal_drains_all_readers_and_the_same_command_continues_with_one(tmp_path, weights, cache, at_once):
    """Story: two readers and two reducers are interrupted in the first phase; one of each continues."""
    project = held_in(tmp_path, weights, cache, at_once, "conv")
    write_plan(project, PHASES, 2, 2)
    try:
        process = project.start("run", "dataset.h5", "--plan", "plan.json")
        wait_for(lambda: durable(project, "phase-*-journal") >= 2, process)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: "draining" in (project.run / "epochs/0001/events.jsonl").read_text(), process)
        (tmp_path / "hold").unlink()
        _, error = process.communicate(timeout=30)
        assert process.returncode == 75, error
        assert "stopped by SIGINT" in error and "rows are durable in phase 1 of 2" in error
        [content] = journals(project, "phase-*-journal")
        assert content.closed and 2 <= len(content.written()) < 25
        write_plan(project)
        project.hpcens("run", "dataset.h5", "--plan", "plan.json")
        assert results(project) == results(at_once)
        assert inherited(project, "phase-*-journal") == [0, len(content.written())]
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
    figures = dict(rows=ROWS, row_bytes=8, output_bytes=8, differences={}, loading=0, throughput=1, bound=1, limit="")
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


def start(folder, disk, groups, *, most=9, writers=1):
    """One start in the virtual world: every phase that is left, until all is done, `most` are, or the disk dies."""
    run, planned = directory(folder), plan(groups)
    outputs = outputs_of(SPEC, (2,), "probabilities")
    whole = Form(
        outputs=outputs, segmentation=Segmentation(ROWS, SEGMENT), attributes=ATTRIBUTES, documents={"plan": "{}"}
    )
    combiner = Combiner(SPEC, "probabilities", outputs, {})
    phases = phases_of(run, planned, whole, (2,))[:most]
    job = Job(datasets=(), output=folder / "out.h5", spec=SPEC)
    assignment = Assignment(job, PREFLIGHT, RankRoles((0,), (1,), {}), planned, (2,), phases, ())
    opened, epoch = [], begin(run)
    try:
        for phase in phases:
            places = [dict(run=run, epoch=epoch, place=place, writers=writers, disk=disk) for place in range(writers)]
            of = [opened.append(Writer(assignment, phase, combiner, **place)) or opened[-1] for place in places]
            score(phase, of)
            assert [writer.result.revoke_damaged() for writer in of] == [[]] * writers
            for writer in of[1:]:
                writer.close()
            of[0].finish({"rows": ROWS})
            of[0].close()
    except Crash:
        disk.crash()
    finally:
        for stored in (stored for writer in opened for stored in writer._stored):
            stored.file.close()  # a process that dies lets go of its files


def score(phase, writers):
    """One round: two readers, these writers, two devices."""
    segmentation = Segmentation(ROWS, SEGMENT)
    missing = sorted(segment for writer in writers for segment in writer.result.missing)
    reading, reducing = [0, 9], list(range(20, 20 + len(writers)))
    roles = {
        rank: Reader(
            segments=[segment for segment in missing if segment % 2 == place],
            members=phase.members,
            shares=Shares({member: {2: 1.0, 3: 1.0} for member in phase.members}),
            devices=[2, 3],
            reducers=reducing,
            first=0 if place else None,
            others=[] if place else [9],
            window=4,
            read_ahead=3,
        )
        for place, rank in enumerate(reading)
    }
    hands = dict.fromkeys(
        reading, reader_hands(lambda s: (DATA[slice(*segmentation.bounds(s))],), lambda progress: None)
    )
    for rank, writer in zip(reducing, writers, strict=True):
        roles[rank] = Reducer(
            members=phase.members, devices=[2, 3], readers=reading, reducers=len(writers), window=4, seconds=5.0
        )
        hands[rank] = reducer_hands(writer.write, writer.result.flush)
    for rank in (2, 3):
        roles[rank] = Worker(readers=reading, reducers=reducing)
        hands[rank] = worker_hands(predict, lambda task: None)
    VirtualWorld(roles, hands, lambda rank, to, message: 0.1 * rank).run()


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


@pytest.mark.parametrize(("groups", "writers"), [(TWO, 1), (ALL, 2)])
def test_crash_at_any_call_and_resume(tmp_path, whole, groups, writers):
    """Story: the machine dies at call k of a run in phases, or by two reducers; the next start completes the result."""
    (tmp_path / "whole").mkdir()
    disk = LossyDisk()
    start(tmp_path / "whole", disk, groups, writers=writers)
    assert outcome(tmp_path / "whole") == whole
    for k in range(0, disk.calls, 4):
        folder = tmp_path / str(k)
        folder.mkdir()
        start(folder, LossyDisk(dies_at=k, seed=k), groups, writers=writers)
        if not (folder / "out.h5").exists():
            start(folder, Disk(), groups, writers=writers)
        assert outcome(folder) == whole, f"call {k}"
        assert verify(folder / "out.h5").faults == []


starts = st.tuples(st.integers(0, 300), st.sampled_from([ALL, TWO, THREE]), st.integers(1, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(starts, max_size=5), st.integers(0, 2**32))
def test_any_chain_of_crashes_over_changing_groups_ends_in_the_same_bytes(tmp_path_factory, whole, starts, seed):
    """Story: each start has other devices and other reducers, so that the plan forms other groups; what is complete
    is not scored again."""
    folder = tmp_path_factory.mktemp("chain")
    known = set()
    for k, groups, writers in starts:
        if not (folder / "out.h5").exists():
            start(folder, LossyDisk(dies_at=k, seed=seed + k), groups, writers=writers)
            stored = set(directory(folder).phases())
            assert known <= stored or (folder / "out.h5").exists(), "what is complete stays until the result is"
            known = stored
    if not (folder / "out.h5").exists():
        start(folder, Disk(), TWO, writers=2)
    assert outcome(folder) == whole
    assert verify(folder / "out.h5").faults == []


def two_reducers(run):
    """A start with two of them: the result's form, the epoch, and the result as each has it open."""
    form = Form(
        outputs=(Output("x", (), "<f4"),), segmentation=Segmentation(ROWS, SEGMENT), attributes=ATTRIBUTES, documents={}
    )
    epoch = begin(run)
    opened = Result.open(run, epoch, form, writers=2)
    return form, epoch, opened, Result.join(run, epoch, form, writer=1, writers=2)


def test_what_two_reducers_made_durable_is_inherited_by_one_and_back(tmp_path, whole):
    """Story: two reducers are drained after a segment each: their journals are one. Then one, then three go on."""
    run = directory(tmp_path)
    form, epoch, first, second = two_reducers(run)
    assert (first.missing, second.missing) == ([0, 2, 4], [1, 3, 5])
    first.write(2, {"x": np.ones(4, "f4")}, {0: 4}), first.flush([2])
    second.write(3, {"x": np.ones(4, "f4")}, {1: 4}), second.flush([3])
    first.close()
    assert not read_journal(run.journal(epoch)).closed
    second.close()
    assert read_journal(run.journal(epoch)).closed
    inode = run.working(1).stat().st_ino
    alone = Result.open(run, begin(run), form)
    assert alone.missing == [0, 1, 4, 5] and run.working(1).stat().st_ino == inode
    alone.write(0, {"x": np.ones(4, "f4")}, {}), alone.flush([0]), alone.close()
    epoch = begin(run)
    three = [Result.open(run, epoch, form, writers=3)]
    three += [Result.join(run, epoch, form, writer=place, writers=3) for place in (1, 2)]
    assert [result.missing for result in three] == [[], [1, 4], [5]]
    flip(run.working(1), "x", 4 * SEGMENT * 3)
    assert [result.revoke_damaged() for result in three] == [[3], [], []]
    content = read_journal(run.journal(epoch))
    assert sorted(content.written()) == [0, 2] and [note.member for note in content.notes()] == [0]
    with pytest.raises(HpcensError, match="4 segments are missing"):
        three[0].finish(tmp_path / "out.h5", {})


def test_a_start_of_which_a_reducer_may_live_is_copied(tmp_path):
    """Story: of two reducers one closed, one was killed: its file is not written again, what is journalled is kept."""
    run = directory(tmp_path)
    form, _, first, second = two_reducers(run)
    second.write(3, {"x": np.ones(4, "f4")}, {}), second.flush([3])
    first.close()
    new = Result.open(run, begin(run), form)
    assert new.missing == [0, 1, 2, 4, 5] and not run.working(1).exists()
    second.write(3, {"x": np.zeros(4, "f4")}, {}), second.flush([3])
    assert new.revoke_damaged() == []


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
    flip(path, "members/b", 3 * SEGMENT * 8 + 1)  # were it read, it would be found damaged
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
