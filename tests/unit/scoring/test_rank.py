"""A rank's start: it sees its own GPU alone, or none, before anything of torch is imported."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.house import ROOT
from support.results import begin, directory

from hpcens.errors import DeviceFailed, MemberError
from hpcens.scoring import rank as module

PROGRAM = """
import os, sys
from types import SimpleNamespace
from hpcens.roles import RankRoles
from hpcens.scoring import rank as module
from hpcens.vocabulary import Device

own = int(sys.argv[1])
device = Device("n/cuda1", "cuda", "cuda A100", 1, 1, 1, "n")
roles = RankRoles((0,), (1,), {2: device}, {"n": 0}, (), {2: "GPU-b"})
module.agree_on_roles = lambda world, epoch: (roles, [])
module.check_world = lambda *of: None
module.Epoch, module.sign = None, lambda *of: None

def importing(device):
    print(os.environ["CUDA_VISIBLE_DEVICES"], "torch" in sys.modules)
    raise SystemExit(0)

module.import_ahead = importing
rank = object.__new__(module.Rank)
rank._epoch, rank._run, rank.role = SimpleNamespace(folder=""), None, "starting"
rank._tell = lambda line: None
rank._seat = SimpleNamespace(roles=None)
nothing = lambda *of: None
rank._heartbeat = SimpleNamespace(speak_for_node=nothing, watch=nothing, tell_load=nothing)
rank.world = SimpleNamespace(rank=own, size=3, broadcast=lambda order: importing(None))
rank.live(3, "mpiexec", only_profile=False)
"""


def test_a_rank_sees_its_own_gpu_alone_and_readers_and_reducers_see_none():
    for own, sees in ((1, ""), (2, "GPU-b")):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
        command = [sys.executable, "-c", PROGRAM, str(own)]
        made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        assert (made.stdout, made.returncode) == (f"{sees} False\n", 0), made.stderr


@pytest.mark.parametrize(
    ("error", "node"),
    [
        (DeviceFailed("GPU GPU-aa11 of n7 failed: ECC", "n7"), "n7"),
        (DeviceFailed("GPU GPU-aa11 of n7 failed: illegal memory access"), ""),
        (MemberError("member a raised", "correct it"), ""),
        (RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"), "n2"),
    ],
)
def test_the_node_of_a_broken_gpu_that_ended_a_start_is_named(error, node, tmp_path):
    """Whichever rank says so; it may be left out by the next start."""
    epoch = begin(directory(tmp_path))
    codes = []
    world = SimpleNamespace(rank=2, node="n2", lost_peer=lambda error: False, abort=codes.append)
    module._fail(SimpleNamespace(world=world, role="device n2/cuda0"), epoch, error)
    assert (epoch.verdict.node, epoch.verdict.code) == (node, codes[0])
