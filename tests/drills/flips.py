"""Flip drill: one bit of one file flipped, then the same command again; every kind of file that a run or a cache has.

PYTHONPATH=tests python tests/drills/flips.py [FLIPS_PER_KIND [KIND ...]]
    default 40 of each: ts xml bin pt2 (prepared networks), then the files of a drained run: journal working plan
    fingerprint weights; and result (finished). Prints a line a kind, exits 1 on any silent flip or lost row

What is right after a flip: the bytes of an undisturbed run, or a refusal, by an exit code that is not 0; a flip into
bytes that mean nothing counts as the former. Of prepared networks, that they are not opened, and prepared anew.
"""

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import save_file
from support.interruption import HELD, some_are_durable, wait_for
from support.project import ENSEMBLE, MEMBERS, Project

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.members.conversion import Conversion
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.runtimes.prepare import kept
from hpcens.runtimes.recipe import Recipe
from hpcens.specs import MemberSpec, RunSpec

PREPARED = {"ts": "frozen", "xml": "openvino", "bin": "openvino", "pt2": "compiled"}
OF_A_RUN = ("journal", "working", "plan", "fingerprint", "weights")
BATCH = 8
ROWS = np.random.default_rng(1).random((BATCH, 3, 8, 8), np.float32)


def flip(path, draw):
    """Flip one bit of the file, and leave its times as they were."""
    content = bytearray(path.read_bytes())
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} of {len(content)}"


def load(folder, prepared=None):
    import nets

    spec = MemberSpec(name="conv", factory="nets:Conv", weights=folder / "conv", output="logits")
    torch.manual_seed(7)
    network = prepared or Network(nets.Conv().eval().requires_grad_(False))
    conversion = Conversion(spec, RunSpec(members=(spec,)), "probabilities")
    given = {"inputs": (0,), "conversion": conversion, "prepared": prepared is not None}
    return Forward(spec, network, Preprocessing(spec, ["images"], folder), **given)


def predictions(folder, runtime):
    recipe = Recipe(partial(load, folder), runtime, CpuHardware(1), 1, (ROWS,), folder / "conv", True)
    engine = Engine(CpuHardware(1))
    engine.host("conv", recipe.make(BATCH), batch=BATCH)
    return engine.run("conv", [torch.from_numpy(ROWS)])[0].tobytes()


def prepared_flips(folder, suffix, flips, draw):
    """Flip bits of what a runtime keeps: none may be opened, and what is prepared anew predicts what it did."""
    runtime, good = PREPARED[suffix], folder / f"good-{suffix}"
    good.mkdir()
    wanted = predictions(good, runtime)
    outcomes = Counter()
    for number in range(flips):
        tried = folder / f"{suffix}-{number}"
        shutil.copytree(good, tried)
        [path] = tried.glob(f"*.{suffix}")
        place = flip(path, draw)
        if kept(runtime, cores=1, package=tried / f"conv-{BATCH}") is not None:
            outcomes["SILENT"] += 1
            print(f"{path.name}: {place}: opened as if nothing were wrong", flush=True)
        elif number:
            outcomes["found"] += 1
        else:
            outcomes["prepared anew" if predictions(tried, runtime) == wanted else "SILENT"] += 1
        shutil.rmtree(tried)
    return outcomes


def project(folder, name):
    (folder / name).mkdir()
    weights = folder / name / "weights"
    shutil.copytree(folder / "weights", weights)
    made = Project(folder / name, weights, folder / "cache").data(400)
    made.yaml(members=MEMBERS | {"linear": "HeldLinear"}, batch_sizes="[8]")
    (made.folder / "nets_fast.py").write_text((ENSEMBLE / "nets.py").read_text())
    (made.folder / "nets.py").write_text(HELD)
    return made


def drained(folder, name):
    """Return a run that was stopped when some of its segments were durable."""
    run = project(folder, name)
    (run.folder / "hold").write_text("24")
    process = run.start("run", "dataset.h5")
    wait_for(lambda: some_are_durable(run), process, 200)
    run.hpcens("cancel", str(run.run))
    wait_for(lambda: "draining" in (run.run / "epochs/0001/events.jsonl").read_text(), process, 200)
    (run.folder / "hold").unlink()
    process.communicate(timeout=200)
    return run


def victim(run, kind, draw):
    """Return a file of that kind that the run has."""
    patterns = {
        "journal": (run.run, "epochs/*/journal*"),
        "working": (run.run, "working-*.h5"),
        "plan": (run.run, "epochs/*/plan.json"),
        "fingerprint": (run.run, "fingerprint.json"),
        "weights": (run.weights, "*.safetensors"),
    }
    root, pattern = patterns[kind]
    return draw.choice(sorted(root.glob(pattern)))


def run_flip(folder, kind, number, wanted, draw):
    """Flip a bit of a drained run, or of a finished result, and go on; return what came of it."""
    run = drained(folder, f"{kind}-{number}") if kind != "result" else project(folder, f"{kind}-{number}")
    if kind == "result":
        run.hpcens("run", "dataset.h5")
    path = run.output if kind == "result" else victim(run, kind, draw)
    place = flip(path, draw)
    command = ["verify", str(run.output)] if kind == "result" else ["run", "dataset.h5"]
    done = subprocess.run([sys.executable, "-m", "hpcens", *command], cwd=run.folder, env=run.environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode:
        outcome = f"refused ({done.returncode})"
        if "Traceback" in done.stderr:
            outcome = "TRACEBACK"
            print(f"{path.name}: {place}: {done.stderr[-500:]}", flush=True)
    else:
        with h5py.File(run.output) as file:
            outcome = "the same bytes" if file["prediction"][:].tobytes() == wanted else "SILENT"
        if outcome == "SILENT":
            print(f"{path.name}: {place}: other predictions, and exit code 0", flush=True)
    run.end()
    shutil.rmtree(run.folder)
    return outcome


def main(flips, kinds):
    draw = random.Random(1)
    sys.path.insert(0, str(ENSEMBLE))
    import nets

    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "weights").mkdir()
        torch.manual_seed(7)
        for member, factory in MEMBERS.items():
            save_file(getattr(nets, factory)().state_dict(), folder / "weights" / f"{member}.safetensors")
        wanted = None
        for kind in kinds:
            if kind in PREPARED:
                outcomes = prepared_flips(folder, kind, flips, draw)
            else:
                if wanted is None:
                    undisturbed = project(folder, "undisturbed")
                    undisturbed.hpcens("run", "dataset.h5")
                    wanted = undisturbed.predictions().tobytes()
                outcomes = Counter(run_flip(folder, kind, number, wanted, draw) for number in range(flips))
            wrong += sum(count for outcome, count in outcomes.items() if outcome.isupper())
            print(f"{kind}: {', '.join(f'{count} {outcome}' for outcome, count in outcomes.items())}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    sys.exit(main(count, sys.argv[2:] or [*PREPARED, *OF_A_RUN, "result"]))
