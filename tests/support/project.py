"""A user's folder: dataset.h5, hpcens.yaml, and the command; and the small ensemble that tests score with."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).parents[2]
ENSEMBLE = Path(__file__).with_name("ensemble")
MEMBERS = {"linear": "Linear", "conv": "Conv", "recurrent": "Recurrent"}


class Project:
    """A folder as a user has it: dataset.h5, hpcens.yaml, and the command."""

    patience = 100  # seconds for a command, however slow the machine

    def __init__(self, folder: Path, weights: Path, cache: Path) -> None:
        self.folder = folder
        self.weights = weights
        self.environment = os.environ | {"HPCENS_CACHE": str(cache)}
        self.dataset = folder / "dataset.h5"
        self.output = folder / "dataset.predictions.h5"
        self.run = folder / "dataset.predictions.run"
        self._started = []

    def data(self, rows=300):
        with h5py.File(self.dataset, "w") as file:
            file["images"] = np.random.default_rng(0).random((rows, 3, 8, 8), np.float32)
        return self

    def yaml(self, extra="", members=MEMBERS, batch_sizes="[16]", devices="{cpu: 2}"):
        lines = ["members:"]
        for name, factory in members.items():
            lines += [
                f"  - name: {name}",
                f"    factory: nets:{factory}",
                f"    weights: {self.weights / name}.safetensors",
            ]
        lines += [f"devices: {devices}", f"plan: {{batch_sizes: {batch_sizes}}}", extra]
        lines += [] if "task:" in extra else ["task: multiclass"]
        (self.folder / "hpcens.yaml").write_text("\n".join(lines) + "\n")
        (self.folder / "nets.py").write_text((ENSEMBLE / "nets.py").read_text())
        return self

    def start(self, *arguments, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "hpcens", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self._started.append(process)
        return process

    def end(self):
        """Leave nothing behind of a test that failed: a second signal kills a run with all its ranks."""
        for process in self._started:
            while process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
            process.stdout.close()
            process.stderr.close()

    def hpcens(self, *arguments, code=0):
        """Run a command to its end; its output. Fails unless it exits with `code`; None: any."""
        process = self.start(*arguments)
        out, error = process.communicate(timeout=self.patience)
        assert code is None or process.returncode == code, f"exit code {process.returncode}, not {code}\n{out}\n{error}"
        return out + error

    def predictions(self):
        with h5py.File(self.output) as file:
            return file["prediction"][:]
