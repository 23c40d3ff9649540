"""Results written in phases and by several reducers: after any crash, the bytes of all members at once."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lossy import Crash, LossyDisk
from support.results import begin, directory, flip
from support.wiring import Wiring

from hpcens.checks.preflight import Preflight
from hpcens.combining.combiner import Combiner
from hpcens.dataset.source import Facts
from hpcens.errors import HpcensError, Incomplete
from hpcens.planning.phases import Assignment, phases_of, require_room_for
from hpcens.result.disk import Disk
from hpcens.result.form import Form
from hpcens.result.journal import read_journal
from hpcens.result.outputs import Output, outputs_of
from hpcens.result.result import Result
from hpcens.result.verify import look_through
from hpcens.roles.dispatch import Shares
from hpcens.roles.rank_roles import RankRoles
from hpcens.scoring.writer import Writer
from hpcens.specs import Job, MemberSpec, OutputSpec, RunSpec
from hpcens.vocabulary import Bad, MemberNumerics, Numerics, Plan, Predicted, Segmentation

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
    reducers = dict(enumerate(writers, 20))
    Wiring(
        segments=sorted(segment for writer in writers for segment in writer.result.missing),
        members=phase.members,
        shares=Shares({member: {2: 1.0, 3: 1.0} for member in phase.members}),
        devices=[2, 3],
        read=lambda segment: (DATA[slice(*segmentation.bounds(segment))],),
        predict=predict,
        write=lambda rank, task: reducers[rank].write(task),
        flush=lambda rank, segments: reducers[rank].result.flush(segments),
        readers=[0, 9],
        reducers=list(reducers),
    ).run()


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
    assert disk.calls > 40
    for k in range(0, disk.calls, 4):
        folder = tmp_path / str(k)
        folder.mkdir()
        start(folder, LossyDisk(dies_at=k, seed=k), groups, writers=writers)
        if not (folder / "out.h5").exists():
            start(folder, Disk(), groups, writers=writers)
        assert outcome(folder) == whole, f"call {k}"
        assert look_through(folder / "out.h5").faults == []


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
    assert look_through(folder / "out.h5").faults == []


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
    with pytest.raises(Incomplete, match=r"will take 7,450,580\.6 GiB"):
        require_room_for(job, run, phases_of(run, plan(TWO), form, (10**9,)))
    run.phase(("b",)).working(1).touch()
    with pytest.raises(Incomplete, match=r"will take 3,725,290\.3 GiB"):
        require_room_for(job, run, phases_of(run, plan(TWO), form, (10**9,)))
