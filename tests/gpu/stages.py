"""The stages of `validate.py` that are no tests: each prints, and adds its figures to $HPCENS_VALIDATION by lines."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CPU = os.environ.get("HPCENS_GPU_TESTS") == "cpu"
ROOT = Path(__file__).resolve().parents[2]
DEVICES = "{cpu: 1}" if CPU else "{cuda: 1}"
NETS = """
import torch
from torch import nn

def resnet(classes=1000):
    from torchvision.models import resnet50
    torch.manual_seed(1)
    return resnet50(num_classes=classes)

def vit(classes=1000):
    from torchvision.models import vit_b_16
    torch.manual_seed(2)
    return vit_b_16(num_classes=classes)

def mlp(inputs, classes=1000, width=512, seed=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, classes))

def conv(classes=10, seed=4):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1),
                         nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, classes))

class Hungry(nn.Module):
    '''Takes so many MiB for each row.'''
    def __init__(self, mib, classes=10):
        super().__init__()
        torch.manual_seed(5)
        self.mib, self.layer = mib, nn.Linear(12, classes)

    def forward(self, x):
        room = torch.ones(len(x), self.mib << 18, device=x.device)
        return self.layer(x[:, 0, :3, :4].flatten(1)) + 0 * room.sum(1, keepdim=True)
"""


def tell(**figures: object) -> None:
    print(json.dumps(figures), flush=True)
    with Path(os.environ["HPCENS_VALIDATION"]).open("a") as file:
        file.write(json.dumps(figures) + "\n")


def member(name: str, factory: str, precision: str = "float32", **arguments: object) -> str:
    """Return a member of nets.py as YAML."""
    steps = [{"scale": "1/255"}]
    keys = {
        "name": name,
        "factory": f"nets:{factory}",
        "weights": "factory",
        "precision": precision,
        "preprocess": steps,
    }
    return json.dumps(keys | ({"arguments": arguments} if arguments else {}))


class Folder:
    """A user's folder with nets.py and a dataset of images, uint8."""

    def __init__(self, rows: int, side: int) -> None:
        import h5py

        self.path = Path(tempfile.mkdtemp(prefix="hpcens-validation-"))
        (self.path / "nets.py").write_text(NETS)
        with h5py.File(self.path / "data.h5", "w") as file:
            draw = np.random.default_rng(0)
            images = file.create_dataset("images", (rows, 3, side, side), "u1")
            for start in range(0, rows, 256):
                images[start : start + 256] = draw.integers(0, 256, (min(256, rows - start), 3, side, side), "u1")

    def yaml(self, members: list[str], plan: str, devices: str = DEVICES, outputs: str = "[prediction]") -> None:
        lines = ["members:", *(f"  - {member}" for member in members), f"devices: {devices}", "task: multiclass"]
        lines += [f"plan: {plan}", f"output: {{datasets: {outputs}, path: NAME.h5}}", "fsync_seconds: 0.2"]
        self.text = "\n".join(lines) + "\n"

    def start(self, name: str, **environment: str) -> subprocess.Popen[str]:
        (self.path / "hpcens.yaml").write_text(self.text.replace("NAME", name))
        return subprocess.Popen(
            [sys.executable, "-m", "hpcens", "run", "data.h5"],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, name: str, **environment: str) -> tuple[int, str]:
        process = self.start(name, **environment)
        said, _ = process.communicate()
        print(f"-- {name}: {process.returncode}\n{said[-2500:]}", flush=True)
        return process.returncode, said

    def digest(self, name: str) -> str:
        """Digest all outputs of a result."""
        import h5py

        made = hashlib.sha256()
        with h5py.File(self.path / f"{name}.h5") as file:
            for output in sorted(["prediction", *(f"members/{member}" for member in file["members"])]):
                made.update(file[output][()].tobytes())
        return made.hexdigest()

    def report(self, name: str) -> dict:
        [found] = sorted((self.path / f"{name}.run" / "epochs").glob("*/report.json"))[-1:]
        return json.loads(found.read_text())

    def plan(self, name: str) -> dict:
        [found] = sorted((self.path / f"{name}.run" / "epochs").glob("*/plan.json"))[-1:]
        return json.loads(found.read_text())

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def card() -> None:
    import torch

    from hpcens.engine.discovery import discover, identities
    from hpcens.engine.gpus import gpus
    from hpcens.engine.torch_build import gpu_libraries
    from hpcens.launch.local import mpiexec
    from hpcens.specs import DevicesSpec

    tell(torch=torch.__version__, cuda=torch.version.cuda, available=torch.cuda.is_available(), cores=os.cpu_count())
    if not CPU:
        told = subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=False).stdout
        print(told)
        found = discover(DevicesSpec())
        tell(kinds=[device.kind for device in found], memory=[device.memory for device in found])
        tell(uuids=identities(found), driver=[(gpu.name, gpu.total, gpu.free) for gpu in gpus()])
    tell(libraries=gpu_libraries())
    says = "from mpi4py import MPI; print(MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size, MPI.Get_library_version()[:40])"
    said = subprocess.run([*mpiexec(), "-n", "2", sys.executable, "-c", says], capture_output=True, text=True)
    tell(mpi=said.stdout.splitlines(), code=said.returncode, error=said.stderr[-300:])
    assert said.returncode == 0


def probe() -> None:
    """Copies from pinned, registered and other memory, what the host waits for a copy, launches, context."""
    import torch

    from hpcens.engine.gpus import gpus
    from hpcens.engine.registered import Registered
    from hpcens.transports.ring import make_ring

    device = torch.device("cpu" if CPU else "cuda", None if CPU else 0)
    synchronize = (lambda: None) if CPU else torch.cuda.synchronize
    if not CPU:
        before = gpus()[0].free
        torch.cuda.set_device(0)
        torch.zeros(1, device=device)
        synchronize()
        free, total = torch.cuda.mem_get_info()
        tell(context_mib=(before - free) / 2**20 if before else None, total_gib=total / 2**30)
    size = 1 << 20 if CPU else 256 << 20
    ring = make_ring(2, size, 4 * size)
    assert ring is not None
    registered, began = Registered(device, torch.cuda, torch.from_numpy), time.perf_counter()
    why = registered.add([ring.memory])
    tell(registered_mib=ring.memory.nbytes / 2**20, seconds=time.perf_counter() - began, why=why)
    pinned, slot = torch.empty(size, dtype=torch.uint8, pin_memory=not CPU), ring.slot(0)
    memory = {"pinned": pinned, "registered": registered.find(slot), "pageable": torch.empty(size, dtype=torch.uint8)}
    there = torch.empty(size, dtype=torch.uint8, device=device)
    for name, host in ((name, host) for name, host in memory.items() if host is not None):
        for way, (target, source) in {"to the card": (there, host), "from the card": (host, there)}.items():
            seconds, waited = [], []
            for _ in range(5):
                synchronize()
                began = time.perf_counter()
                target.copy_(source, non_blocking=True)
                waited.append(time.perf_counter() - began)
                synchronize()
                seconds.append(time.perf_counter() - began)
            gb = size / statistics.median(seconds) / 1e9
            tell(memory=name, way=way, gb_per_second=gb, host_waits_ms=1000 * statistics.median(waited))
    began = time.perf_counter()
    for _ in range(5):
        pinned.copy_(torch.from_numpy(slot))
    tell(copy_on_the_host_gb_per_second=5 * size / (time.perf_counter() - began) / 1e9)
    registered.clear()
    x = torch.zeros(16, device=device)
    for _ in range(100):
        x.add_(1)
    synchronize()
    began = time.perf_counter()
    for _ in range(2000):
        x.add_(1)
    launched = time.perf_counter() - began
    synchronize()
    tell(launch_us=launched / 2000 * 1e6, total_us=(time.perf_counter() - began) / 2000 * 1e6)


def bytes_() -> None:
    """Four runs, one sha256."""
    folder = Folder(3000 if CPU else 120000, 32)
    members = [
        member("conv", "conv"),
        member("half", "conv", precision="bfloat16", seed=9),
        member("mlp", "mlp", inputs=3072, classes=10),
    ]
    folder.yaml(members, "{batch_sizes: [64]}", outputs="[prediction, members]")
    digests = {}
    for name, environment in (("plain", {}), ("again", {}), ("blocking", {"CUDA_LAUNCH_BLOCKING": "1"})):
        code, _ = folder.run(name, **environment)
        assert code == 0, name
        digests[name] = folder.digest(name)
    kills, known = 0, 0
    for _ in range(8):
        process = folder.start("killed")
        while process.poll() is None and kills < 2:
            journals = sum(file.stat().st_size for file in folder.path.glob("killed.run/epochs/*/journal"))
            if journals > known + 120:  # three segments
                os.killpg(process.pid, signal.SIGKILL)
                known, kills = journals, kills + 1
            time.sleep(0.002)
        said, _ = process.communicate()
        if process.returncode == 0:
            break
        print(f"-- killed: {process.returncode}, journals of {known} bytes; {said[-300:]}", flush=True)
        time.sleep(2)
    assert process.returncode == 0, process.returncode
    digests["killed and resumed"] = folder.digest("killed")
    plan = folder.plan("plain")
    tell(sha256=digests, kills=kills, numerics=plan["numerics"]["members"], libraries=plan["numerics"]["libraries"])
    folder.close()
    assert len(set(digests.values())) == 1, digests


def memory() -> None:
    """Runs that do not fit: in words, in smaller batches, beside others on the card."""
    folder = Folder(512, 8)
    cap = "{cpu: {count: 1, memory: 3GiB}}" if CPU else "{cuda: {count: 1, memory: 6GiB}}"
    per_row = 8 if CPU else 64
    folder.yaml([member("a", "Hungry", mib=per_row)], "{batch_sizes: [4, 16, 64, 512]}", cap)
    code, said = folder.run("capped")
    plan = folder.plan("capped") if code == 0 else {}
    tell(drill="a batch that fits is chosen", code=code, batch=plan.get("numerics", {}).get("members"))
    assert code == 0
    if not CPU:
        folder.yaml([member("a", "Hungry", mib=per_row << 7)], "{batch_sizes: [64]}", cap)
        code, said = folder.run("never")
        tell(drill="what never fits is told", code=code, said=said.strip().splitlines()[-2:])
        assert code in (1, 2)
    # several that fit one after another, and not beside each other
    width = 8000 if CPU else 16000
    wide = [member(f"w{i}", "mlp", inputs=192, classes=10, width=width, seed=i) for i in range(3 if CPU else 7)]
    narrow = "{cpu: {count: 1, memory: 1200MiB}}" if CPU else cap
    digests = {}
    for name, devices in (("phases", narrow), ("whole", DEVICES)):
        folder.yaml(wide, "{batch_sizes: [64], runtime: eager}", devices, "[prediction, members]")
        code, said = folder.run(name)
        plan = folder.plan(name) if code == 0 else {}
        phases = sorted({hosting["phase"] for hosting in plan.get("hostings", ())})
        digests[name] = folder.digest(name) if code == 0 else ""
        tell(drill=f"more weights than memory: {name}", code=code, phases=phases, sha256=digests[name])
        assert code == 0
    assert digests["phases"] == digests["whole"]
    if not CPU:
        import torch

        free, _ = torch.cuda.mem_get_info(0)
        hog = torch.empty(int(free * 0.8), dtype=torch.uint8, device="cuda")
        folder.yaml([member("a", "Hungry", mib=64)], "{batch_sizes: [4, 16, 64, 512]}")
        code, said = folder.run("beside")
        tell(drill="beside another process", code=code, free_gib=(free - hog.numel()) / 2**30)
        assert code == 0
    folder.close()


def speed() -> None:
    """Steady rows/s of runs, beside a loop with all inputs in memory; the same members, one after another."""
    import torch

    side = 32 if CPU else 224
    rows = 512 if CPU else 8192
    folder = Folder(rows, side)
    small = {"inputs": 3 * side * side, "classes": 10}
    many = [(f"m{i}", "mlp", {**small, "seed": i}) for i in range(8)]
    ensembles = {"resnet50": [("resnet", "resnet", {})], "vit_b": [("vit", "vit", {})], "8 mlps": many}
    if CPU:
        ensembles = {"conv": [("conv", "conv", {})], "8 mlps": many}
    first, others = ("eager", ()) if CPU else ("cuda_graphs", ("channels_last", "eager"))
    runs = [  # should time run out, each ensemble was run once
        (name, precision, runtime)
        for runtimes in ((first,), others)
        for name in ensembles
        for precision in (("float32",) if CPU or "mlps" in name else ("bfloat16", "float32"))
        for runtime in runtimes
        if runtime == first or "resnet" in name
    ]
    ideals: dict[tuple[str, str], float] = {}
    for name, precision, runtime in runs:
        members = ensembles[name]
        lines = [member(of, made, precision, **arguments) for of, made, arguments in members]
        folder.yaml(lines, f"{{batch_sizes: {[64] if CPU else [64, 256]}, runtime: {runtime}}}")
        label = f"{name} {precision} {runtime}".replace(" ", "-")
        code, said = folder.run(label)
        if code:
            tell(ensemble=label, code=code, said=said[-400:])
            continue
        report, plan = folder.report(label), folder.plan(label)
        if (name, precision) not in ideals:
            ideals[name, precision] = _ideal(folder, members, precision, plan)
        tell(
            ensemble=label,
            rows_per_second=report["rows_per_second"],
            predicted=report["predicted_rows_per_second"],
            ideal_eager=ideals[name, precision],
            of_ideal_eager=report["rows_per_second"] / ideals[name, precision],
            batches=[numerics["batch"] for numerics in plan["numerics"]["members"].values()],
            bottleneck=report["bottleneck"],
            shared_and_registered=(report.get("sharing"), report.get("unregistered", [])),
            planned_memory=[hosting["memory"] for hosting in plan["hostings"]],
        )
    tell(card=None if CPU else torch.cuda.get_device_name(0))
    folder.close()


def _ideal(folder: Folder, members: list[tuple[str, str, dict]], precision: str, plan: dict) -> float:
    """Rows a second of the members in eager on rows that lie in pinned memory, in the plan's batches."""
    import h5py
    import torch

    sys.path.insert(0, str(folder.path))
    import nets

    if CPU:
        torch.set_num_threads(1)  # as the one device that it is held against
    device, dtype = torch.device("cpu" if CPU else "cuda"), getattr(torch, precision)
    with h5py.File(folder.path / "data.h5") as file:
        rows = torch.from_numpy(file["images"][: 256 if CPU else 2048])
    rows = rows if CPU else rows.pin_memory()
    modules = [(getattr(nets, made)(**of).eval().to(device, dtype), name) for name, made, of in members]
    seconds = []
    with torch.inference_mode():
        for _ in range(4):
            began = time.perf_counter()
            for module, name in modules:
                batch = plan["numerics"]["members"][name]["batch"]
                for start in range(0, len(rows), batch):
                    x = rows[start : start + batch].to(device, non_blocking=True).float() / 255
                    out = torch.softmax(module(x.to(dtype)).float(), -1)
                out.cpu()
            seconds.append(time.perf_counter() - began)
    count = len(rows)
    del modules, rows, x, out
    if not CPU:
        torch.cuda.empty_cache()  # it is the next run's
    return count / min(seconds)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    {"card": card, "probe": probe, "bytes": bytes_, "memory": memory, "speed": speed}[sys.argv[1]]()
