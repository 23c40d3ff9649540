"""The Python of a job and the further options of its srun, as sites with containers name them; no Slurm is needed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hpcens
from hpcens.config import load_mapping
from hpcens.config.site import slurm_settings
from hpcens.config.slurm_checks import reserved
from hpcens.entry import command_of
from hpcens.errors import UsageError
from hpcens.launch.slurm import sbatch_text
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec, Job, RunSpec, SlurmSpec
from hpcens.units import Round, UnitsDirectory
from hpcens.worlds.elements import script

MEMBERS = [{"name": "a", "factory": "models:build", "weights": "a.pt"}]
APPTAINER = "apptainer exec --nv '/site/of hpcens.sif' python3"


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """submitit only looks whether there is one."""
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def job(**devices):
    spec = RunSpec(members=(), devices=DevicesSpec(**devices))
    return Job(datasets=(Path("/data/in.h5"),), output=Path("/data/out.h5"), spec=spec)


def steps(text):
    return next(line for line in text.splitlines() if line.startswith("srun "))


def test_a_site_names_its_container_and_the_nearer_word_wins(tmp_path, srun):
    site = tmp_path / "site.yaml"
    options = "{container_image: /a.sqsh, overlap: true, cpu-freq: low}"
    site.write_text(f'slurm: {{python: "{APPTAINER}", srun: {options}}}')
    spec = load_mapping({"members": MEMBERS, "slurm": {"srun": {"container-image": "/b b.sqsh"}}}, tmp_path).slurm
    options = ["srun.overlap=false", "srun.container-mounts=/data:/data", "srun.no-container-entrypoint"]
    settings = slurm_settings(spec, options, [site])
    assert settings.python == APPTAINER
    line = steps(sbatch_text(job(cuda=CudaSpec(count=4)), settings))
    asked = "--cpu-freq=low --container-mounts=/data:/data --no-container-entrypoint"
    assert f"--kill-on-bad-exit=1 '--container-image=/b b.sqsh' {asked} --label" in line
    assert "overlap" not in line
    assert f" sh {APPTAINER} -c 'import sys; " in line
    assert line.endswith(" -m hpcens.launch.queued -u -m submitit.core._submit /data/out.run/submitit/ID")
    assert sys.executable not in line and "entry.py" not in line
    python = slurm_settings(spec, ["python=/opt/python"], [site]).python
    assert python == "/opt/python"


@pytest.mark.parametrize(
    ("slurm", "says"),
    [
        ("srun: {ntasks: 4}", r":1: slurm.srun.ntasks: is not an option of srun to be set here; ranks are counted by"),
        ("srun: {kill-on-bad-exit: 0}", "slurm.srun.kill-on-bad-exit: is not an option"),
        ("srun: {kill: 0}", "slurm.srun.kill: is not an option of srun to be set here; a world that lost a rank"),
        ("srun: {mpi: pmix}", "slurm.srun.mpi: is not an option of srun to be set here; slurm.mpi"),
        ("srun: {n: 4}", "slurm.srun.n: is no option of srun; write its long name"),
        ("srun: {--overlap: true}", "is no option of srun; write its long name"),
        ("srun: {overlap: }", "slurm.srun.overlap: has no value; write true where srun takes none"),
        ("srun: {container-image: ''}", "slurm.srun.container-image: has no value"),
        ("srun: {container-mounts: [/a, /b]}", "slurm.srun.container-mounts: expected one value, not a list"),
        ("srun: {container-mounts: '$HOME:$HOME'}", "slurm.srun.container-mounts: .* write out what it stands for"),
        ("srun: {container-mounts: '/a:/a,~/b:/b'}", "write out what it stands for"),
        ('srun: {container-image: "a\\nb"}', "slurm.srun.container-image: holds line breaks"),
        ("srun: {a-b: 1, a_b: 2}", "slurm.srun: names an option twice"),
        ("srun: container", "slurm.srun: expected a mapping"),
        ("run: {overlap: true}", 'slurm.run: unknown key; did you mean "srun"?'),
        ("pyhton: python3", 'slurm.pyhton: unknown key; did you mean "python"?'),
        ("python: [a, b]", "slurm.python: expected text, not a list"),
        ("python: venv/bin/python", "slurm.python: .* must be a command as nodes find it"),
        ("python: ~/venv/bin/python", "slurm.python: .* nothing of it is expanded"),
        ("python: $VIRTUAL_ENV/bin/python", "slurm.python: .* nothing of it is expanded"),
        ("python: apptainer exec 'a b", "slurm.python: .* must be a command"),
        ('python: "python\\nrm"', "slurm.python: holds line breaks"),
        ("arguments: {reservation: [a, b]}", "slurm.arguments.reservation: expected one value"),
        ("arguments: {hold: }", "slurm.arguments.hold: has no value; write true where sbatch takes none"),
    ],
)
def test_what_is_not_for_the_user_to_set_is_refused_by_name(tmp_path, slurm, says):
    (tmp_path / "site.yaml").write_text(f"slurm: {{{slurm}}}")
    with pytest.raises(UsageError, match=says):
        slurm_settings(SlurmSpec(), (), [tmp_path / "site.yaml"])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("srun=overlap", "name one option of srun\n.*slurm=.'srun.NAME': 'VALUE'."),
        ("srun.ntasks=3", "slurm.srun.ntasks: is not an option of srun to be set here"),
        ("srun.", "is no option of srun"),
        ("arguments=x", "name one option of sbatch"),
        ("python", "is not key=value"),
        ("arr=0-3", "arr cannot be asked for"),  # sbatch takes the beginning of a name for the whole
    ],
)
def test_options_of_the_command_line_are_refused_likewise(option, says):
    with pytest.raises(UsageError, match=says):
        slurm_settings(SlurmSpec(), [option], ())


def test_every_option_that_a_start_sets_itself_is_reserved(srun):
    for devices in ({"cuda": CudaSpec(count=2)}, {"cpu": CpuSpec(count=2, cores=2)}):
        for settings in (SlurmSpec(), SlurmSpec(cpus_per_task=2)):
            line = steps(sbatch_text(job(**devices), settings)).partition(" sh -c ")[0]
            own = set(re.findall(r" --([a-z-]+)", line)) - {"cpu-bind"}
            assert own and all(reserved(name) for name in own)
    free = "container-image", "overlap", "export", "gpu-bind", "mem-bind", "network", "cpu-bind"
    assert not any(map(reserved, free))
    bound = SlurmSpec(srun={"cpu-bind": "cores"})
    with pytest.raises(UsageError, match=r"slurm.srun.cpu-bind: CPU devices bind themselves to cores"):
        sbatch_text(job(cpu=CpuSpec(count=2)), bound)
    assert "--cpu-bind=cores" in sbatch_text(job(cuda=CudaSpec(count=2)), bound)


def test_worlds_of_an_array_run_in_the_named_python_and_know_no_srun(tmp_path):
    directory = UnitsDirectory.of(tmp_path / "out")
    directory.make()
    own, cpus = Round("0a" * 4, 1.0), job(cpu=CpuSpec(count=1))
    last = script(directory, cpus, own, SlurmSpec(python=APPTAINER)).splitlines()[-1]
    assert last.startswith('exec sh -c \'trap "" USR2; exec "$@"\' sh ' + APPTAINER)
    assert f" -m hpcens.worlds.elements {directory.path} {own.id} " in last
    with pytest.raises(UsageError, match=r"slurm.srun.overlap: the worlds of --array are not started by srun"):
        script(directory, cpus, own, SlurmSpec(srun={"overlap": True}))


def test_another_python_begins_with_its_own_hpcens_and_not_what_lies_in_the_working_folder(tmp_path):
    for name in ("hpcens", "runpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = f"{Path(hpcens.__file__).parents[1]}:"
    words = command_of(["env", sys.executable], "hpcens", "--version")
    said = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "") and hpcens.__version__ in said.stdout
