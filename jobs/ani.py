"""Networks in the manner of ANI: energies of molecules from symmetry functions of their atoms, and a benchmark of them.

    python jobs/ani.py [--rows 8192] [--rounds 5]

Eight members with random weights score random molecules twice a round: with `features:`, where the symmetry functions
are computed once a batch, and with each member computing them itself. Rows/s count the time of scoring alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

MEMBERS = 8
ATOMS = 12
SPECIES = 4


class Aev(nn.Module):
    """Atomic environment vectors: radial and angular symmetry functions of each atom, by the species around it."""

    def __init__(self, cutoff: float = 5.2, radial: int = 16, angular: int = 8, species: int = SPECIES) -> None:
        super().__init__()
        self.cutoff, self.species = cutoff, species
        self.register_buffer("shifts", torch.linspace(0.9, cutoff, radial + 1)[:-1])
        self.register_buffer("angles", torch.linspace(0.2, 3.0, angular))
        self.register_buffer("middles", torch.linspace(0.9, 3.5, 4))
        first, second = torch.triu_indices(species, species)
        self.register_buffer("first", first)
        self.register_buffer("second", second)

    def forward(self, species: torch.Tensor, positions: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the species, (rows, atoms), and the vectors, (rows, atoms, features)."""
        between = positions.unsqueeze(1) - positions.unsqueeze(2)
        squares = between.square().sum(-1)
        apart = (squares + torch.eye(positions.shape[1], device=positions.device)).sqrt()
        near = (apart < self.cutoff) & (squares > 0)
        smooth = (0.5 * torch.cos(apart * (torch.pi / self.cutoff)) + 0.5) * near
        kinds = nn.functional.one_hot(species, self.species).to(positions.dtype)
        terms = torch.exp(-16 * (apart.unsqueeze(-1) - self.shifts).square()) * smooth.unsqueeze(-1)
        radial = torch.einsum("bijr,bjs->bisr", terms, kinds).flatten(2)
        units = between / apart.unsqueeze(-1)
        angle = torch.acos(0.95 * torch.einsum("bijx,bikx->bijk", units, units).clamp(-1, 1))
        middle = (apart.unsqueeze(3) + apart.unsqueeze(2)) / 2
        around = ((1 + torch.cos(angle.unsqueeze(-1) - self.angles)) / 2) ** 32
        wide = torch.exp(-8 * (middle.unsqueeze(-1) - self.middles).square())
        both = (smooth.unsqueeze(3) * smooth.unsqueeze(2)).unsqueeze(-1)
        joined = ((wide * both).unsqueeze(-1) * around.unsqueeze(-2)).flatten(4)
        sums = torch.einsum("bijkf,bjs,bkt->bistf", joined, kinds, kinds)
        angular = (sums + sums.transpose(2, 3))[:, :, self.first, self.second].flatten(2)
        return {"species": species, "vectors": torch.cat([radial, angular], -1)}


class Energy(nn.Module):
    """The energy of a molecule: a sum over its atoms, each by the network of its species."""

    def __init__(self, seed: int = 0, width: int = 160) -> None:
        super().__init__()
        torch.manual_seed(seed)
        features = SPECIES * 16 + SPECIES * (SPECIES + 1) // 2 * 32
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(features, width), nn.CELU(0.1), nn.Linear(width, 96), nn.CELU(0.1), nn.Linear(96, 1)
            )
            for _ in range(SPECIES)
        )

    def forward(self, species: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Return the energy, (rows, 1)."""
        flat, kinds = vectors.flatten(0, 1), species.flatten()
        energies = vectors.new_zeros(len(flat), 1)
        for kind, network in enumerate(self.networks):
            atoms = torch.nonzero(kinds == kind).flatten()
            energies.index_copy_(0, atoms, network(flat[atoms]))
        return energies.reshape(species.shape).sum(1, keepdim=True)


class Whole(nn.Module):
    """A member that computes its own vectors."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.features, self.energy = Aev(), Energy(seed)

    def forward(self, species: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the energy, (rows, 1)."""
        return self.energy(**self.features(species, positions))


def configuration(shared: bool) -> dict[str, object]:
    """Return the configuration of eight members, which share their features or compute them each."""
    steps = {"preprocess": [{"cast": "int64", "input": "species"}]}
    inputs = {"inputs": ["species", "positions"]}
    own = {"features": "aev", "factory": "ani:Energy"} if shared else {"factory": "ani:Whole", **inputs, **steps}
    members = [
        {"name": f"ani{i}", "weights": "factory", "arguments": {"seed": i}, "output": "values", **own}
        for i in range(MEMBERS)
    ]
    features = {"features": {"aev": {"factory": "ani:Aev", **inputs, **steps}}} if shared else {}
    return {
        "members": members,
        "task": "regression",
        "dataset": {"inputs": {"species": "species", "positions": "positions"}},
        "devices": {"cpu": 2},
        "output": {"datasets": ["prediction", "members", "variance"]},
        **features,
    }


def write_molecules(path: Path, rows: int) -> None:
    """Write random molecules."""
    import h5py
    import numpy as np

    draw = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["species"] = draw.integers(0, SPECIES, (rows, ATOMS)).astype(np.uint8)
        file["positions"] = draw.normal(0, 2, (rows, ATOMS, 3)).astype(np.float32)


def _scored(folder: Path, name: str) -> float:
    """Score the molecules; return rows/s while all devices computed."""
    result = folder / f"{name}.predictions.h5"
    shutil.rmtree(result.with_suffix(".run"), ignore_errors=True)
    result.unlink(missing_ok=True)
    order = [sys.executable, "-m", "hpcens", "run", "molecules.h5", "-c", f"{name}.json"]
    subprocess.run(order, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    rows, seconds = 0, 0.0
    for file in result.with_suffix(".run").glob("epochs/*/report.json"):
        report = json.loads(file.read_text())
        rows, seconds = rows + report["rows"], seconds + report["seconds"]
    return rows / seconds


def main() -> None:
    """Run both in turns; print rows/s, and the median of the rounds' ratios."""
    import h5py

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(__file__, folder / "ani.py")
        write_molecules(folder / "molecules.h5", arguments.rows)
        for kind, shared in (("shared", True), ("each", False)):
            path = {"path": f"{kind}.predictions.h5", "datasets": ["prediction", "members", "variance"]}
            (folder / f"{kind}.json").write_text(json.dumps(configuration(shared) | {"output": path}))
        ratios = []
        for number in range(arguments.rounds):
            speeds = {kind: _scored(folder, kind) for kind in ("shared", "each")}
            ratios.append(speeds["shared"] / speeds["each"])
            print(f"round {number + 1}: {speeds['shared']:.0f} and {speeds['each']:.0f} rows/s, {ratios[-1]:.2f} x")
        with h5py.File(folder / "shared.predictions.h5") as one, h5py.File(folder / "each.predictions.h5") as other:
            apart = abs(one["prediction"][()] - other["prediction"][()]).max()
        told = f"median {statistics.median(ratios):.2f} x, least {min(ratios):.2f} x"
        print(f"{told}; energies {apart:.2g} apart (each plan has its own runtimes)")


if __name__ == "__main__":
    main()
