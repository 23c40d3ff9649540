"""Mutated HDF5 files through `hpcens run` up to the start of the ranks, then all rows through the reading path."""

import contextlib
import io
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from hpcens.cli import main
from hpcens.dataset.inspection import inspect_speed
from hpcens.launch import local
from hpcens.runs import Verdict
from support.project import ENSEMBLE

SECONDS = 100  # no file may take longer
ALLOWED = {0, 65}
YAML = """
members: [{{name: a, factory: "nets:Linear", weights: {weights}, arguments: {{inputs: 12}}}}]
dataset: {{inputs: {{x: {{path: {path}{field}}}}}, {select}columns: [{columns}]}}
devices: {{cpu: 1}}
task: multiclass
plan: {{batch_sizes: [16]}}
"""
# name → path of the input, field, selection, columns
SEEDS = {
    "contiguous": ("x", "", "", "ids"),
    "gzip": ("gzip", "", "select: mask, ", "names"),
    "checked": ("checked", "", "select: list, ", "ids"),
    "lzf": ("lzf", "", "", "names"),
    "zstd": ("deep/zstd", "", "select: {start: 10}, ", "ids"),
    "compound": ("table", ", field: x", "", "ids"),
    "linked": ("linked", "", "", "ids"),
    "latest": ("x", "", "select: mask, ", "names"),
}


def seed_file(path: Path, name: str) -> None:
    """A sound file with the datasets that this seed names."""
    draw = np.random.default_rng(0)
    rows = draw.integers(0, 50, (90, 12)).astype("f4")
    with h5py.File(path, "w", libver="latest" if name == "latest" else None) as file:
        given, field, _, _ = SEEDS[name]
        how = {
            "gzip": {"compression": "gzip", "shuffle": True},
            "checked": {"compression": "gzip", "fletcher32": True},
            "lzf": {"compression": "lzf"},
            "zstd": dict(hdf5plugin.Zstd()),
        }.get(name, {})
        if field:
            rows = np.rec.fromarrays([rows, np.arange(90)], [("x", "f4", (12,)), ("n", "i8")])
        if name == "linked":
            file["hidden"] = rows
            file["linked"] = h5py.SoftLink("/hidden")
        else:
            file.create_dataset(given, data=rows, **({"chunks": (20, *rows.shape[1:])} | how if how else {}))
        file["mask"], file["list"], file["ids"] = draw.random(90) < 0.5, np.array([5, 80, 5, 1]), np.arange(90)
        file.create_dataset("names", data=[f"row {i}" for i in range(90)], dtype=h5py.string_dtype())


def mutate(data: bytes, draw: random.Random) -> bytes:
    """One to eight changes; most of them early in the file, where HDF5 keeps what it needs to find the rest."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 3, 8])):
        end = len(changed) if draw.random() < 0.4 else min(len(changed), 6000)
        at = draw.randrange(max(1, end))
        size = draw.choice([1, 1, 2, 4, 8, 8, 64, 512])
        match draw.choice(["flip", "flip", "value", "value", "fill", "noise", "copy", "cut", "insert", "swap"]):
            case "flip":
                changed[at : at + 1] = bytes([changed[at] ^ 1 << draw.randrange(8)]) if at < len(changed) else b""
            case "value":
                number = draw.choice([0, 1, 2, 255, 256, 65535, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1])
                width = draw.choice([1, 2, 4, 8])
                changed[at : at + width] = (number % 256**width).to_bytes(width, "little")
            case "fill":
                changed[at : at + size] = draw.choice([b"\0", b"\xff"]) * size
            case "noise":
                changed[at : at + size] = draw.randbytes(size)
            case "copy":
                other = draw.randrange(max(1, len(changed)))
                changed[at : at + size] = changed[other : other + size]
            case "cut":
                del changed[draw.choice([at, len(changed) - size]) :]
            case "insert":
                changed[at:at] = draw.randbytes(size)
            case "swap":
                changed[at : at + size] = changed[at : at + size][::-1]
    return bytes(changed)


def no_ranks(job, preflight, **_):
    """In place of ranks: read everything, as the reader would."""
    inspect_speed(job.datasets, job.spec.dataset, job.limit)
    return Verdict(0, "read")


def answer(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(arguments)
    return code, said.getvalue()


class Fuzz:
    """Candidates in a folder, one after another; `faults` says what went wrong, by candidate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.codes: Counter[int] = Counter()
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.longest = 0.0
        self.passed: list[tuple[str, Path]] = []
        for name, (path, field, select, columns) in SEEDS.items():
            seed_file(folder / f"{name}.seed", name)
            weights = folder / "a.safetensors"
            text = YAML.format(weights=weights, path=path, field=field, select=select, columns=columns)
            (folder / f"{name}.yaml").write_text(text)
        self._weights(weights)

    def _weights(self, path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        (self.folder / "nets.py").write_text((ENSEMBLE / "nets.py").read_text())
        layer = torch.nn.Linear(12, 4)
        save_file({f"head.{key}": value for key, value in layer.state_dict().items()}, path)

    def soundness(self, names: Iterable[str]) -> None:
        """The seeds themselves pass, or nothing below means anything."""
        for name in names:
            code, said = answer("run", str(self.folder / f"{name}.seed"), "-c", str(self.folder / f"{name}.yaml"))
            assert code == 0, f"{name}: {said}"

    def candidate(self, number: int, seed: int) -> None:
        draw = random.Random(f"{seed} {number}")
        name = draw.choice(sorted(SEEDS))
        data = mutate((self.folder / f"{name}.seed").read_bytes(), draw)
        path = self.folder / f"{number}.h5"
        path.write_bytes(data)
        before, began = path.stat().st_mtime_ns, time.monotonic()
        try:
            code, said = answer("run", str(path), "-c", str(self.folder / f"{name}.yaml"))
        except BaseException as error:  # whatever it is, it is the finding
            code, said = -1, f"Traceback: {type(error).__name__}: {error}"
        took = time.monotonic() - began
        self.longest = max(self.longest, took)
        self.codes[code] += 1
        self.answers[kind_of(said)] += code != 0
        wrong = [
            f"exit code {code}" * (code not in ALLOWED),
            "a traceback" * ("Traceback" in said),
            "no remedy" * (code != 0 and "→" not in said and "next:" not in said),
            f"{took:.0f} s" * (took > SECONDS),
            "a touched input" * (path.read_bytes() != data or path.stat().st_mtime_ns != before),
        ]
        if any(wrong):
            self.faults.append(f"{number} ({name}): {', '.join(filter(None, wrong))}: {said.strip()[-300:]}")
        elif code == 0 and data != (self.folder / f"{name}.seed").read_bytes():
            self.passed.append((name, path))
            return
        path.unlink()

    def whole(self, name: str, path: Path) -> None:
        """Real ranks. A shape that no member takes is the member's failure (1), everything else as before."""
        data = path.read_bytes()
        command = [sys.executable, "-m", "hpcens", "run", path, "-c", self.folder / f"{name}.yaml"]
        own = {"cwd": self.folder, "env": os.environ | {"HPCENS_CACHE": str(self.folder / "cache")}}
        done = subprocess.run(command, **own, capture_output=True, text=True, timeout=SECONDS, check=False)
        self.codes[done.returncode] += 1
        said = done.stdout + done.stderr
        members = done.returncode == 1 and "member a raised" in said
        if "Traceback" in said or not (done.returncode in ALLOWED or members) or path.read_bytes() != data:
            self.faults.append(f"{path.name} ({name}), whole: {done.returncode}: {said.strip()[-300:]}")


def kind_of(said: str) -> str:
    """What an answer says, without paths and numbers."""
    return re.sub(r"\S*/\S*|[^\W\d_]*\d\S*", "", said.strip().split("\n")[0]).removeprefix("hpcens:")[:60].strip()


@contextlib.contextmanager
def fuzzing():
    """A folder of seeds, and `hpcens run` without ranks."""
    start = local.start
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        local.start = no_ranks
        try:
            yield Fuzz(Path(folder))
        finally:
            local.start = start
            os.chdir(here)
