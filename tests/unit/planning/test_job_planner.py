"""Plans of a job: a stored one is followed, in whichever format it was written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.instances import ROW, problem
from support.placements import planned

from hpcens.checks.preflight import Preflight
from hpcens.dataset import Input
from hpcens.dataset.source import Facts
from hpcens.errors import UsageError
from hpcens.planning.job_planner import JobPlanner
from hpcens.profiling import ProfileBook, profile_key
from hpcens.specs import Job, MemberSpec, RunSpec
from hpcens.vocabulary import IoRates, Plan

# Written by the version that had no format yet, of the problem below.
EARLIER = Path(__file__).with_name("plan-format-1.json")
RATES = IoRates(
    reading=200.0,
    reading_together=300.0,
    readers_together=2,
    link=5e6,
    message_seconds=2e-5,
    disk=4e6,
    sync_seconds=0.003,
)


def the_problem():
    stated = replace(problem(4, devices=3, members=2, kinds=2), rates=RATES, readers=2, reducers=2)
    return replace(stated, devices=tuple(replace(device, host="h") for device in stated.devices))


@pytest.fixture
def job_planner(tmp_path, monkeypatch):
    """Makes the planner of a job with the members of the problem, all of whose profiles are in the book."""
    monkeypatch.setattr("hpcens.planning.job_planner.torch_version", lambda: "2.0")
    stated = the_problem()
    facts = Facts(10**6, (Input("images", (ROW["row_bytes"] // 4,), "<f4"),), {})
    preflight = Preflight(facts, {name: {"weights": name} for name in stated.members}, {}, "logits")
    members = tuple(MemberSpec(name=name, factory="nets:Net") for name in stated.members)
    book = ProfileBook(tmp_path / "book")
    for (kind, name, runtime), profile in stated.profiles.items():
        member = next(member for member in members if member.name == name)
        book.put(profile_key(preflight, member, kind, runtime), profile)

    def made(plan):
        job = Job(datasets=(), output=tmp_path / "out.h5", spec=RunSpec(members=members), plan=plan)
        return JobPlanner(job, preflight, book)

    return made


def test_a_plan_of_the_earlier_format_is_the_plan_it_was():
    earlier = Plan.load(EARLIER)
    assert "format" not in json.loads(EARLIER.read_text()) and json.loads(earlier.to_json())["format"] == 2
    assert earlier == planned(the_problem())
    assert Plan.from_json(earlier.to_json()) == earlier


def test_a_plan_of_the_earlier_format_is_followed(job_planner):
    earlier, stated = Plan.load(EARLIER), the_problem()
    assert job_planner(EARLIER).plan(stated.devices, IoRates(), readers=2) == earlier
    fewer = job_planner(EARLIER).plan(stated.devices[:2], IoRates())
    assert fewer.numerics == earlier.numerics and len(fewer.devices) == 2


def test_a_plan_of_a_later_format_is_refused(tmp_path):
    later = tmp_path / "plan.json"
    later.write_text(json.dumps(json.loads(Plan.load(EARLIER).to_json()) | {"format": 3}))
    with pytest.raises(UsageError, match="cannot be read: it has format 3, and this hpcens reads formats up to 2"):
        Plan.load(later)
