"""The report of a start: what every instance and every rank did, beside the plan."""

from dataclasses import replace
from types import SimpleNamespace

from support.instances import problem
from support.placements import planned

from hpcens.roles.rank_roles import RankRoles
from hpcens.runs import MaskedRows, RankReport
from hpcens.scoring.outcome import account, bottleneck, judge, rank_report
from hpcens.vocabulary import MemberTally, Segmentation, Tally


def test_instances_are_measured_by_what_their_ranks_did():
    plan = planned(problem(3, devices=2, members=2))
    devices = dict(enumerate(plan.devices, 2))
    rank_of = {device.name: rank for rank, device in devices.items()}
    busy = plan.instances[0]
    tallies = {rank_of[busy.device]: Tally({busy.member: MemberTally(300, 1.5)})}
    ranks = [RankReport("reader", {"Read": 1.0}, 0.5, 0.0, 0)]
    masked = [MaskedRows(busy.member, "input", 3, 17)]
    roles = RankRoles((0,), (1,), devices, idle=("n0/cuda0",))
    report = account(plan, roles, tallies, 2.0, ranks, masked)
    assert (report.rows, report.rows_per_second, report.syncing_share) == (300, 150.0, 0.25)
    assert report.predicted_rows_per_second == plan.throughput
    assert (report.idle, report.ranks, report.masked) == (("n0/cuda0",), tuple(ranks), tuple(masked))
    first, *others = report.instances
    assert (first.device, first.member, first.batch) == (busy.device, busy.member, busy.batch)
    assert (first.rows, first.measured_speed, first.seconds) == (300, 200.0, 1.5)
    assert len(others) == len(plan.instances) - 1 > 0
    assert {(other.rows, other.measured_speed, other.seconds) for other in others} == {(0, None, 0.0)}


def test_rows_of_members_that_score_their_own_are_those_of_the_dataset():
    plan = planned(replace(problem(3, devices=1, members=2), parts={"m0": 0.25, "m1": 0.75}))
    roles = RankRoles((0,), (1,), {2: plan.devices[0]})
    half = Tally({"m0": MemberTally(25, 1.0), "m1": MemberTally(25, 1.0)})
    assert account(plan, roles, {2: half}, 1.0, [], []).rows == 50


def test_rows_that_no_member_scores_are_told_as_masked():
    phase = SimpleNamespace(last=True)
    verdict = judge(Segmentation(9, 3), phase=phase, missing=(), drained="", added=(), masked=(), unscored=2)
    assert verdict.reason.startswith("9 rows scored (2 that no member scores masked), every segment")


def test_the_bottleneck_is_the_role_that_was_busy_most_waits_left_out():
    reader = RankReport("reader", {"Read": 1.0, "wait for input": 8.0}, 0.0, 0.0, 0)
    devices = [RankReport(f"device n0/cpu{i}", {"Predict": busy}, 0.0, 0.0, 0) for i, busy in enumerate((9.0, 3.0))]
    assert (
        bottleneck([reader, *devices, RankReport("parked", {}, 0.0, 0.0, 0)], 10.0) == "device: busy 60 % of the time"
    )
    assert bottleneck([RankReport("parked", {}, 0.0, 0.0, 0)], 10.0) == ""


def test_a_rank_reports_this_process():
    report = rank_report("reader", {"Read": 1.0}, 0.25)
    assert (report.role, report.spent, report.syncing) == ("reader", {"Read": 1.0}, 0.25)
    assert report.cpu_seconds > 0 and report.peak_bytes > 1 << 20
    assert rank_report("reader", {}, 0.0).cpu_seconds >= report.cpu_seconds
