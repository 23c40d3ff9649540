"""What MPICH needs on every start: names of shared memory that it leaves on a node, the network it takes."""

import os

import pytest

from hpcens.transports import mpich
from hpcens.transports.mpich import remove_leftovers, shared_memory_of


def test_what_is_younger_than_the_step_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("hpcens.transports.mpich._MEMORY", tmp_path)
    (tmp_path / "mpich_shm_1ebf4db9_0").touch()  # as MPICH 5.0 names that of step 0 of job 46
    assert [path.name for path in shared_memory_of("46", "0")] == ["mpich_shm_1ebf4db9_0"]
    remove_leftovers({"SLURM_JOB_ID": "46", "SLURM_STEP_ID": "0"}, os.getpid())
    remove_leftovers({}, os.getpid())
    assert list(shared_memory_of("46", "0"))
    assert not list(shared_memory_of("46", "1"))


SPAN = {"PMI_FD": "4", "SLURM_STEP_NUM_NODES": "2"}
BOTH = ["libmpi.so.12", "mpich/libucp.so.0", "mpich/libfabric.so.1"]


@pytest.mark.parametrize(
    ("environment", "names", "chosen"),
    [
        (SPAN, BOTH, "ofi"),
        (SPAN, BOTH[:2], None),
        (SPAN | {"SLURM_STEP_NUM_NODES": "1"}, BOTH, None),
        ({"SLURM_STEP_NUM_NODES": "2"}, BOTH, None),
        (SPAN | {"MPIR_CVAR_CH4_NETMOD": "ucx"}, BOTH, "ucx"),
    ],
)
def test_addresses_of_ucx_are_left_out_where_pmi2_cut_them_off(monkeypatch, environment, names, chosen):
    """Story: Slurm's pmi2 cut off what MPICH read behind its address, and MPI_Init died by chance."""
    monkeypatch.setattr(mpich, "_libraries", lambda: {f"/opt/mpich/lib/{name}" for name in names})
    own = dict(environment)
    mpich.take_short_addresses(own)
    assert own.get("MPIR_CVAR_CH4_NETMOD") == chosen
