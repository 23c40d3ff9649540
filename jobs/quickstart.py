"""Train five networks on handwritten digits, score the held-out rows with hpcens, and say how good they are.

python jobs/quickstart.py [FOLDER]        # default: ./quickstart
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

# member → its class in digits_models.py and its epochs of training; the longest first, so that no core idles at the end
MEMBERS = {
    "recurrent": ("Recurrent", 30),
    "residual": ("Residual", 14),
    "deepconv": ("DeepConv", 10),
    "smallconv": ("SmallConv", 30),
    "perceptron": ("Perceptron", 25),
}
SEED = 1
BATCH = 32
LEARNING_RATE = 1e-2
CORES = min(2, len(os.sched_getaffinity(0)))

DATASET = "digits.h5"
RESULT = "digits.predictions.h5"
PAGE = "evaluation.html"
CONFIG = "hpcens.yaml"
MODELS = "digits_models.py"


@dataclass(frozen=True, slots=True)
class Rows:
    """Images (N, 8, 8) float32 in 0 … 1 and their labels (N,) int64."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def main() -> int:
    folder = asked_folder()
    if all(path.exists() for path in trained_files(folder)):
        print(f"{folder} holds trained weights: training is skipped", flush=True)
    else:
        prepare(folder)
    code = submit(folder)
    if code == 0:
        code = evaluate(folder)
    return code


def asked_folder() -> Path:
    parser = argparse.ArgumentParser(description="Train, score and judge five networks on handwritten digits.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("quickstart"), help="default: ./quickstart")
    folder: Path = parser.parse_args().folder.resolve()
    return folder


def weights_path(folder: Path, name: str) -> Path:
    return folder / "weights" / f"{name}.safetensors"


def trained_files(folder: Path) -> list[Path]:
    return [*(folder / name for name in (MODELS, DATASET, CONFIG)), *(weights_path(folder, name) for name in MEMBERS)]


def prepare(folder: Path) -> None:
    """Fill the folder with all that `hpcens submit` needs; the configuration comes last and is never overwritten."""
    seen, held_out = load_rows()
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    (folder / MODELS).write_bytes(Path(__file__).with_name(MODELS).read_bytes())
    with h5py.File(folder / DATASET, "w") as file:
        file["images"], file["labels"] = held_out.images, held_out.labels
    train_all(folder, seen)
    if not (folder / CONFIG).exists():
        (folder / CONFIG).write_text(configuration())


def load_rows() -> tuple[Rows, Rows]:
    """scikit-learn's digits (they come with it), shuffled: half to train on, half held out."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        sys.exit("scikit-learn is missing: pip install -e '.[local,jobs]'")
    digits = load_digits()
    images, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(images))
    seen, held_out = np.array_split(order, [len(order) // 2])
    return Rows(images[seen], labels[seen]), Rows(images[held_out], labels[held_out])


def train_all(folder: Path, rows: Rows) -> None:
    """Train every member, one on each core at a time."""
    print(f"training {len(MEMBERS)} members on {len(rows.images)} rows, {CORES} at a time", flush=True)
    began = time.monotonic()
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        for line in pool.map(train, MEMBERS, [folder] * len(MEMBERS), [rows] * len(MEMBERS)):
            print(f"  {line}", flush=True)
    print(f"trained in {time.monotonic() - began:.0f} s", flush=True)


def train(name: str, folder: Path, rows: Rows) -> str:
    """Train one member on one thread and save its weights; runs in a process of its own."""
    import digits_models
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    kind, epochs = MEMBERS[name]
    net: torch.nn.Module = getattr(digits_models, kind)()
    x, y = torch.from_numpy(rows.images), torch.from_numpy(rows.labels)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs * -(-len(x) // BATCH))
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
            schedule.step()
    path = weights_path(folder, name)
    partial = path.with_suffix(".partial")
    save_file(net.state_dict(), partial)
    partial.replace(path)
    return f"{name:<12}{epochs:>3} epochs {sum(p.numel() for p in net.parameters()):>8,} parameters"


def configuration() -> str:
    members = "\n".join(
        f"  - {{name: {name}, factory: 'digits_models:{kind}', weights: weights/{name}.safetensors}}"
        for name, (kind, _) in MEMBERS.items()
    )
    return f"""# five networks, combined by the mean of their probabilities
dataset: {{input: images}}
members:
{members}
task: multiclass
classes: 10
rule: mean
devices: {{cpu: {CORES}}}
output:
  path: {RESULT}
  datasets: [prediction, label, members]
"""


def submit(folder: Path) -> int:
    """Score the held-out rows as a user would; its exit code."""
    print(f"$ cd {folder} && hpcens submit {DATASET} --wait", flush=True)
    command = [sys.executable, "-m", "hpcens", "submit", DATASET, "--wait"]  # where a Slurm answers, it would return
    return subprocess.run(command, cwd=folder, check=False).returncode


def evaluate(folder: Path) -> int:
    """Hold the result against the labels, each member and the ensemble, as a user would; its exit code."""
    words = ["evaluate", RESULT, "--labels", f"{DATASET}:/labels", "--html", PAGE]
    print(f"\n$ hpcens {' '.join(words)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "hpcens", *words], cwd=folder, check=False).returncode
    print(f"the result: {folder / RESULT}")
    return code


if __name__ == "__main__":
    sys.exit(main())
