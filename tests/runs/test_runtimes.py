"""Whole runs in a runtime other than eager."""

import json

import h5py

from hpcens.runtimes.agreement import difference


def test_a_run_in_another_runtime(project, tmp_path):
    """The result says which, and how far from eager it was; a resume keeps it, whatever the YAML says by then."""
    project.environment["HPCENS_CACHE"] = str(tmp_path / "cache")  # a runtime known here is none for other tests' auto
    project.data(rows=20_000).hpcens("run", "dataset.h5")
    wanted = project.predictions()
    project.yaml("output: frozen.h5", batch_sizes="[16], runtime: frozen")
    project.hpcens("run", "dataset.h5", "--trace", "trace.json")
    with h5py.File(project.folder / "frozen.h5") as file:
        assert difference(file["prediction"][:], wanted, probabilities=True) < 1e-6
        plan = json.loads(file["hpcens/plan"][:].tobytes())
    members = plan["numerics"]["members"]
    assert {of["runtime"] for of in members.values()} == {"frozen"}
    assert plan["differences"].keys() == members.keys() and max(plan["differences"].values()) < 1e-6
    trace = json.loads((project.folder / "trace.json").read_text())["traceEvents"]
    names = {event["name"] for event in trace if event["ph"] == "X"}
    assert {"linear", "conv", "recurrent", "Read", "Write", "Flush", "wait for input"} <= names
    report = json.loads(next((project.folder / "frozen.run").glob("epochs/*/report.json")).read_text())
    assert report["bottleneck"].partition(":")[0] in ("reader", "reducer", "device")
    assert len(report["ranks"]) == 4
    for rank in report["ranks"]:
        assert 0 < sum(rank["spent"].values()) <= 1.05 * report["seconds"], "shares of the time add up to it"


def test_a_runtime_that_cannot_be_is_refused_with_the_reason(project):
    project.data(rows=100).yaml(batch_sizes="[16], runtime: cuda_graphs")
    said = project.hpcens("run", "dataset.h5", code=2)
    assert "member linear cannot run in cuda_graphs on cpu" in said and "plan.runtime: auto" in said
