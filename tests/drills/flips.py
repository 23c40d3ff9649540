"""Flip drill: one bit of one file flipped, then the same again; every kind of file that a run or a cache has.

PYTHONPATH=tests python tests/drills/flips.py [FLIPS_PER_KIND [KIND ...]]
    default 40 of each: ts xml bin pt2 (prepared networks), then the files of a drained run: journal working source
    (the dataset, and a file behind it) weights fingerprint plan; and result (finished). Prints a line a kind, exits 1
    on any silent flip

What is right after a flip: the very bytes of an undisturbed run, or a refusal in words; a flip into bytes that mean
nothing counts as the former. Of prepared networks, and of a plan, that they are not opened. Times of files are put
back, as where a disk has changed the bit; but for sources, of which a change is seen by size and time alone.
Runs go on in processes of their own, by real members, store and files, in virtual time instead of over MPI.
"""

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import save_file
from support.one_process import run
from support.project import ENSEMBLE, MEMBERS, Project

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.errors import HpcensError
from hpcens.files import sealed
from hpcens.members.conversion import Conversion
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.result.finished import Finished
from hpcens.result.verify import verify
from hpcens.runtimes.prepare import kept
from hpcens.runtimes.recipe import Recipe
from hpcens.specs import MemberSpec, RunSpec
from hpcens.vocabulary import Plan

PREPARED = {"ts": "frozen", "xml": "openvino", "bin": "openvino", "pt2": "compiled"}
OF_A_RUN = ("journal", "working", "source", "weights", "fingerprint", "plan")
SCORED = 7  # segments, before the run is drained
BATCH = 8
ROWS = np.random.default_rng(1).random((BATCH, 3, 8, 8), np.float32)


def flip(path, draw, *, timed=False):
    """Flip one bit of the file. timed: whether its time shows it."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    if not timed:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
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


def project(folder):
    """A folder to score in: half of the rows lie in a file behind the dataset."""
    folder.mkdir()
    made = Project(folder, folder / "weights", folder / "cache").data(120)
    shutil.copytree(folder.parent / "weights", folder / "weights")
    with h5py.File(folder / "behind.h5", "w") as behind, h5py.File(made.dataset, "r+") as file:
        behind["images"] = images = file["images"][:]
        del file["images"]
        file["near"] = images[:60]
        layout = h5py.VirtualLayout(images.shape, images.dtype)
        layout[:60] = h5py.VirtualSource(".", "near", images[:60].shape)
        layout[60:] = h5py.VirtualSource("behind.h5", "images", images.shape)[60:]
        file.create_virtual_dataset("images", layout)
    outputs = "[prediction, label, members, entropy]"
    extra = f"dataset: {{input: images, columns: [near_ids]}}\noutput: {{datasets: {outputs}}}\n"
    extra += "classes: [ant, bee, cat, dog]"
    with h5py.File(made.dataset, "r+") as file:
        file["near_ids"] = np.arange(120)
    made.yaml(extra)
    config = folder / "hpcens.yaml"
    config.write_text(config.read_text().replace(str(folder / "weights"), "weights"))
    return made


def score(made, most=None):
    return run(made.folder / "hpcens.yaml", made.dataset, made.output, most=most)


def content(path):
    """All that is read of a result: rows, columns, class names. Raises HpcensError where it finds damage."""
    with closing(Finished(path)) as result:
        names = [output.name for output in result.outputs]
        rows = [result.read(segment, names) for segment in range(len(result.segmentation))]
        columns = [result.read_column(name, segment) for name in result.columns for segment in range(len(rows))]
        described = [(output.name, output.shape, output.class_axis) for output in result.outputs]
        values = [values.tobytes() for part in rows for values in part.values()]
        return values, [column.tobytes() for column in columns], result.classes, described, result.fingerprint


def victim(made, kind, draw):
    """Return a file of that kind that the run has."""
    patterns = {
        "journal": (made.run, "epochs/*/journal*"),
        "working": (made.run, "working-*.h5"),
        "fingerprint": (made.run, "**/fingerprint.json"),
        "weights": (made.weights, "*.safetensors"),
        "source": (made.folder, "[db]*[a-z].h5"),
    }
    root, pattern = patterns[kind]
    return draw.choice(sorted(root.glob(pattern)))


def outcome(made, kind, wanted, answer):
    """Go on after a flip, or read a result, in a process of its own; put what came of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    sys.path.insert(0, str(made.folder))
    try:
        if kind != "result":
            score(made)
        faults = verify(made.output).faults
        same = content(made.output) == wanted
        answer.put("the same" if same else f"found ({faults[0][:40]}…)" if faults else "SILENT")
    except HpcensError as error:
        answer.put(f"refused ({type(error).__name__})")
    except Exception as error:
        answer.put(f"ended ({type(error).__name__})")


def run_flip(folder, kind, wanted, draw):
    """Flip a bit of a drained run, or of a finished result, and go on; return what came of it."""
    made = Project(folder / "tried", folder / "tried" / "weights", folder / "cache")
    shutil.copytree(folder / ("whole" if kind == "result" else "drained"), made.folder)
    path = made.output if kind == "result" else victim(made, kind, draw)
    place = flip(path, draw, timed=kind == "source")
    fork = multiprocessing.get_context("fork")
    answer = fork.SimpleQueue()
    process = fork.Process(target=outcome, args=(made, kind, wanted, answer))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        process.join()
        came = "HUNG"
    else:
        came = answer.get() if not answer.empty() else f"ended (exit code {process.exitcode})"
    if came.isupper():
        print(f"{path.name}: {place}: {came}", flush=True)
    shutil.rmtree(made.folder)
    return came.partition("…")[0].partition(" (")[0] if came.startswith("found") else came


def plan_flips(folder, flips, draw):
    """Flip bits of a plan as a start keeps it: it is read as what it was, or not at all."""
    example = Path(__file__).parents[1] / "unit" / "planning" / "plan-format-1.json"
    plan, path = Plan.from_json(example.read_text()), folder / "plan.json"
    outcomes = Counter()
    for _ in range(flips):
        path.write_text(sealed(plan.to_json()))
        place = flip(path, draw)
        read = Plan.kept(path)
        outcomes["refused" if read is None else "the same" if read == plan else "SILENT"] += 1
        if read not in (None, plan):
            print(f"plan: {place}: read as another", flush=True)
    return outcomes


def main(flips, kinds):
    draw = random.Random(1)
    sys.path.insert(0, str(ENSEMBLE))
    torch.set_num_threads(1)
    import nets

    wrong, wanted = 0, None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "weights").mkdir()
        torch.manual_seed(7)
        for member, factory in MEMBERS.items():
            save_file(getattr(nets, factory)().state_dict(), folder / "weights" / f"{member}.safetensors")
        for kind in kinds:
            if kind in PREPARED:
                outcomes = prepared_flips(folder, kind, flips, draw)
            elif kind == "plan":
                outcomes = plan_flips(folder, flips, draw)
            else:
                if wanted is None:
                    whole = project(folder / "whole")
                    shutil.copytree(whole.folder, folder / "drained")
                    score(whole)
                    wanted = content(whole.output)
                    score(Project(folder / "drained", folder / "weights", folder / "cache"), most=SCORED)
                outcomes = Counter(run_flip(folder, kind, wanted, draw) for _ in range(flips))
            wrong += sum(count for came, count in outcomes.items() if came.isupper())
            print(f"{kind}: {', '.join(f'{count} {came}' for came, count in outcomes.most_common())}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    sys.exit(main(count, sys.argv[2:] or [*PREPARED, *OF_A_RUN, "result"]))
