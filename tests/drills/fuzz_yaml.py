"""Mutated YAML files through the command line: never a traceback as the answer, never a wrong exit code.

PYTHONPATH=tests python tests/drills/fuzz_yaml.py [COUNT] [--seed N]
    default: 2000 files; prints the codes, exits 1 on any fault
"""

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from support.configuration import FULL, ODD, edited
from support.fuzzing import answer, kind_of

ALLOWED = {1, 2, 65}
KINDS = ["delete", "double", "line", "value", "key", "swap", "indent", "bytes"]


def run():
    parser = argparse.ArgumentParser(description="Mutated YAML files.")
    parser.add_argument("count", type=int, nargs="?", default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    codes, answers, faults = Counter(), Counter(), []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        with h5py.File("d.h5", "w") as file:
            file["images"] = np.zeros((4, 2), "f4")
        dataset = Path("d.h5").read_bytes()
        path = Path("run.yaml")
        for number in range(options.count):
            draw = random.Random(f"{options.seed} {number}")
            edits = [
                (draw.choice(KINDS), draw.randrange(41), draw.randrange(41), draw.choice(ODD))
                for _ in range(draw.randint(1, 4))
            ]
            data = edited(FULL, edits)
            path.write_bytes(data)
            try:
                code, said = answer("run", "d.h5", "-c", "run.yaml")
            except BaseException as error:  # whatever it is, it is the finding
                code, said = -1, f"Traceback: {type(error).__name__}: {error}"
            codes[code] += 1
            answers[kind_of(said)] += 1
            wrong = [
                f"exit code {code}" * (code not in ALLOWED),
                "a traceback" * ("Traceback" in said),
                "no remedy" * ("→" not in said and ";" not in said),
                "a touched file" * (path.read_bytes() != data or Path("d.h5").read_bytes() != dataset),
                "something left behind" * (sorted(os.listdir()) != ["d.h5", "run.yaml"]),
            ]
            if any(wrong):
                faults.append(f"{number}: {', '.join(filter(None, wrong))}: {said.strip()[-300:]}")
        os.chdir("/")
    print("codes:", dict(codes))
    print("answers:", dict(answers.most_common(12)))
    print(*faults, sep="\n")
    print(f"{len(faults)} faults in {options.count}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(run())
