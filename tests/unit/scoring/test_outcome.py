"""The report of a start: what every instance and every rank did, beside the plan."""

from support.instances import problem
from support.placements import planned

from hpcens.roles.rank_roles import RankRoles
from hpcens.runs import MaskedRows, RankReport
from hpcens.scoring.outcome import account, bottleneck, rank_report
from hpcens.vocabulary import MemberTally, Tally


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
