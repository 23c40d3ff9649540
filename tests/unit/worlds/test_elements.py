"""What is asked of Slurm for worlds that score many files; no Slurm is needed."""

from dataclasses import replace
from pathlib import Path

import pytest

from hpcens.cli import main
from hpcens.errors import UsageError
from hpcens.scheduler import jobs
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec, Job, RunSpec, SlurmSpec
from hpcens.units import Round, UnitsDirectory
from hpcens.worlds.elements import goes_back, pieces, refuse_of_srun, script, submit_worlds
from hpcens.worlds.world import Tally


def job(**devices):
    spec = RunSpec(members=(), devices=DevicesSpec(**devices))
    return Job(datasets=(Path("/data/in.h5"),), output=Path("/data/out/in.h5"), spec=spec)


@pytest.fixture
def directory(tmp_path):
    made = UnitsDirectory.of(tmp_path / "out")
    made.make()
    return made


OWN = Round("0a" * 4, 1.0)


def lines(text):
    return {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")}


def test_an_element_asks_for_one_node_and_is_warned_by_itself(directory):
    text = script(
        directory,
        job(cpu=CpuSpec(count=4, cores=2)),
        OWN,
        SlurmSpec(time="30", partition="night", setup=("module load mpich",), arguments={"hold": True}),
    )
    assert {"nodes=1", "ntasks-per-node=1", "cpus-per-task=8", "signal=B:USR2@90", "time=30"} <= lines(text)
    assert {"partition=night", "requeue", "hold", f"job-name=hpcens-out-{OWN.id}"} <= lines(text)
    assert "module load mpich" in text
    assert text.splitlines()[-1].startswith('exec sh -c \'trap "" USR2; exec "$@"\' sh ')
    assert text.splitlines()[-1].endswith(f"hpcens.worlds.elements {directory.path} {OWN.id} 90 10")
    with_gpus = script(directory, job(cuda=CudaSpec(count=4)), OWN, SlurmSpec())
    assert {"gpus-per-node=4", "cpus-per-task=6"} <= lines(with_gpus)


def test_nodes_on_which_starts_failed_too_often_are_left_out_of_the_next_array(directory, monkeypatch, capsys):
    monkeypatch.setattr("hpcens.worlds.elements.failing_nodes_of_units", lambda units: {"n2": 3})
    text = script(directory, job(cpu=CpuSpec(count=1)), OWN, SlurmSpec(arguments={"exclude": "n7"}))
    assert "exclude=n7,n2" in lines(text)
    assert "n2 is left out: 3 starts failed there; to take it: --slurm exclude=none" in capsys.readouterr().err
    text = script(directory, job(cpu=CpuSpec(count=1)), OWN, SlurmSpec(arguments={"exclude": "none"}))
    assert "exclude" not in text and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (SlurmSpec(nodes=4), "slurm.nodes: 4, and each world of --array has one node"),
        (SlurmSpec(tasks_per_node=6), "slurm.tasks_per_node: 6"),
        (SlurmSpec(arguments={"array": "3"}), "write|another array"),
        (SlurmSpec(time="1", drain_seconds=600), "it would drain before"),
    ],
)
def test_what_a_world_of_one_node_does_not_take_is_refused_by_name(directory, settings, why):
    with pytest.raises(UsageError, match=why):
        script(directory, job(cpu=CpuSpec(count=1)), OWN, settings)


@pytest.mark.parametrize(("key", "value"), [("mpi", "pmix"), ("start_seconds", "60")])
def test_what_is_for_ranks_of_srun_is_refused_by_name_unless_a_site_profile_has_it(
    key, value, tmp_path, monkeypatch, capsys
):
    refuse_of_srun(SlurmSpec(time="30", partition="night"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "answers", lambda: True)
    monkeypatch.setattr("hpcens.cli.each.list_files", lambda *_, **__: pytest.fail("reached"))
    (tmp_path / "w.pt").touch()
    yaml = "members: [{name: a, factory: 'm:Net', weights: w.pt, output: values}]\nslurm: "
    (tmp_path / "hpcens.yaml").write_text(f"{yaml}{{partition: night}}\n")
    words = ["submit", "--each", "d.h5", "--array", "4"]
    (tmp_path / "hpcens.site.yaml").write_text(f"slurm: {{{key}: {value}}}\n")
    with pytest.raises(pytest.fail.Exception, match="reached"):
        main(words)
    assert main([*words, "--slurm", f"{key}={value}"]) == 2
    assert f"slurm.{key}: {value} is for ranks that srun starts" in capsys.readouterr().err
    (tmp_path / "hpcens.yaml").write_text(f"{yaml}{{{key}: {value}}}\n")
    assert main(words) == 2
    assert f"slurm.{key}: {value} is for ranks that srun starts" in capsys.readouterr().err


def test_worlds_are_asked_for_in_arrays_as_large_as_slurm_takes(directory, monkeypatch):
    asked = []

    def submit(arguments):
        asked.append(arguments[1])
        return ("", "too many jobs") if len(asked) == 4 else (str(10 + len(asked)), "")

    monkeypatch.setattr(jobs, "submit", submit)
    monkeypatch.setattr(jobs, "largest_array", lambda: 1000)
    assert list(pieces(2500, 1000)) == [1000, 1000, 500]
    own = submit_worlds(directory, job(cpu=CpuSpec(count=1)), OWN, SlurmSpec(), 2500, 10)
    assert asked == ["--array=0-999%10", "--array=0-999%10", "--array=0-499%10"]
    assert own.jobs == ("11", "12", "13") and directory.rounds() == [own]
    with pytest.raises(UsageError, match="too many jobs"):
        submit_worlds(directory, job(cpu=CpuSpec(count=1)), replace(OWN, id="0b" * 4), SlurmSpec(), 5, None)


def test_only_a_world_that_gained_something_goes_back_for_want_of_time():
    assert goes_back(Tally(short=True, gained=True), 0, 10)
    assert not goes_back(Tally(short=True), 0, 10)
    assert not goes_back(Tally(gained=True), 0, 10)
    assert not goes_back(Tally(short=True, gained=True), 10, 10)


def test_an_array_is_refused_by_name_where_no_slurm_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "answers", lambda: False)
    assert main(["submit", "d.h5", "--array", "4"]) == 2
    assert "hpcens run --join DATASET.h5 on each" in capsys.readouterr().err
    assert main(["submit", "--each", "d.h5", "--array", "4"]) == 2
    assert "none answers here" in capsys.readouterr().err
