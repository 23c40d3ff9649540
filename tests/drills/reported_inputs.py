"""Inputs that users of such tools have reported: each scored right, or refused in one line.

    PYTHONPATH=tests python tests/drills/reported_inputs.py FOLDER [NAME …]

FOLDER/NAME/ holds make.py, which makes data.* and expected*.npy, and one YAML a case. A case is right where the
prediction is one of the expected ones, to 1e-5 of the largest value. Prints a line a case; the exit code is how many
ended neither right nor refused.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

NEAR = 1e-5
# Exit codes by which a run is refused before anything is scored.
REFUSALS = (2, 65, 78)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    wrong = 0
    for make in sorted(options.folder.rglob("make.py")):
        name = str(make.parent.relative_to(options.folder))
        if options.names and not any(name.startswith(chosen) for chosen in options.names):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / make.parent.name
            shutil.copytree(make.parent, place)
            made = subprocess.run([sys.executable, "make.py"], cwd=place, capture_output=True, text=True)
            if made.returncode:
                print(f"{name}: not made: {made.stderr.strip().splitlines()[-1]}")
                continue
            for config in sorted(place.glob("*.yaml")):
                wrong += not judge(name, place, config)
    return wrong


def judge(name, place, config):
    """Score one case and print what came of it; whether it is right or refused."""
    for old in place.glob("*.predictions.*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    [data] = [path for path in place.glob("data.*") if path.suffix in (".h5", ".mat")] or list(place.glob("*.h5ad"))[:1]
    environment = os.environ | {"HPCENS_CACHE": str(place / "cache")}
    command = [sys.executable, "-m", "hpcens", "run", "-c", config.name, data.name]
    ended = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    lines = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
    result = data.with_suffix(".predictions.h5")
    apart = nearest(result, place) if ended.returncode == 0 else None
    refused = ended.returncode in REFUSALS or (ended.returncode == 1 and not list(place.glob("*.run/epochs/0001")))
    right = apart is not None and apart <= NEAR
    verdict = "right" if right else "refused" if refused else "WRONG" if ended.returncode == 0 else "FAILED"
    told = f"{apart:.1e} off" if apart is not None else " ".join(lines[-2:])[:300]
    print(f"{name}/{config.name}: {verdict} ({ended.returncode}): {told}", flush=True)
    return right or refused


def nearest(result, place):
    """Return the least distance to an expected prediction of that shape, relative to its largest value."""
    with h5py.File(result) as file:
        prediction = file["prediction"][()].astype("f8")
    distances = [np.inf]
    for path in place.glob("expected*.npy"):
        wanted = np.load(path).astype("f8")
        if wanted.shape == prediction.shape and np.array_equal(np.isnan(wanted), np.isnan(prediction)):
            distances.append(np.nanmax(np.abs(prediction - wanted)) / max(1e-9, np.nanmax(np.abs(wanted))))
    return min(distances)


if __name__ == "__main__":
    sys.exit(main())
