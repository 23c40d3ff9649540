"""A GPU's rank is kept to the cores near its GPU, as the system's files say; nothing where they do not say it."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from support.house import ROOT

from hpcens.engine import gpus as driver
from hpcens.engine.near import keep_near

BUS = "00000000:A7:00.0"
KEEP = """
import os, sys, threading
from pathlib import Path
from hpcens.engine import near

os.sched_setaffinity(0, {int(core) for core in sys.argv[3].split(",")})
over, begun = threading.Event(), threading.Event()
late = threading.Thread(target=lambda: (begun.set(), over.wait()))
late.start()
begun.wait()
print(near.keep_near(sys.argv[1], Path(sys.argv[2])))
threads = [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
print(len(threads), {tuple(sorted(os.sched_getaffinity(thread))) for thread in threads})
over.set()
"""


def system(tmp_path, cores, domain="1"):
    device = tmp_path / "0000:a7:00.0"
    device.mkdir()
    (device / "numa_node").write_text(f"{domain}\n")
    (device / "local_cpulist").write_text(f"{cores}\n")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there are no cores to choose from")
def test_all_threads_are_kept_to_those_near(tmp_path):
    first, second = sorted(os.sched_getaffinity(0))[:2]
    system(tmp_path, f"{second},1000-1003")
    command = [sys.executable, "-c", KEEP, BUS, str(tmp_path), f"{first},{second}"]
    made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert made.stdout == f"({second},)\n2 {{({second},)}}\n", made.stderr


@pytest.mark.parametrize(
    ("bus", "cores", "domain"),
    [
        ("", "0", "1"),
        (BUS, "0", "-1"),  # one domain, or it is not known
        (BUS, "2000-2003", "1"),  # none of those this rank has
        (BUS, "0-4000", "0"),  # all of them
        (BUS, "damaged", "1"),
        ("00000000:B8:00.0", "0", "1"),
    ],
)
def test_nothing_is_done_where_it_is_not_known_or_no_choice(bus, cores, domain, tmp_path):
    system(tmp_path, cores, domain)
    before = os.sched_getaffinity(0)
    assert keep_near(bus, tmp_path) == () and os.sched_getaffinity(0) == before


def test_the_driver_says_where_a_gpu_is_and_a_slice_is_where_its_gpu_is(monkeypatch):
    table = f"0, GPU-a, A100, 40960, 40000, {BUS}\n1, GPU-b, A100, 40960, [N/A]\n"
    listing = "GPU 0: A100 (UUID: GPU-a)\n  MIG 1g.5gb      Device  0: (UUID: MIG-c)\n"
    listing += "  MIG 1g.5gb      Device  1: (UUID: MIG-d)\n"
    monkeypatch.setattr(driver, "_by_nvml", lambda: None)
    monkeypatch.setattr(driver, "ask", lambda query: table if query == driver.QUERY else listing)
    assert [(gpu.uuid, gpu.bus) for gpu in driver.gpus()] == [("MIG-c", BUS), ("MIG-d", BUS), ("GPU-b", "")]
    assert driver.gpu_of("MIG-d") == replace(driver.gpus()[1]) and driver.gpu_of("GPU-z") is None
