"""Kinds of node to plan for, from what Slurm says of its nodes."""

import pytest

from hpcens.errors import UsageError
from hpcens.planning.inventory import inventory
from hpcens.scheduler.nodes import NodeGroup, parse_nodes
from hpcens.specs import CpuSpec, DevicesSpec
from hpcens.vocabulary import Device

SINFO = """\
gpu|2|mix|64|515000|gpu:a100:4(S:0-1)
gpu|14|idle|64|515000|gpu:a100:4(S:0-1)
gpu|1|down*|64|515000|gpu:a100:4(S:0-1)
gpu|3|alloc|48|257000+|gpu:nvidia_a100_1g.10gb:7(S:0),gpu:t4:1(S:1)
cpu|40|idle~|128|1031000|(null)
cpu|2|drain|128|1031000|(null)
"""


def test_nodes_that_can_be_used_are_read_from_sinfo():
    assert parse_nodes(SINFO) == (
        NodeGroup("gpu", 16, 64, 515000 << 20, (("a100", 4),)),
        NodeGroup("gpu", 3, 48, 257000 << 20, (("nvidia_a100_1g.10gb", 7), ("t4", 1))),
        NodeGroup("cpu", 40, 128, 1031000 << 20),
    )
    assert parse_nodes("") == () and parse_nodes("p|1|idle|8|1000|gpu:2")[0].gpus == (("", 2),)


def test_the_inventory_names_devices_as_profiles_do():
    groups = parse_nodes(SINFO)
    a100 = Device("login/cuda0", "cuda", "cuda NVIDIA A100-SXM4-40GB", 42 << 30, host="login")
    profiled = ["cpu×2 a", "cuda NVIDIA A100-SXM4-80GB MIG 1g.10gb", "cuda Tesla T4 16GB"]
    found = inventory(groups, DevicesSpec(), [a100], profiled)
    assert [(of.name, of.count, of.partition, len(of.devices)) for of in found] == [
        ("gpu", 16, "gpu", 4),
        ("gpu-2", 3, "gpu", 8),
    ]
    assert {d.kind for d in found[0].devices} == {a100.kind} and found[0].devices[0].memory == 42 << 30
    assert [(d.kind, d.memory) for d in found[1].devices[6:]] == [
        ("cuda nvidia_a100_1g.10gb", 9_500_000_000),
        ("cuda Tesla T4 16GB", 15_200_000_000),
    ]
    with pytest.raises(UsageError, match="Slurm has GPUs t4, and nothing says how much memory they have"):
        inventory(groups, DevicesSpec(), [a100], [])
    cpu = Device("h/cpu0", "cpu", "cpu×1 x", 1 << 40, host="h")
    cpus = inventory(groups, DevicesSpec(cpu=CpuSpec(count=4)), [cpu], [])
    assert [(of.name, len(of.devices)) for of in cpus] == [("gpu", 4), ("gpu-2", 4), ("cpu", 4)]
    assert cpus[2].devices[0].memory == int(0.9 * (1031000 << 20)) // 4
