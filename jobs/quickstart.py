"""Train five networks on handwritten digits, score the held-out rows with hpcens, and print how good they are.

python jobs/quickstart.py [FOLDER]        # default: ./quickstart
"""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np

MEMBERS = {
    "perceptron": "Perceptron",
    "smallconv": "SmallConv",
    "deepconv": "DeepConv",
    "residual": "Residual",
    "recurrent": "Recurrent",
}
EPOCHS = {"perceptron": 30, "smallconv": 30, "deepconv": 12, "residual": 15, "recurrent": 30}
SEED = 1


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("digits_models.py"), folder)
    if not (folder / "hpcens.yaml").exists():
        train_all(folder)
        (folder / "hpcens.yaml").write_text(configuration())
    print(f"$ cd {folder} && hpcens submit digits.h5", flush=True)
    code = subprocess.run([sys.executable, "-m", "hpcens", "submit", "digits.h5"], cwd=folder, check=False).returncode
    if code == 0:
        print_accuracies(folder)
    return code


def train_all(folder: Path) -> None:
    """Weights of every member, and the held-out rows as digits.h5. Two members train at a time."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        sys.exit("scikit-learn is missing: pip install -e '.[local,jobs]'")
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    seen, held_out, seen_labels, true = train_test_split(
        images, labels, test_size=0.4, random_state=SEED, stratify=labels
    )
    with h5py.File(folder / "digits.h5", "w") as file:
        file["images"], file["labels"] = held_out, true
    (folder / "weights").mkdir(exist_ok=True)
    began = time.time()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        for line in pool.map(
            train, MEMBERS, [folder] * len(MEMBERS), [seen] * len(MEMBERS), [seen_labels] * len(MEMBERS)
        ):
            print(line, flush=True)
    print(f"trained on {len(seen)} rows in {time.time() - began:.0f} s; {len(held_out)} rows are held out", flush=True)


def train(name: str, folder: Path, images: np.ndarray, labels: np.ndarray) -> str:
    """Train one member and save its weights; runs in a process of its own."""
    sys.path.insert(0, str(folder))
    import digits_models
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    net = getattr(digits_models, MEMBERS[name])()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(EPOCHS[name]):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    save_file(net.state_dict(), folder / "weights" / f"{name}.safetensors")
    return f"trained {name}: {sum(p.numel() for p in net.parameters()):,} parameters"


def configuration() -> str:
    members = "\n".join(
        f"  - {{name: {name}, factory: 'digits_models:{factory}', weights: weights/{name}.safetensors}}"
        for name, factory in MEMBERS.items()
    )
    devices = min(2, len(os.sched_getaffinity(0)))
    return f"""# five networks, combined by the mean of their probabilities
dataset: {{input: images}}
members:
{members}
classes: 10
rule: mean
devices: {{cpu: {devices}}}
output:
  path: digits.predictions.h5
  datasets: [prediction, label, members]
"""


def print_accuracies(folder: Path) -> None:
    """Each member's share of right labels, and the ensemble's, from the result alone."""
    with h5py.File(folder / "digits.h5") as file:
        true = file["labels"][:]
    with h5py.File(folder / "digits.predictions.h5") as file:
        print("\naccuracy on held-out rows")
        for name in file.attrs["member_names"]:
            print(f"  {name:<12}{np.mean(file['members'][name][:].argmax(1) == true):.4f}")
        print(f"  {'ensemble':<12}{np.mean(file['label'][:] == true):.4f}")
    print(f"the result: {folder / 'digits.predictions.h5'}; its run: {folder / 'digits.predictions.run'}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart").resolve()))
