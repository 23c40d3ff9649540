"""What became of a start that left no verdict, in words."""

import re

import pytest

from hpcens.runs.postmortem import explain
from hpcens.scheduler.jobs import Answer


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("TIMEOUT", "time limit"),
        ("PREEMPTED", "preempted"),
        ("CANCELLED", "cancelled"),
        ("OUT_OF_MEMORY", "host memory"),
        ("NODE_FAIL", r"a node failed \(n3\)"),
    ],
)
def test_ends_in_words(state, says):
    assert re.search(says, explain(Answer(state, nodes="n3"), "", None).reason)


def test_a_job_that_never_began_gives_the_last_words_of_its_first_task(tmp_path):
    """One log a node, every line with its task; the script's says what srun said."""
    (tmp_path / "7_script.log").write_text("srun: error: n1: task 12: Exited with exit code 1\n")
    assert "Exited with exit code 1" in explain(Answer("FAILED"), str(tmp_path), None).reason
    (tmp_path / "7_n2_0.log").write_text("12: ImportError: of the last task\n 3: ImportError: no such module\n\n")
    (tmp_path / "7_n1_0.log").write_text("slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED ***\n")
    assert explain(Answer("FAILED"), str(tmp_path), None).reason.endswith(": ImportError: no such module")
    (tmp_path / "7_n2_0.log").write_text("0: hpcens: member a hangs\n0: hpcens: a rank on n2 ended without a word\n")
    assert explain(Answer("FAILED"), str(tmp_path), None).reason.endswith(": hpcens: member a hangs")
    (tmp_path / "7_n2_0.log").write_text(" 3: PMIX ERROR: unreachable\n")
    assert "mpi=pmi2" in explain(Answer("FAILED"), str(tmp_path), None).remedy


def test_a_job_of_an_earlier_version_that_never_began_gives_its_last_words_and_misfits_their_remedy(tmp_path):
    (tmp_path / "7_0_log.err").write_text("ModuleNotFoundError: No module named 'hpcens'\nsrun: error: n1: exit 1\n")
    assert "No module named 'hpcens'" in explain(Answer("FAILED"), str(tmp_path), None).reason
    (tmp_path / "7_1_log.err").write_text("slurmstepd-n2: error: mpi/pmi2: invalid client request\n")
    assert "NETMOD=ofi" in explain(Answer("FAILED"), str(tmp_path), None).remedy
    said = "srun: error: Invalid MPI type 'pmix', --mpi=list for acceptable types"
    (tmp_path / "7_1_log.err").write_text(f"{said}\n")
    told = explain(Answer("FAILED"), str(tmp_path), None)
    assert (said in told.reason, "mpi=pmi2" in told.remedy) == (True, True)
