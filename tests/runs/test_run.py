"""Whole runs under real MPI: the same bytes whatever happens, and an end that can be read."""

import json
import os
import shutil
import signal

import h5py
import numpy as np
import pytest
from support.interruption import journalled, rank_of, signatures, some_are_durable, wait_for, write_held
from support.project import ENSEMBLE
from support.wiring import Wiring

from hpcens.config import load
from hpcens.dataset.source import Source
from hpcens.processes import born
from hpcens.result.journal import Kind
from hpcens.roles.dispatch import shares_by_rank
from hpcens.rules import make_rule
from hpcens.specs import DatasetSpec
from hpcens.vocabulary import Plan, Segmentation


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, weights, cache):
    """A whole run of the ensemble, left alone, in 50 segments; its plan.json is there for others to use."""
    from support.project import Project

    project = Project(tmp_path_factory.mktemp("undisturbed"), weights, cache).data(800).yaml()
    project.hpcens("plan", "dataset.h5", "-o", "plan.json")
    plan = json.loads((project.folder / "plan.json").read_text())
    plan["numerics"]["segment_rows"] = 16
    plan |= {"window": 8, "read_ahead": 6}
    (project.folder / "plan.json").write_text(json.dumps(plan))
    project.hpcens("run", "dataset.h5", "--plan", "plan.json")
    return project


@pytest.fixture
def held(tmp_path, weights, cache, undisturbed):
    """The same work with a member that stops after some segments while the file `hold` exists."""
    from support.project import MEMBERS, Project

    project = Project(tmp_path, weights, cache).data(800)
    project.yaml(members=MEMBERS | {"linear": "HeldLinear"})
    write_held(tmp_path)
    (tmp_path / "plan.json").write_text((undisturbed.folder / "plan.json").read_text())
    project.hpcens("profile", "dataset.h5")
    (tmp_path / "hold").write_text("12")
    yield project
    project.end()


def test_mpi_equals_the_virtual_world_with_the_same_networks(undisturbed):
    """the same plan, the same tasks, no MPI: byte for byte."""
    import torch

    from hpcens.engine.cpu import CpuHardware
    from hpcens.engine.engine import Engine
    from hpcens.members import load as load_member

    torch.set_num_threads(1)
    spec = load(undisturbed.folder / "hpcens.yaml")
    plan = Plan.load(undisturbed.folder / "plan.json")
    source = Source([undisturbed.dataset], DatasetSpec())
    segmentation = Segmentation(source.rows, plan.numerics.segment_rows)
    ranks = {device.name: 2 + i for i, device in enumerate(plan.devices)}
    engine = Engine(CpuHardware(1))
    for member in spec.members:
        batch = plan.numerics.members[member.name].batch
        forward = load_member(member, spec, inputs=("images",), space="probabilities")
        engine.host(member.name, forward, batch=batch)
    rule = make_rule(spec.rule, spec.members)
    got = np.empty((source.rows, 4), np.float32)

    def write(rank, task):
        got[slice(*segmentation.bounds(task.segment))] = rule(task.stack)

    Wiring(
        segments=range(len(segmentation)),
        members=plan.members,
        shares=shares_by_rank(plan.hostings, ranks),
        devices=ranks.values(),
        read=lambda segment: source.read(segmentation, segment),
        predict=engine.predict,
        write=write,
        window=plan.window,
        read_ahead=plan.read_ahead,
        seconds=1.0,
        latency=lambda rank, to, message: 0.01 * rank,
    ).run()
    source.close()  # who opens the file next may lock it
    assert got.tobytes() == undisturbed.predictions().tobytes()


def test_result_is_what_plain_torch_gives(undisturbed):
    import torch

    from hpcens.members import load as load_member

    spec = load(undisturbed.folder / "hpcens.yaml")
    with h5py.File(undisturbed.dataset) as file:
        rows = torch.from_numpy(file["images"][:])
    with torch.inference_mode():
        loaded = [load_member(member, spec, inputs=("images",), space="logits") for member in spec.members]
        each = [torch.softmax(member(rows).double(), 1) for member in loaded]
    mean = (sum(each) / len(each)).numpy()
    assert np.abs(mean - undisturbed.predictions()).max() < 1e-6
    with h5py.File(undisturbed.output) as file:
        assert (file["label"][:] == file["prediction"][:].argmax(1)).all()
        assert file["hpcens/written"][:].all()


def test_verbs_after_a_run(undisturbed):
    assert "sound" in undisturbed.hpcens("verify", "dataset.predictions.h5")
    assert json.loads(undisturbed.hpcens("verify", "--json", "dataset.predictions.h5"))["sound"]
    assert json.loads(undisturbed.hpcens("status", "--json", "dataset.predictions.run"))["state"] == "complete"
    assert "complete already" in undisturbed.hpcens("submit", "dataset.h5")
    assert "gap" in undisturbed.hpcens("plan", "dataset.h5", "-o", "new.json")
    assert Plan.load(undisturbed.folder / "new.json").members == ("linear", "conv", "recurrent")


def test_submit_goes_through_submitit_and_gives_the_same_bytes(project, undisturbed):
    project.data(800)
    plan = undisturbed.folder / "plan.json"
    out = project.hpcens("submit", "dataset.h5", "--plan", str(plan))
    assert list(project.run.glob("submitit/*"))
    assert out.strip().splitlines()[-1].startswith(("complete: 800 rows", "800 of 800"))
    assert project.predictions().tobytes() == undisturbed.predictions().tobytes()


def test_limit_scores_the_first_rows_into_an_output_of_their_own(project, undisturbed):
    project.data(800)
    plan = undisturbed.folder / "plan.json"
    project.hpcens("run", "dataset.h5", "--limit", "100", "--plan", str(plan))
    with h5py.File(project.folder / "dataset.first-100.predictions.h5") as file:
        got = file["prediction"][:]
    whole = 100 // 16 * 16  # a segment's last batch depends on where the segment ends
    assert Plan.load(plan).numerics.segment_rows == 16
    assert len(got) == 100 and got[:whole].tobytes() == undisturbed.predictions()[:whole].tobytes()


@pytest.mark.parametrize("role", ["reader", "reducer", "device"])
def test_kill_a_rank_and_run_again(held, undisturbed, role):
    """Story: kill -9 in mid-run: the run ends by itself, names the rank; again, only what was in flight is scored."""
    process = held.start("run", "dataset.h5", "--plan", "plan.json")
    wait_for(lambda: some_are_durable(held), process)
    victim = rank_of(held, role)
    os.kill(victim["pid"], signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"rank {victim['rank']} ({victim['role']})" in error and "run the same command again" in error
    assert all(born(s["pid"]) != s["born"] for s in signatures(held)), "a rank was left behind"
    [working] = held.run.glob("working-*.h5")
    with h5py.File(working) as file:
        assert file["prediction"].shape == (800, 4)
    kept = len(journalled(held)[-1].written())
    (held.folder / "hold").unlink()
    held.hpcens("run", "dataset.h5", "--plan", "plan.json")
    assert held.predictions().tobytes() == undisturbed.predictions().tobytes()
    after = journalled(held)[-1].records
    inherited = next(record.segment for record in after if record.kind == Kind.INHERITED)
    assert inherited == kept > 0
    assert "sound" in held.hpcens("verify", "dataset.predictions.h5")


def test_a_signal_drains_and_the_same_command_continues(held, undisturbed):
    """Story: a second start is refused; the first is interrupted; changed inputs are refused; it continues."""
    process = held.start("run", "dataset.h5", "--plan", "plan.json")
    wait_for(lambda: some_are_durable(held), process)
    assert "is being worked on by" in held.hpcens("run", "dataset.h5", code=2)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: "draining" in (held.run / "epochs/0001/events.jsonl").read_text(), process)
    (held.folder / "hold").unlink()
    _, error = process.communicate(timeout=held.patience)
    assert process.returncode == 75, error
    assert "stopped by SIGINT" in error.strip().splitlines()[-1]
    assert journalled(held)[-1].closed
    assert json.loads(held.hpcens("status", "--json", "dataset.predictions.run"))["state"] == "resumable"
    before, data = (held.folder / "hpcens.yaml").read_text(), held.dataset.stat()
    (held.folder / "hpcens.yaml").write_text(before + "rule: vote\n")
    assert "rule.name: mean then, vote now" in held.hpcens("run", "dataset.h5", code=78)
    (held.folder / "hpcens.yaml").write_text(before)
    os.utime(held.dataset)
    assert "data.files.1.modified" in held.hpcens("run", "dataset.h5", code=78)
    os.utime(held.dataset, ns=(data.st_atime_ns, data.st_mtime_ns))
    held.hpcens("submit", "dataset.h5", "--plan", "plan.json")
    assert held.predictions().tobytes() == undisturbed.predictions().tobytes()


def test_a_member_added_to_a_finished_run_is_all_that_is_scored(held, undisturbed):
    """Story: two members are scored, a third is added, its run is killed: the result of two stands; again, and it is
    that of a run of all three. Another rule is then a matter of combining."""
    from support.project import MEMBERS

    output = "output: {datasets: [prediction, label, members], compression: gzip, path: dataset.predictions.h5}"
    held.yaml(output, members={name: of for name, of in MEMBERS.items() if name != "linear"})
    write_held(held.folder)
    held.hpcens("run", "dataset.h5", "--plan", "plan.json")
    two = held.output.read_bytes()
    assert held.predictions().tobytes() != undisturbed.predictions().tobytes()
    held.yaml(output, members=MEMBERS | {"linear": "HeldLinear"})
    write_held(held.folder)
    process = held.start("run", "dataset.h5")
    wait_for(lambda: len(journalled(held)) == 2 and some_are_durable(held), process)
    reducer = [s for s in signatures(held) if s["role"] == "reducer"][-1]
    os.kill(reducer["pid"], signal.SIGKILL)
    process.communicate(timeout=held.patience)
    assert process.returncode == 1 and held.output.read_bytes() == two
    assert "checked against the checksums in the file alone" in held.hpcens("verify", "dataset.predictions.h5")
    (held.folder / "hold").unlink()
    held.hpcens("run", "dataset.h5")
    report = json.loads((held.run / "epochs/0003/report.json").read_text())
    assert {of["member"] for of in report["instances"]} == {"linear"}
    inherited = next(record.segment for record in journalled(held)[-1].records if record.kind == Kind.INHERITED)
    assert inherited > 0
    assert held.predictions().tobytes() == undisturbed.predictions().tobytes()
    assert "sound" in held.hpcens("verify", "dataset.predictions.h5")
    held.hpcens("combine", "dataset.predictions.h5", "--rule", "vote", "-o", "vote.h5")
    held.yaml(
        "rule: vote\n" + output.replace("dataset.predictions", "vote"), members=MEMBERS | {"linear": "HeldLinear"}
    )
    write_held(held.folder)
    assert "complete already" in held.hpcens("run", "dataset.h5")
    held.hpcens("export", "vote.h5", "-o", "label.npy", "--datasets", "label")
    with h5py.File(held.folder / "vote.h5") as file:
        votes = sum(np.eye(4)[file[f"members/{name}"][:].argmax(1)] for name in MEMBERS)
        assert (np.load(held.folder / "label.npy") == votes.argmax(1)).all()
    assert "exists" in held.hpcens("export", "vote.h5", "-o", "label.npy", "--datasets", "label", code=2)
    assert "is the input itself" in held.hpcens("combine", "vote.h5", "--rule", "mean", "-o", "vote.h5", code=2)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("nan_in_earnest", ": rule rules:nan_in_earnest returned NaN or infinity"),
        ("killing_in_earnest", "ended with exit code 9"),
    ],
)
def test_a_rule_that_fails_ends_the_run_and_is_named(project, rule, says):
    project.yaml(f"rule: rules:{rule}")
    (project.folder / "rules.py").write_text((ENSEMBLE / "rules.py").read_text())
    last = project.hpcens("run", "dataset.h5", code=1).strip().splitlines()[-1]
    assert says in last and "(reducer)" in last
    assert ("segment " in last) == (rule == "nan_in_earnest")
    assert not project.output.exists()


def test_a_rule_that_cannot_work_is_told_before_anything_starts(project):
    project.yaml("rule: rules:leaving")
    (project.folder / "rules.py").write_text((ENSEMBLE / "rules.py").read_text())
    assert "rule rules:leaving called exit(3)" in project.hpcens("run", "dataset.h5", code=1)
    assert not project.run.exists()


def test_a_member_that_raises_is_named(project):
    project.yaml(members={"linear": "Raising"}, batch_sizes="[16]")
    project.data(35)
    out = project.hpcens("run", "dataset.h5", code=1)
    assert "member linear raised ValueError: this network dislikes three rows" in out.strip().splitlines()[-1]


def test_nan_in_an_output_is_bad_data(project):
    with h5py.File(project.dataset, "r+") as file:
        file["images"][200, 0, 0, 0] = np.nan
    assert "is fed NaN or infinity in row 200" in project.hpcens("run", "dataset.h5", code=65)
    assert not project.output.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "missing.h5"], 65, "no such file"),
        (["run", "hpcens.yaml"], 65, "is not an HDF5 file"),
        (["run", "dataset.h5", "-c", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["verify", "dataset.h5"], 65, "is not a result of hpcens"),
        (["status", "nothing.run"], 2, "is no run directory"),
        (["run", "dataset.h5", "--plan", "nets.py"], 2, "cannot be read"),
        (["init"], 2, "exists"),
    ],
)
def test_wrong_input_is_told(project, arguments, code, said):
    out = project.hpcens(*arguments, code=code)
    assert said in out and "Traceback" not in out
    assert "→" in out


def test_a_result_that_no_disk_can_hold_is_refused_before_anything_starts(project):
    """Story: a dataset of 10^13 rows that holds none of them yet: 200 TB of predictions."""
    project.dataset.unlink()
    with h5py.File(project.dataset, "w") as file:
        file.create_dataset("images", (10**13, 3, 8, 8), "f4", chunks=(16, 3, 8, 8))
    out = project.hpcens("run", "dataset.h5", code=75)
    assert "will take 186,264.5 GiB" in out and "make room" in out
    assert not project.run.exists()


def test_worlds_that_are_not_what_was_started_are_told(project):
    from hpcens.launch.local import mpiexec

    alone = project.start("run", "dataset.h5")
    alone.communicate(timeout=100)
    environment = project.environment | {"PMI_SIZE": "6", "SLURM_STEP_NUM_TASKS": "6"}
    project.environment = {k: v for k, v in environment.items() if k != "PMI_RANK"}
    (project.output).unlink()
    assert "world of 1" in project.hpcens("run", "dataset.h5", code=2)
    import subprocess
    import sys

    few = subprocess.run(
        [*mpiexec(), "-n", "3", sys.executable, "-m", "hpcens", "run", "dataset.h5"],
        cwd=project.folder,
        env={k: v for k, v in environment.items() if not k.startswith(("PMI", "SLURM"))},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "the plan needs 4 ranks (reader, reducer, one a device); 3 were started" in few.stdout + few.stderr


def test_run_inside_an_mpi_world_is_a_rank(project, undisturbed):
    import subprocess
    import sys

    from hpcens.launch.local import mpiexec

    project.data(800)
    plan = undisturbed.folder / "plan.json"
    done = subprocess.run(
        [*mpiexec(), "-n", "5", sys.executable, "-m", "hpcens", "run", "dataset.h5", "--plan", str(plan)],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.predictions().tobytes() == undisturbed.predictions().tobytes()


LATE = """

class Late(Linear):
    def __init__(self):
        super().__init__()
        here = Path(__file__).parent
        while (here / "late").exists() and os.environ.get("PMI_RANK") == "3" and not scored(here):
            time.sleep(0.05)


def scored(here):
    lines = [line for file in here.glob("*.run/epochs/*/events.jsonl") for line in file.read_text().splitlines()]
    return any(event.get("rows", 0) for event in map(json.loads, lines) if event["event"] == "progress")
"""


def test_nobody_waits_for_a_device_that_still_loads(project):
    """Story: all devices waited for the slowest; here one loads until rows are durable that another has scored."""
    project.data(2000).yaml(members={"linear": "Late"})
    nets = project.folder / "nets.py"
    nets.write_text("import json\nimport os\nimport time\nfrom pathlib import Path\n" + nets.read_text() + LATE)
    project.hpcens("profile", "dataset.h5")
    (project.folder / "late").touch()
    project.hpcens("run", "dataset.h5")
    late = project.predictions()
    plan = json.loads((project.run / "epochs" / "0001" / "plan.json").read_text())
    assert [len(hosting["devices"]) for hosting in plan["hostings"]] == [2], "both score its member"
    (project.folder / "late").unlink()
    project.output.unlink()
    shutil.rmtree(project.run)
    project.hpcens("run", "dataset.h5")
    assert late.tobytes() == project.predictions().tobytes()
