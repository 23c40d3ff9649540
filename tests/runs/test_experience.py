"""What a run notes of its devices, and the next plan counts on."""

import json
import shutil

import pytest

from hpcens.planning.experience import BATCHES
from hpcens.profiling import ProfileBook
from hpcens.runs import RunDirectory
from hpcens.vocabulary import Plan


def test_plans_count_on_what_the_latest_runs_reached(project, tmp_path):
    """A run notes it; the next plan is made of profiles times the median; what was cleared is forgotten."""
    project.data(1400).yaml(members={"linear": "Linear"})
    project.environment["HPCENS_CACHE"] = str(tmp_path / "cache")
    project.hpcens("run", "dataset.h5")
    book = ProfileBook(tmp_path / "cache" / "profiles")
    [kind] = book.kinds()
    [part] = book.reached(kind)
    [epoch] = RunDirectory(project.run).epochs()
    instances = json.loads(epoch.report.read_text())["instances"]
    counted = [of for of in instances if of["rows"] >= BATCHES * of["batch"]]  # less of a device that joined late
    took = sum(of["rows"] / of["measured_speed"] for of in counted)
    rows = sum(of["rows"] for of in counted)
    assert part == pytest.approx(rows / instances[0]["speed"] / took, rel=1e-6)
    for other in (0.5, 0.25, 0.5, 0.5):
        book.put_reached(kind, other)
    shutil.rmtree(project.run)
    project.output.unlink()
    anew = Plan.from_json(project.hpcens("plan", "dataset.h5", "--json"))
    assert [of.speed for of in anew.instances] == pytest.approx([of["speed"] / 2 for of in instances])
    assert f"{kind}: plans count on 0.50" in project.hpcens("profile", "--list")
    for number in range(20):
        book.put_reached(kind, number)
    assert book.reached(kind) == list(range(11, 20))
    assert book.clear() and not book.kinds() and not book.reached(kind)
