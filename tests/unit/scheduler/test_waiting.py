"""Reasons to wait, as Slurm writes them: which pass by themselves."""

import pytest

from hpcens.scheduler.waiting import lasting

PASSING = (
    *("Priority", "Resources", "Dependency", "BeginTime", "Licenses", "Reservation", "Cleaning", "JobArrayTaskLimit"),
    *("AssocGrpCpuLimit", "AssocGrpNodeLimit", "AssocGrpCPURunMinutesLimit", "AssocMaxJobsLimit", "QOSGrpNodeLimit"),
    *("QOSMaxJobsPerUserLimit", "QOSMaxCpuPerUserLimit", "QOSMaxGRESPerUser", "QOSGrpCPURunMinutesLimit", ""),
    "ReqNodeNotAvail,_UnavailableNodes:n1",
)
LASTING = (
    *("PartitionNodeLimit", "PartitionTimeLimit", "PartitionConfig", "PartitionDown", "BadConstraints", "JobHeldUser"),
    *("JobHeldAdmin", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "QOSNotAllowed", "AccountNotAllowed"),
    *("AssocMaxNodePerJobLimit", "AssocMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit", "QOSMaxGRESPerNode"),
    *("AssocGrpCPUMinutesLimit", "AssocGrpGRESMinutes", "QOSGrpCPUMinutesLimit", "MaxMemPerLimit"),
    *("launch_failed_requeued_held", "JobHoldMaxRequeue", "DeadLine"),
)


@pytest.mark.parametrize("reason", PASSING)
def test_reasons_that_pass(reason):
    assert lasting(reason, "7") == ""


@pytest.mark.parametrize("reason", LASTING)
def test_reasons_that_do_not_pass_come_with_what_to_do(reason):
    assert lasting(reason, "7")


def test_a_remedy_names_the_job():
    assert lasting("JobHeldUser", "7") == "it is held; let it go: scontrol release 7"
