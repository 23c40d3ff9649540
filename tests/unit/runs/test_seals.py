"""A flipped bit in the JSON of a run is noticed: nothing but what was written is ever read."""

import json
from pathlib import Path

import pytest

from hpcens.errors import HpcensError, UsageError
from hpcens.files import sealed, unsealed
from hpcens.planning.order import read_devices
from hpcens.processes import node
from hpcens.runs import Claim, Finding, RunDirectory, SlurmJob, Submission, Verdict, findings, sign
from hpcens.runs.liveness import signatures
from hpcens.runs.requeue import Requeue
from hpcens.vocabulary import Plan

EXAMPLE = (Path(__file__).parents[1] / "planning" / "plan-format-1.json").read_text()

TREE = {"numerics": {"segment_rows": 32, "members": {"a": {"batch": 8, "runtime": "eager"}}}, "data": {"rows": 1e5}}


@pytest.fixture
def run(tmp_path):
    """A run directory with one of each file."""
    run = RunDirectory(tmp_path / "x.run")
    order = {"job": json.dumps({"spec": {"devices": {"cpu": {"count": 2}, "cuda": None}}}), "preflight": ""}
    epoch = run.begin(SlurmJob("7", "c", 0, "x"), order=json.dumps(order))
    run.fix_fingerprint(TREE, epoch)
    run.keep(Submission(id="x", jobs=("7",), requeues=3, folder="f", epoch=0, submitted=1.5))
    epoch.keep_plan(Plan.from_json(EXAMPLE))
    epoch.judge(Verdict(75, "drained", "again"))
    sign(epoch, 3, "parked")
    Finding("a", "frozen", "0" * 64, 0.25).save(run.path)
    epoch.requeue.write_text(sealed(Requeue(SlurmJob("7", "c", 0), "time limit", 2.0).to_json()))
    return run


def damaged(read):
    """What reading gives, None where it is refused in words."""
    try:
        return read()
    except HpcensError:
        return None


def test_every_bit_of_every_file(run):
    epoch = run.newest
    readers = {
        epoch.claim: lambda: Claim.load(epoch.claim),
        epoch.folder / "verdict.json": lambda: epoch.verdict,
        epoch.job: lambda: read_devices(epoch),
        epoch.plan: lambda: Plan.kept(epoch.plan),
        epoch.fingerprint: lambda: run.fixed_fingerprint,
        epoch.requeue: lambda: Requeue.load(epoch.requeue),
        epoch.signatures_of(node()): lambda: signatures(epoch) or None,
        run.path / "submission.json": lambda: run.submission,
        next((run.path / "void").iterdir()): lambda: findings(run.path) or None,
    }
    for path, read in readers.items():
        content, wanted = path.read_bytes(), read()
        assert wanted is not None
        step = max(1, len(content) * 8 // 800)
        seen = set()
        for bit in range(0, len(content) * 8, step):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            got = damaged(read)
            assert got in (None, wanted), (path.name, bit)
            seen.add(got is None)
        path.write_bytes(content)
        assert (True in seen) == (path != epoch.fingerprint), path.name  # of which there is a copy


def test_a_damaged_fingerprint_has_a_copy_and_an_older_one_does_not_count(run):
    newest = run.newest
    newest.fingerprint.write_text(newest.fingerprint.read_text().replace("32", "33"))
    assert run.fixed_fingerprint == TREE
    run.fingerprint.write_text(run.fingerprint.read_text().replace("32", "33"))
    assert run.fixed_fingerprint is None
    run.fix_fingerprint(TREE, newest)
    assert run.fixed_fingerprint == TREE


def test_what_earlier_versions_wrote_is_read_and_what_a_user_changed_on_purpose_can_be():
    assert unsealed(json.dumps(TREE)) == TREE == unsealed(sealed(json.dumps(TREE)))
    for text in ("[]", "7", "null", '"x"'):
        assert unsealed(text) == json.loads(text)
    changed = json.loads(sealed(json.dumps(TREE))) | {"data": {}}
    with pytest.raises(ValueError, match="if you changed them, remove its checksum"):
        unsealed(json.dumps(changed, indent=4))
    del changed["checksum"]
    assert unsealed(json.dumps(changed)) == TREE | {"data": {}}


def test_a_plan_that_is_written_for_a_user_is_the_users_to_change(tmp_path, run):
    plan = Plan.from_json(EXAMPLE)
    plan.save(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text(json.dumps(json.loads((tmp_path / "plan.json").read_text()) | {"window": 77}))
    assert Plan.load(tmp_path / "plan.json").window == 77
    kept = run.newest.plan
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"window": 77}))
    with pytest.raises(UsageError, match="if you changed them, remove its checksum"):
        Plan.load(kept)
