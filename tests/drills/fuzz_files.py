"""Mutated files of members, and mutated JSON of a run and of the cache: never a traceback, never a hang.

PYTHONPATH=tests python tests/drills/fuzz_files.py [COUNT] [--seed N]
    default: 1000 of each kind of member's file, of exported programs a quarter, and 2000 of JSON; exits 1 on any fault
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from support.mutations import KINDS, TOGETHER, JsonFuzz, MemberFuzz
from support.project import ENSEMBLE, MEMBERS, Project


def run() -> int:
    parser = argparse.ArgumentParser(description="Mutated files of members, and mutated JSON.")
    parser.add_argument("count", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.path.insert(0, str(ENSEMBLE))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        home = Path(folder)
        os.environ["HPCENS_CACHE"] = str(home / "cache")
        import nets
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(7)
        save_file(nets.Linear().state_dict(), home / "linear.safetensors")
        project = Project(home, home, home / "cache").data(64)
        project.yaml(members={"linear": MEMBERS["linear"]}, devices="{cpu: 1}")
        members = MemberFuzz(project)
        for kind in KINDS:
            count = options.count // 4 if kind == "exported" else options.count
            for start in range(0, count, TOGETHER):
                members.candidates(kind, range(start, min(start + TOGETHER, count)), options.seed)
            print(kind, members.counts[kind], f"longest {members.longest:.1f} s", flush=True)
        print("answers:", dict(members.answers.most_common(20)))
        project.hpcens("run", "dataset.h5")
        os.chdir(home)
        json = JsonFuzz(project)
        for number in range(2 * options.count):
            json.candidate(number, options.seed)
        print("JSON:", sum(json.codes.values()), dict(json.codes), f"longest {json.longest:.1f} s")
        os.chdir("/")
        faults = [*members.faults, *json.faults]
        print(*faults, sep="\n")
        print(f"{len(faults)} faults in {sum(members.counts.values()) + sum(json.codes.values())}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(run())
