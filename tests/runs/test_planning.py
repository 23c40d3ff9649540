"""The verbs that answer before any device hour is spent."""

import json
from dataclasses import replace

from hpcens.checks.preflight import check
from hpcens.cli import main
from hpcens.config import load
from hpcens.planning.capacity import Capacity, PlanRequest
from hpcens.planning.nodes import Nodes, asking_for
from hpcens.reports.plans import answer_lines, deadline_line, expectation_lines
from hpcens.specs import Job, SlurmSpec


def test_the_verbs_of_planning(project, monkeypatch, capsys):
    project.hpcens("plan", "dataset.h5", "-o", "plan.json", "--html", "plan.html")
    plan = json.loads((project.folder / "plan.json").read_text())
    assert plan["rows"] == 300 and (project.folder / "plan.html").read_text().startswith("<!doctype html>")
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HPCENS_CACHE", project.environment["HPCENS_CACHE"])

    def told(*arguments, code=0):
        assert main(arguments) == code
        out = capsys.readouterr()
        return (out.out + out.err).splitlines()

    spec = load(project.folder / "hpcens.yaml")
    job = Job(datasets=(project.dataset,), output=project.output, spec=spec)
    capacity = Capacity(job, check(job))
    assert capacity.missing() == 0
    compared = list(answer_lines(capacity.answer(PlanRequest(compare=True)), None))
    assert [line.split()[0] for line in compared[1:4]] == ["optimal", "greedy", "worst-fit"]
    chosen = next(answer_lines(capacity.answer(PlanRequest(deadline=3600.0)), 3600.0))
    assert chosen.startswith("fewest nodes that finish within 1 h 00 min: 1 node (")
    expected = list(expectation_lines(capacity.expected(2)))
    assert expected[0] == "expected, from kept profiles, on 2 nodes like this host:"
    assert any("node-2/cpu1" in line for line in expected)
    here = replace(capacity._here[0], name="n/cpu0", host="n")
    monkeypatch.setattr("hpcens.planning.capacity.Capacity._described", lambda self: [Nodes("n", 3, (here,))])
    nodes, allocation = capacity.fewest(3600.0, "p")
    settings = asking_for(SlurmSpec(partition="p"), nodes, allocation.nodes)
    assert (settings.nodes, settings.gpus_per_node, settings.partition) == (1, None, "p")
    assert deadline_line(3600.0, allocation).startswith("fewest nodes that finish within 1 h 00 min: 1 n (")
    monkeypatch.undo()
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HPCENS_CACHE", project.environment["HPCENS_CACHE"])
    curve = told("plan", "dataset.h5", "--nodes", "1..3")
    assert [line.split()[0] for line in curve[1:4]] == ["1", "2", "3"]
    assert "no allocation meets a deadline" in told("plan", "dataset.h5", "--deadline", "0.000001s", code=2)[0]
    assert json.loads("".join(told("simulate", "plan.json", "--rows", "5000", "--json")))["rows"] == 5000
    assert len(told("profile", "--list")) >= 3
    assert "no dataset is given" in told("profile", code=2)[0]
    project.yaml("cluster: {gpu: {nodes: 2, kind: none such, devices: 2, memory: 8GiB}}")
    strange = replace(spec, cluster=load(project.folder / "hpcens.yaml").cluster)
    elsewhere = replace(job, spec=strange)
    (unknown,) = expectation_lines(Capacity(elsewhere, check(elsewhere)).expected(2))
    assert unknown.startswith("no plan yet: on 2 nodes: there is no profile of member linear on none such;")
    refused = told("plan", "dataset.h5", "--nodes", "2", code=2)
    assert "there is no profile of member linear on none such" in refused[0]
