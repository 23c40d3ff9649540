"""Planning drill: random instances with a proven gap, against the baselines; and brute force over small ones.

PYTHONPATH=tests python tests/drills/plans.py [INSTANCES [SMALL]]
    default 200 and 500; prints seeds and tables, exits 1 on a fault
"""

import argparse
import statistics
import sys
import time
from math import exp, log

import scipy.optimize  # noqa: F401  so that planning times are those of planning
from support.instances import drawn, mixed
from support.placements import check, check_by_brute_force, planned

from hpcens.errors import UsageError


def one(seed, *, tight):
    """A line of figures on the instance of this seed; None where no planner places it."""
    of = drawn(seed, tight=tight)
    began = time.perf_counter(), time.process_time()
    try:
        made = planned(of, rows=10**7)
    except UsageError as error:
        print(f"  seed {seed}: not placed: {error.what}", flush=True)
        return None
    seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    check(of, made)
    others = {}
    for planner in ("greedy", "worst-fit"):
        try:
            others[planner] = made.throughput / planned(of, planner, rows=10**7).throughput
        except UsageError:
            others[planner] = None
    print(
        f"  seed {seed}: {len(of.members)} members, {len(of.devices)} devices of"
        f" {len({d.kind for d in of.devices})} kinds: gap {100 * made.gap:.2f} % in {seconds:.2f} s, {made.limit}",
        flush=True,
    )
    return {"gap": made.gap, "seconds": seconds, "cpu": cpu, "limit": made.limit.split()[0], **others}


def table(name, found, target):
    placed = [row for row in found if row]
    within = sum(row["gap"] <= target for row in placed) / len(placed)
    seconds = sorted(row["seconds"] for row in placed)
    limits = {limit: sum(row["limit"] == limit for row in placed) for limit in sorted({r["limit"] for r in placed})}
    ratios = {
        planner: (exp(statistics.fmean(log(row[planner]) for row in placed if row[planner])),
                  sum(row[planner] is None for row in placed))
        for planner in ("greedy", "worst-fit")
    }  # fmt: skip
    print(
        f"{name}: {len(placed)} of {len(found)} placed; gap ≤ {100 * target:.0f} % in {100 * within:.1f} %,"
        f" worst {100 * max(row['gap'] for row in placed):.2f} %; bound by {limits}"
    )
    print(
        f"  planned in {statistics.median(seconds):.3f} s (median), {seconds[-1]:.2f} s (most),"
        f" CPU {max(row['cpu'] for row in placed):.2f} s (most)"
    )
    for planner, (ratio, failed) in ratios.items():
        print(f"  {ratio:.2f} times {planner} (geometric mean), which does not place {failed}")
    return placed


def main(instances, small):
    found = {}
    for tight in (False, True):
        print(f"{'tight' if tight else 'loose'} memory, seeds 0–{instances // 2 - 1}")
        found[tight] = [one(seed, tight=tight) for seed in range(instances // 2)]
    table("loose memory", found[False], 0.01)
    table("tight memory", found[True], 0.05)
    seconds = [row["seconds"] for rows in found.values() for row in rows if row]
    print(f"all: planned in {statistics.median(seconds):.3f} s (median), {max(seconds):.2f} s (most)")
    reached = [check_by_brute_force(mixed(seed), (4, 16)) for seed in range(small)]
    loose = range(small, small + small // 4)
    reached += [check_by_brute_force(mixed(seed, memories=(10**6,)), (4, 16)) for seed in loose]
    print(
        f"brute force over {len(reached)} instances, seeds 0–{len(reached) - 1}: no placement above its bound, none of"
        f" the plans above the best placement; the best is reached in {sum(part > 1 - 1e-5 for part in reached)},"
        f" least {min(reached):.4f} of it"
    )
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Random planning problems, and small ones against brute force.")
    parser.add_argument("instances", type=int, nargs="?", default=200)
    parser.add_argument("small", type=int, nargs="?", default=500, help="instances for brute force")
    options = parser.parse_args()
    sys.exit(main(options.instances, options.small))
