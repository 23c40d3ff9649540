"""What MPICH needs on every start: names of shared memory that it leaves on a node, the network it takes."""

import os
import sys

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
    ("environment", "names", "wheel", "again", "chosen"),
    [
        (SPAN, BOTH, True, False, "ofi"),
        (SPAN, BOTH, True, True, None),
        (SPAN, BOTH, False, False, None),
        (SPAN, BOTH, False, True, "ofi"),
        (SPAN, BOTH[:2], True, False, None),
        (SPAN | {"SLURM_STEP_NUM_NODES": "1"}, BOTH, True, False, None),
        ({"SLURM_STEP_NUM_NODES": "2"}, BOTH, True, False, None),
        (SPAN | {"MPIR_CVAR_CH4_NETMOD": "ucx"}, BOTH, True, False, "ucx"),
    ],
)
def test_addresses_of_ucx_are_not_left_to_pmi2(monkeypatch, environment, names, wheel, again, chosen):
    """Story: Slurm's pmi2 cut off what MPICH read behind its address, and MPI_Init died by chance."""
    folder = f"{sys.prefix}/lib" if wheel else "/opt/mpich/lib"
    monkeypatch.setattr(mpich, "_libraries", lambda: {f"{folder}/{name}" for name in names})
    own = dict(environment)
    mpich.choose_network(own, again=again)
    assert own.get("MPIR_CVAR_CH4_NETMOD") == chosen
