"""Mutated HDF5 files: never a traceback as the answer, never a hang, never a wrong exit code, never a touched input.

PYTHONPATH=tests python tests/drills/fuzz_hdf5.py [COUNT] [--seed N] [--whole COUNT]
    default: 500 files, no whole runs

Each file goes through `hpcens run` up to the start of the ranks, then all its rows through the reading path. With
--whole, that many files which passed the first look are scored by real ranks as well.
"""

import argparse
import sys

from support.fuzzing import SEEDS, fuzzing


def run() -> int:
    parser = argparse.ArgumentParser(description="Mutated HDF5 files.")
    parser.add_argument("count", type=int, nargs="?", default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", type=int, default=0)
    options = parser.parse_args()
    with fuzzing() as fuzz:
        fuzz.soundness(SEEDS)
        fuzz.codes.clear()
        for number in range(options.count):
            fuzz.candidate(number, options.seed)
            if number % 50 == 49:
                print(number + 1, dict(fuzz.codes), f"longest {fuzz.longest:.1f} s", flush=True)
        print("answers:", dict(fuzz.answers.most_common()))
        whole = fuzz.passed[: options.whole]
        fuzz.codes.clear()
        for name, path in whole:
            fuzz.whole(name, path)
        print(f"{len(whole)} whole runs:", dict(fuzz.codes))
        print(*fuzz.faults, sep="\n")
        print(f"{len(fuzz.faults)} faults")
    return int(bool(fuzz.faults))


if __name__ == "__main__":
    sys.exit(run())
