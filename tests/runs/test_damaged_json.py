"""JSON of the wrong kind in any file of a run or of the cache: a message, or made anew; never a traceback."""

import json
import shutil

import h5py
import numpy as np
import pytest
from support.mutations import JsonFuzz
from support.project import MEMBERS, Project

from hpcens.cli import main
from hpcens.files import unsealed
from hpcens.profiling import ProfileBook

DEEP = "[" * 100_000
WRONG = ["[]", "{}", "null", "7", '"text"', '{"x": 1}', "[1, 2]", "NaN", '{"format": NaN}', DEEP, '{"x":' * 50_000, ""]
RUN = ("fingerprint.json", "submission.json", "controller.json", "cancel")
EPOCH = ("job.json", "claim.json", "plan.json", "report.json", "verdict.json", "events.jsonl", "requeue.json")


def mutations(text):
    """Yield texts with one value after another replaced by one of a wrong kind."""
    yield from WRONG
    try:
        tree = unsealed(text)  # what its checksum finds is found; here is what lies behind it
    except ValueError:
        return
    text = json.dumps(tree)
    for wrong in (None, [], {}, "x", -1, 10**400, float("nan"), float("inf"), True, "\x1b[2J"):
        for place in places(tree):
            copy = json.loads(text)
            inner = copy
            for part in place[:-1]:
                inner = inner[part]
            inner[place[-1]] = wrong
            yield json.dumps(copy)


def places(tree, place=(), depth=3):
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree[:1]) if isinstance(tree, list) else ()
    for part, inner in parts:
        yield (*place, part)
        if depth > 1:
            yield from places(inner, (*place, part), depth - 1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, weights):
    """A project that was scored, with a cache of its own."""
    home = tmp_path_factory.mktemp("damaged")
    cache = home / "cache"
    made = Project(home, weights, cache).data(64)
    made.yaml(members={"linear": MEMBERS["linear"]}, devices="{cpu: 1}")
    made.hpcens("run", "dataset.h5")
    yield made
    made.end()


def signature(run):
    return next((run / "epochs" / "0001" / "ranks").glob("*.jsonl"))


def test_no_damage_of_a_runs_files_is_a_traceback_to_those_who_only_read(finished, monkeypatch, capfd):
    """Status, list, verify, logs and run, which finds the result complete."""
    monkeypatch.chdir(finished.folder)
    monkeypatch.setenv("HPCENS_CACHE", finished.environment["HPCENS_CACHE"])
    epoch = finished.run / "epochs" / "0001"
    files = [finished.run / name for name in RUN] + [epoch / name for name in EPOCH] + [signature(finished.run)]
    tried = 0
    for file in files:
        before = file.read_text() if file.exists() else None
        for text in mutations(before or "{}"):
            file.write_text(text + ("\n" if file.suffix == ".jsonl" else ""))
            for verb in (["status", str(finished.run)], ["status", "--json", str(finished.run)]):
                assert main(verb) in (0, 1, 2, 75), (file.name, text[:100])
            if text in WRONG:
                assert main(["verify", str(finished.output)]) == 0, (file.name, text[:100])
                assert main(["logs", str(finished.run)]) == 0, (file.name, text[:100])
            tried += 1
        file.unlink() if before is None else file.write_text(before)
    said = capfd.readouterr()
    assert tried > 500 and "Traceback" not in said.err and "\x1b[2J" not in said.out + said.err


def test_no_damage_of_a_plan_is_a_traceback(finished, monkeypatch, capfd):
    text = (finished.run / "epochs" / "0001" / "plan.json").read_text()
    plan = finished.folder / "given.json"
    codes = set()
    for wrong in mutations(text):
        plan.write_text(wrong)
        codes.add(main(["simulate", str(plan)]))
    plan.write_text(text)
    assert main(["simulate", str(plan)]) == 0
    assert codes <= {0, 2} and 2 in codes
    assert "Traceback" not in capfd.readouterr().err


def test_what_is_damaged_in_the_cache_is_measured_anew(finished, monkeypatch, capfd):
    cache = finished.folder / "cache"
    monkeypatch.setenv("HPCENS_CACHE", str(cache))
    book = ProfileBook.default()
    files = sorted(cache.rglob("*.json"))
    assert {file.parent.name for file in files} >= {"profiles", "trials"}
    for file in files:
        before = file.read_text()
        for text in mutations(before):
            file.write_text(text)
            assert main(["profile", "--list"]) == 0, text[:100]
            for kind in book.kinds():
                assert all(0 < part < float("inf") for part in book.reached(kind))
        file.write_text(before)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("damaged", "wrong"),
    [
        ("fingerprint.json", "{}"),
        ("fingerprint.json", '{"members": {}, "numerics": 7}'),
        ("epochs/0001/claim.json", "[]"),
        ("epochs/0001/verdict.json", "{}"),
        ("epochs/0001/plan.json", '{"members": {}, "numerics": 7}'),
        ("cache", "[]"),
        ("cache", "{}"),
    ],
)
def test_a_run_goes_on_and_gives_the_same_bytes(finished, damaged, wrong, tmp_path, weights):
    """What is unfinished is begun anew, or refused in words."""
    made = Project(tmp_path, weights, tmp_path / "cache")
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    with h5py.File(made.output) as file:
        expected = file["prediction"][:]
    made.output.unlink()
    for file in (tmp_path / "cache").rglob("*.json") if damaged == "cache" else [made.run / damaged]:
        file.write_text(wrong)
    assert "complete" in made.hpcens("run", "dataset.h5")
    with h5py.File(made.output) as file:
        assert np.array_equal(file["prediction"][:], expected)


def test_mutated_json_is_an_answer(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    monkeypatch.setenv("HPCENS_CACHE", finished.environment["HPCENS_CACHE"])
    fuzz = JsonFuzz(finished)
    for number in range(150):
        fuzz.candidate(number, seed=1)
    assert fuzz.faults == []
