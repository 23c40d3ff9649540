"""What newcomers meet first is true: example configurations, declared versions, tasks, workflows, lists of scripts."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from support.calibrations import written
from support.project import ROOT

import hpcens
from hpcens.config import slurm_settings
from hpcens.specs import SlurmSpec

EXAMPLES = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.name != "site.yaml")
PROJECT = (ROOT / "pyproject.toml").read_text()


def pins(name):
    lines = (ROOT / "configs" / name).read_text().splitlines()
    return {_plain(line.partition("==")[0]): line.partition("==")[2] for line in lines if "==" in line}


def _plain(name):
    return re.sub(r"\[.*|[-_.]+", lambda found: "" if found[0][0] == "[" else "-", name.strip().lower())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_understood_and_says_in_its_first_line_what_it_is(path, tmp_path):
    written(tmp_path / "calibration.json", coverage=0.8, thresholds=(0.5,))
    config = hpcens.load_config(shutil.copy(path, tmp_path))
    assert config.members and config.task and path.read_text().startswith("# ")


def test_the_example_of_a_site_is_understood():
    settings = slurm_settings(SlurmSpec(), files=[ROOT / "configs" / "site.yaml"])
    assert settings.partition == "gpu" and settings.mpi == "pmix"


def test_the_lowest_versions_that_are_declared_are_those_that_are_tested():
    declared = dict(re.findall(r'^  ?"([\w-]+)(?:\[\w+\])?>=([\d.]+)"', PROJECT, re.MULTILINE))
    declared |= dict(re.findall(r'"([\w-]+)(?:\[\w+\])?>=([\d.]+)"', PROJECT))
    lowest = pins("lowest.txt")
    tested = {_plain(name): version for name, version in declared.items() if _plain(name) in lowest}
    assert {"torch", "numpy", "h5py", "scipy", "pydantic", "mpi4py", "submitit"} <= tested.keys()
    wrong = {name: version for name, version in tested.items() if not f"{lowest[name]}.".startswith(f"{version}.")}
    assert wrong == {}
    torch = next(version for name, version in declared.items() if name == "torch")
    assert f"({torch} or newer)" in (ROOT / "README.md").read_text()


def test_tools_have_the_same_version_wherever_they_run():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert set(re.findall(r"ruff==([\d.]+)", hooks)) == {pins("constraints.txt")["ruff"]}


def test_workflows_call_what_there_is():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        [job] = workflow["jobs"].values()
        commands = " ".join(step["run"] for step in job["steps"] if "run" in step)
        called = re.findall(r"\.ci/\w+", commands)
        assert called or "make environment" in commands
        assert all((ROOT / name).stat().st_mode & 0o100 for name in called)
    drills = yaml.safe_load((ROOT / ".github/workflows/drills.yml").read_text())["jobs"]["run"]["strategy"]["matrix"]
    assert all((ROOT / "tests" / "drills" / name).exists() for name in drills["drill"])
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(path.read_text())


def test_tasks_that_are_named_are_in_the_makefile():
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
    named = {word for words in re.findall(r"^make ([\w ]+?) *(?:#|$)", guide, re.MULTILINE) for word in words.split()}
    done = subprocess.run(["make", "-n", *sorted(named)], cwd=ROOT, capture_output=True, text=True)
    assert named and done.returncode == 0, done.stderr


def test_the_development_container_is_json():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert "configs/constraints.txt" in container["postCreateCommand"]


def test_every_job_is_listed():
    listed = set(re.findall(r"^\| `(\w+\.py)", (ROOT / "jobs" / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "jobs").glob("*.py")}


def test_the_changelog_begins_with_this_version():
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == hpcens.__version__
