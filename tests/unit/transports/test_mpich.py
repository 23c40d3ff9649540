"""Names of shared memory that MPICH leaves on a node."""

import os

from hpcens.transports.mpich import remove_leftovers, shared_memory_of


def test_what_is_younger_than_the_step_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("hpcens.transports.mpich._MEMORY", tmp_path)
    (tmp_path / "mpich_shm_1ebf4db9_0").touch()  # as MPICH 5.0 names that of step 0 of job 46
    assert [path.name for path in shared_memory_of("46", "0")] == ["mpich_shm_1ebf4db9_0"]
    remove_leftovers({"SLURM_JOB_ID": "46", "SLURM_STEP_ID": "0"}, os.getpid())
    remove_leftovers({}, os.getpid())
    assert list(shared_memory_of("46", "0"))
    assert not list(shared_memory_of("46", "1"))
