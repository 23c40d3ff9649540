"""Discover: the devices of a host, from what nvidia-smi, the environment and the kernel say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcens.engine import discovery as module
from hpcens.engine import gpus as driver
from hpcens.engine import torch_build
from hpcens.engine.discovery import as_devices, discover, first_family, identities, require_host_holds
from hpcens.engine.gpus import parse_slices, parse_table, visible
from hpcens.errors import UsageError
from hpcens.processes.memory import group_limits, host_memory
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec

TOLD = """0, GPU-aa11, NVIDIA A100-SXM4-40GB, 40960
1, GPU-aa22, NVIDIA A100-SXM4-40GB, 40960
2, GPU-cc33, Tesla T4, 15360
"""


def parse_gpus(told, names, host):
    return as_devices(visible(tuple(parse_table(told)), names), host)


A100, T4 = "cuda NVIDIA A100-SXM4-40GB", "cuda Tesla T4"


class TestGpus:
    @pytest.mark.parametrize(
        ("visible", "kinds"),
        [
            (None, [A100, A100, T4]),
            ("0,1,2", [A100, A100, T4]),
            ("2,0", [T4, A100]),
            (" 2 , 1 ", [T4, A100]),
            ("GPU-cc", [T4]),
            ("GPU-cc33,GPU-aa22", [T4, A100]),
            ("GPU-cc,0", [T4, A100]),
            ("", []),
            ("NoDevFiles", []),
            ("-1", []),
            ("2,-1,0", [T4]),
            ("2,7,0", [T4]),
            ("GPU-aa", []),
        ],
    )
    def test_those_visible_in_their_order(self, visible, kinds):
        found = parse_gpus(TOLD, visible, "n1")
        assert [device.kind for device in found] == kinds
        assert [(device.name, device.index) for device in found] == [(f"n1/cuda{i}", i) for i in range(len(kinds))]
        assert [device.memory >> 20 for device in found] == [40960 if kind == A100 else 15360 for kind in kinds]
        assert all(device.family == "cuda" for device in found)

    @pytest.mark.parametrize("told", ["", "No devices were found\n", "NVIDIA-SMI has failed because it couldn't\n"])
    def test_none(self, told):
        assert parse_gpus(told, None, "n1") == ()

    def test_ten_and_more(self):
        told = "".join(f"{i}, GPU-{i:04x}, H100, 81559\n" for i in range(12))
        assert [device.index for device in parse_gpus(told, "10,1,11", "n1")] == [0, 1, 2]
        assert len(parse_gpus(told, None, "n1")) == 12


@pytest.fixture
def gpus(monkeypatch):
    """A host with the GPUs of the table."""
    monkeypatch.setattr(module, "_visible", lambda: tuple(parse_table(TOLD)))


@pytest.fixture
def _no_gpus(monkeypatch):
    monkeypatch.setattr(module, "_visible", tuple)


class TestDiscover:
    def test_cpu_devices_as_asked(self):
        found = discover(DevicesSpec(cpu=CpuSpec(count=3, cores=2, memory=1 << 30)))
        assert [(device.cores, device.memory, device.family) for device in found] == [(2, 1 << 30, "cpu")] * 3
        assert [device.name.split("/")[1] for device in found] == ["cpu0", "cpu1", "cpu2"]
        assert len({device.kind for device in found}) == 1 and "×2" in found[0].kind

    def test_cpu_devices_share_the_memory_there_is(self, monkeypatch):
        monkeypatch.setattr(module, "host_memory", lambda: 100 << 30)
        assert [d.memory for d in discover(DevicesSpec(cpu=CpuSpec(count=4)))] == [(100 << 30) * 9 // 40] * 4

    @pytest.mark.usefixtures("_no_gpus")
    def test_with_nothing_asked_and_no_gpu_one_a_core(self):
        found = discover(DevicesSpec())
        assert len(found) == len(os.sched_getaffinity(0)) and {d.cores for d in found} == {1}
        assert sum(d.memory for d in found) <= host_memory() * 9 // 10

    @pytest.mark.usefixtures("gpus")
    def test_with_nothing_asked_all_gpus(self):
        assert [device.kind for device in discover(DevicesSpec())] == [A100, A100, T4]

    @pytest.mark.usefixtures("gpus")
    def test_gpus_as_asked(self):
        found = discover(DevicesSpec(cuda=CudaSpec(count=2, memory=50 << 30)))
        assert [(device.kind, device.memory) for device in found] == [(A100, 40 << 30)] * 2
        found = discover(DevicesSpec(cuda=CudaSpec(memory=20 << 30), cpu=CpuSpec(count=1)))
        assert [d.memory >> 30 for d in found[:3]] == [20, 20, 15]
        assert [d.family for d in found] == ["cuda"] * 3 + ["cpu"]

    @pytest.mark.usefixtures("gpus")
    def test_only_cpus_where_only_they_are_asked_for(self):
        assert [d.family for d in discover(DevicesSpec(cpu=CpuSpec(count=2)))] == ["cpu"] * 2

    @pytest.mark.usefixtures("gpus")
    def test_more_gpus_than_are_visible(self):
        with pytest.raises(UsageError, match="4 GPUs are asked for, 3 are visible"):
            discover(DevicesSpec(cuda=CudaSpec(count=4)))

    @pytest.mark.usefixtures("_no_gpus")
    @pytest.mark.parametrize(("count", "said"), [(2, "2 GPUs are asked for"), (None, "some GPUs are asked for")])
    def test_gpus_where_there_are_none(self, count, said):
        with pytest.raises(UsageError, match=f"{said}, 0 are visible"):
            discover(DevicesSpec(cuda=CudaSpec(count=count)))

    def test_imports_no_torch(self):
        code = (
            "import sys; from hpcens.engine.discovery import discover; from hpcens.specs import DevicesSpec;"
            "discover(DevicesSpec()); sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3]).returncode == 0


LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb      Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-b33ae21d-7a3a-4bd0-a8e4-ca7c34d63d10)
  MIG 1g.10gb+me  Device  0: (UUID: MIG-40a25e1a-1a7b-5b2f-9e3d-3c1c6a0d4e55)
"""


class TestSlices:
    def found(self, names):
        return as_devices(visible(parse_slices(LISTED), names), "h")

    def test_a_slice_is_a_device_of_a_kind_and_a_memory_of_its_own(self):
        (found,) = self.found("MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d")
        assert (found.kind, found.memory) == ("cuda NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4_750_000_000)

    def test_each_of_those_named_is_one_and_where_none_is_named_all_are(self):
        several = self.found("MIG-40a25e1a-1a7b-5b2f-9e3d-3c1c6a0d4e55,MIG-a28ad590")
        assert [(found.name, found.kind.split("MIG ")[1]) for found in several] == [
            ("h/cuda0", "1g.10gb+me"),
            ("h/cuda1", "1g.5gb"),
        ]
        assert [found.kind.split("MIG ")[1] for found in self.found(None)] == ["3g.20gb", "1g.5gb", "1g.10gb+me"]
        assert [found.kind.split("MIG ")[1] for found in self.found("1,0")] == ["1g.10gb+me", "3g.20gb"]

    @pytest.mark.parametrize("names", ["MIG-00000000", ""])
    def test_of_no_slice_there_is_none(self, names):
        assert self.found(names) == ()


SAYS = {
    "-L": LISTED,
    "query": """0, GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f, NVIDIA A100-SXM4-40GB, 40960, 40000
1, GPU-b33ae21d-7a3a-4bd0-a8e4-ca7c34d63d10, NVIDIA H100 80GB HBM3, 81559, 80000
2, GPU-00000000-1111-2222-3333-444444444444, NVIDIA H100 80GB HBM3, 81559, 20000
""",
}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with the files of three NVIDIA GPUs, whose nvidia-smi says what `says` holds."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module, "_DEV", tmp_path / "dev")
    monkeypatch.setattr(module, "_AMD", tmp_path / "dev" / "kfd")
    monkeypatch.setattr(driver, "_by_nvml", lambda: None)
    monkeypatch.setattr(module, "torch_build", lambda: {"cuda": "13.0", "git_version": "c6"})
    (tmp_path / "dev" / "dri").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "dev" / f"nvidia{i}").touch()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def says(script):
        file = tmp_path / "bin" / "nvidia-smi"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    (tmp_path / "list").write_text(SAYS["-L"])
    (tmp_path / "query").write_text(SAYS["query"])
    says(f'case "$1" in -L) cat {tmp_path}/list;; *) cat {tmp_path}/query;; esac')
    return says


class TestTheDriver:
    def test_slices_stand_for_their_gpus_and_memory_is_what_is_free(self, host):
        found = discover(DevicesSpec())
        assert [d.kind.partition("MIG ")[2] for d in found] == ["3g.20gb", "1g.5gb", "1g.10gb+me", ""]
        assert found[3].memory == int(0.95 * (20000 << 20)) // (64 << 20) * (64 << 20), "others use it"
        first, *_, last = identities(found)
        assert first == "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"
        assert last == "GPU-00000000-1111-2222-3333-444444444444"

    @pytest.mark.parametrize("script", ["echo Failed to initialize NVML; exit 9", "echo 'no driver' >&2; exit 1"])
    def test_gpus_without_an_answer_are_no_reason_to_compute_on_cores(self, host, script):
        """Story: nvidia-smi failed on one node, and its cores scored for a day."""
        host(script)
        with pytest.raises(
            UsageError, match=r"has GPUs, and nvidia-smi gives no answer: (Failed to init|no driver)"
        ) as e:
            discover(DevicesSpec())
        assert "devices: {cpu: N}" in e.value.remedy
        with pytest.raises(UsageError, match="gives no answer"):
            identities(parse_gpus(TOLD, None, "n1"))
        assert [d.family for d in discover(DevicesSpec(cpu=CpuSpec(count=2)))] == ["cpu"] * 2

    def test_a_torch_without_cuda_is_told_before_anything_starts(self, host, monkeypatch):
        """Story: its ranks ended with an assertion of torch's, that it is not compiled with CUDA enabled."""
        monkeypatch.setattr(module, "torch_build", lambda: {"git_version": "c6"})
        for spec in (DevicesSpec(), DevicesSpec(cuda=CudaSpec())):
            with pytest.raises(UsageError, match=r"has GPUs \(.*\), and its torch is built without CUDA") as caught:
                discover(spec)
            assert "pytorch.org" in caught.value.remedy and "devices: {cpu: N}" in caught.value.remedy
        assert [d.family for d in discover(DevicesSpec(cpu=CpuSpec(count=2)))] == ["cpu"] * 2
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert {d.family for d in discover(DevicesSpec())} == {"cpu"}, "none is shown to it"

    def test_nvidia_smi_that_hangs_is_given_up(self, host, monkeypatch):
        monkeypatch.setattr(driver, "_SECONDS", 0.2)
        host("exec sleep 60")
        with pytest.raises(UsageError, match="timed out"):
            discover(DevicesSpec())

    def test_the_driver_is_what_nvml_says_or_else_the_kernel(self, monkeypatch, tmp_path):
        nvml = type("Nvml", (), {"nvmlInit": lambda: None, "nvmlShutdown": lambda: None})
        nvml.nvmlSystemGetDriverVersion = lambda: b"570.124.06"
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        told = driver.driver.__wrapped__
        assert told() == "570.124.06"
        nvml.nvmlInit = lambda: (_ for _ in ()).throw(RuntimeError("Driver/library version mismatch"))
        version = tmp_path / "version"
        monkeypatch.setattr(driver, "_KERNEL_MODULES", (tmp_path / "none", version))
        assert told() == ""
        version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build\nGCC 13")
        assert told() == "575.57.08"

    def test_nvml_is_asked_first(self, host, monkeypatch):
        class Nvml:
            NVMLError = type("NVMLError", (Exception,), {})

            def __getattr__(self, name):
                return lambda *of: None

            def nvmlDeviceGetCount(self):  # noqa: N802
                return 3

            def nvmlDeviceGetHandleByIndex(self, i):  # noqa: N802
                if i == 1:
                    raise self.NVMLError("Insufficient Permissions")
                return i

            def nvmlDeviceGetMigMode(self, gpu):  # noqa: N802
                return (int(gpu == 2), 0)

            def nvmlDeviceGetMaxMigDeviceCount(self, gpu):  # noqa: N802
                return 7

            def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu, place):  # noqa: N802
                if place % 2:
                    raise self.NVMLError("Not Found")
                return f"slice {place}"

            def nvmlDeviceGetMemoryInfo(self, gpu):  # noqa: N802
                return type("Memory", (), {"total": 80 << 30, "free": (10 if gpu == 0 else 80) << 30})

            def nvmlDeviceGetName(self, gpu):  # noqa: N802
                return b"H100"

            def nvmlDeviceGetUUID(self, gpu):  # noqa: N802
                return f"MIG-{gpu[-1]}" if isinstance(gpu, str) else f"GPU-{gpu}"

        monkeypatch.undo()
        monkeypatch.setitem(sys.modules, "pynvml", Nvml())
        assert [(gpu.place, gpu.uuid, gpu.free >> 30) for gpu in driver.gpus()] == [
            ("0", "GPU-0", 10),
            *((f"2:{place}", f"MIG-{place}", 80) for place in (0, 2, 4, 6)),
        ]

    def test_the_family_of_the_first_is_known_without_asking(self, host, tmp_path):
        """Trials are kept by it: what works on a core may not on a card."""
        host("exit 9")
        cpu, cuda = DevicesSpec(cpu=CpuSpec(count=1)), DevicesSpec(cuda=CudaSpec(), cpu=CpuSpec(count=1))
        assert [first_family(spec) for spec in (DevicesSpec(), cuda, cpu)] == ["cuda", "cuda", "cpu"]
        for i in range(3):
            (tmp_path / "dev" / f"nvidia{i}").unlink()
        assert [first_family(spec) for spec in (DevicesSpec(), cuda, cpu)] == ["cpu", "cuda", "cpu"]

    def test_other_makers_are_told(self, host, tmp_path, monkeypatch):
        for i in range(3):
            (tmp_path / "dev" / f"nvidia{i}").unlink()
        wants = DevicesSpec(cuda=CudaSpec())
        (tmp_path / "dev" / "dri" / "renderD128").touch()
        with pytest.raises(UsageError, match="0 are visible; there is one of Intel's or another maker's"):
            discover(wants)
        (tmp_path / "dev" / "kfd").touch()
        monkeypatch.setattr(module, "torch_build", dict)
        with pytest.raises(UsageError, match=r"one of AMD's, which needs torch's build for ROCm"):
            discover(wants)
        monkeypatch.setattr(module, "torch_build", lambda: {"hip": "6.2"})
        if not torch_build.torch_build().get("cuda"):
            with pytest.raises(UsageError, match="some GPUs are asked for, 0 are visible"):
                discover(wants)  # torch, asked in a process of its own, sees none


def test_torch_says_what_it_was_built_for_without_being_imported():
    code = (
        "import sys; from hpcens.engine.torch_build import gpu_libraries; built = gpu_libraries();"
        "import_free = 'torch' not in sys.modules; import torch; assert import_free;"
        "assert built['git_version'] == torch.version.git_version and built.get('cuda') == torch.version.cuda"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestMemoryLimits:
    def test_of_the_group_and_those_around_it(self, tmp_path):
        job = tmp_path / "system.slice" / "slurmstepd.scope" / "job_7"
        step = job / "step_0" / "user"
        step.mkdir(parents=True)
        (tmp_path.parent / "memory.max").write_text("1")
        (step / "memory.max").write_text("max\n")
        (job / "memory.max").write_text(f"{8 << 30}\n")
        (tmp_path / "system.slice" / "memory.max").write_text(f"{64 << 30}\n")
        groups = f"1:name=systemd:/\n0::/{step.relative_to(tmp_path)}\n"
        assert sorted(group_limits(groups, tmp_path)) == [8 << 30, 64 << 30]

    def test_of_the_older_kind(self, tmp_path):
        job = tmp_path / "memory" / "slurm" / "job_7"
        job.mkdir(parents=True)
        (job / "memory.limit_in_bytes").write_text(f"{4 << 30}\n")
        (tmp_path / "memory.max").write_text("1")
        groups = "11:cpuset:/slurm/job_7\n4:memory:/slurm/job_7\n0::/none\n"
        assert set(group_limits(groups, tmp_path)) == {4 << 30, 1}
        assert set(group_limits("4:cpu,memory:/slurm/job_7", tmp_path)) == {4 << 30}

    def test_of_a_container(self, tmp_path):
        (tmp_path / "memory.max").write_text(f"{2 << 30}\n")
        assert list(group_limits("0::/\n", tmp_path)) == [2 << 30]
        assert list(group_limits("0::/../elsewhere:1\n", tmp_path / "none")) == []

    def test_never_more_than_the_host_has(self):
        assert 0 < host_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (CpuSpec(count=100000), "100000 × 1 cores, and there are 8 cores"),
        (CpuSpec(count=3, cores=3), "3 × 3 cores, and there are 8 cores"),
        (CpuSpec(count=3, memory=40 << 30), "3 × 42.9 GB of memory, and there are 107.4 GB"),
    ],
)
def test_devices_that_the_host_cannot_hold_are_refused(monkeypatch, spec, says):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(module, "host_memory", lambda: 100 << 30)
    with pytest.raises(UsageError, match=says) as caught:
        require_host_holds(DevicesSpec(cpu=spec))
    assert "devices" in caught.value.remedy


def test_fewer_cores_than_the_host_has_are_warned_of(monkeypatch, capsys):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    require_host_holds(DevicesSpec(cpu=CpuSpec(count=4)))
    assert "may use 2 of the 8 there are" in capsys.readouterr().err
    require_host_holds(DevicesSpec(cpu=CpuSpec(count=2)))
    assert capsys.readouterr().err == ""
