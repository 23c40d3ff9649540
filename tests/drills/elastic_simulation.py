"""Simulation: worlds that share a dataset, in virtual time, with node failures, waits in the queue and stragglers.

PYTHONPATH=tests python tests/drills/elastic_simulation.py [--worlds 100] [--devices 8] [--segments 100000] …

Every block is scored by the roles and messages of a run (`hpcens.planning.simulation`), what is claimed next is decided
by what worlds decide with (`hpcens.units`), and every look into the shared folder takes its time, during which others
act. Beside it one world over as many nodes, which waits for all of them and starts anew where one fails.

Printed: how much of what the devices could do from the moment their node was given to the end was done (a world that
has left counts as idle); the same up to each world's leaving; and metadata operations a second.
"""

import argparse
import heapq
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from itertools import count
from math import inf
from pathlib import Path

from hpcens.planning.simulation import simulate
from hpcens.units import UnitList, claim_next
from hpcens.units.blocks import blocks_of, open_units, planning, scoring
from hpcens.units.claims import attempts_of, kind_of, standing_of
from hpcens.vocabulary import Device, Hosting, MemberNumerics, Numerics, Plan, Segmentation

SEGMENT_ROWS = 256
CALL_SECONDS = 0.005  # of a call to the file server
KNOWN_SECONDS = 60.0  # until Slurm says of a lost node's job that it is lost


class Killed(BaseException):
    """A world's node is lost."""


class Time:
    """Threads of which one runs at a time, in the order of virtual time."""

    def __init__(self):
        self.now = 0.0
        self._heap, self._order = [], count()
        self._back = threading.Semaphore(0)
        self._own = threading.local()

    def start(self, live):
        turn = threading.Semaphore(0)

        def body():
            self._own.turn = turn
            turn.acquire()
            live()
            self._back.release()

        threading.Thread(target=body, daemon=True).start()
        heapq.heappush(self._heap, (self.now, next(self._order), turn))

    def sleep(self, seconds):
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), self._own.turn))
        self._back.release()
        self._own.turn.acquire()

    def run(self):
        while self._heap:
            self.now, _, turn = heapq.heappop(self._heap)
            turn.release()
            self._back.acquire()


class Folder:
    """Claims as one file server keeps them; every call is counted, and takes its time."""

    def __init__(self, clock):
        self.clock, self.names, self.claims = clock, set(), {}
        self.calls, self.at = Counter(), Counter()

    def call(self, kind, number=1):
        self.calls[kind] += number
        for call in range(number):
            self.at[int(self.clock.now + call * CALL_SECONDS)] += 1
        self.clock.sleep(CALL_SECONDS * number)

    def standings(self, units, round_id=None):
        self.call("listings")
        attempts = attempts_of(self.names)
        return {unit.key: standing_of(attempts.get(unit.key, ()), set()) for unit in units.units}

    def claim(self, attempt, world, round_id):
        self.call("claims", 4)  # a folder with a file, which appear by a rename
        if attempt.name in self.names:
            return False
        self.names.add(attempt.name)
        self.claims[attempt.name] = world, round_id
        return True

    def claimant(self, attempt):
        self.call("reads")
        return self.claims[attempt.name]

    def settle(self, attempt, kind):
        self.call("settled", 4)
        self.names.add(f"{attempt.name}.{kind}")


def plan_of(asked, nodes, segments, paces):
    """The plan of a world over so many nodes; paces: of each node, 1 being what profiles say."""
    devices = [
        (f"n{node}/cuda{i}", SEGMENT_ROWS / asked.seconds * paces[node])
        for node in range(nodes)
        for i in range(asked.devices)
    ]
    speed = sum(own for _, own in devices)
    return Plan(
        planner="optimal",
        devices=tuple(Device(name, "cuda", "GPU", 1 << 36) for name, _ in devices),
        hostings=tuple(Hosting((name,), 1, {"a": own}, {"a": own}) for name, own in devices),
        numerics=Numerics(SEGMENT_ROWS, {"a": MemberNumerics(SEGMENT_ROWS, "eager")}, ("GPU",), "2"),
        rows=segments * SEGMENT_ROWS,
        window=4 * len(devices),
        read_ahead=2 * len(devices),
        readers=1 + nodes // 25,
        reducers=1 + nodes // 25,
        **dict(row_bytes=602112, output_bytes=4000, differences={}, loading=asked.between),
        **dict(throughput=speed, bound=speed, limit=""),
    )


class Worlds:
    """Worlds of one node each, which claim block after block."""

    def __init__(self, asked, draw, clock):
        self.asked, self.draw, self.clock = asked, draw, clock
        self.paces = [0.5 if i < asked.stragglers else draw.uniform(0.97, 1.03) for i in range(asked.worlds)]
        draw.shuffle(self.paces)
        self.waits = [0.0 if draw.random() < 0.5 else draw.expovariate(1 / asked.wait) for _ in self.paces]
        nominal = plan_of(asked, 1, asked.segments, [1.0])
        self.units = scoring(
            planning(UnitList(0, "", {}, (), whole="out.h5", worlds=asked.worlds)),
            Path("blocks"),
            "digest",
            Segmentation(nominal.rows, SEGMENT_ROWS),
            row_bytes=nominal.row_bytes,
            seconds=nominal.rows / nominal.throughput,
            devices=asked.devices,
        )
        self.speed = nominal.throughput * nominal.row_bytes
        self.blocks = {unit.key: unit for unit in blocks_of(self.units)}
        self.left = {key: unit.rows for key, unit in self.blocks.items()}
        self.folder = Folder(clock)
        self.given, self.killed = [], {}  # (when, until, pace) of nodes; world → when it was killed
        self.again = self.twice = 0

    def go(self):
        for number in range(self.asked.worlds):
            self.clock.start(lambda number=number: self._element(number))
        self.clock.run()
        work = self.asked.segments * self.asked.seconds
        end = max(self.ends)
        could = sum((min(end, until) - since) * pace for since, until, pace, _ in self.given) * self.asked.devices
        held = sum((min(left, until) - since) * pace for since, until, pace, left in self.given) * self.asked.devices
        return end, work / could, work / held

    def _element(self, number):
        """One element of the array, from start to start."""
        self.ends = getattr(self, "ends", [])
        wait = self.waits[number]
        for restart in count():
            self.clock.sleep(wait)
            if not any(self.left.values()):
                return
            name, since = f"{number}-{restart}", self.clock.now
            until = since + (self.draw.expovariate(1 / self.asked.fails) if self.asked.fails else inf)
            try:
                self._world(name, number, until)
            except Killed:
                self.given.append((since, until, self.paces[number], until))
                self.killed[name] = self.clock.now
                self.again += 1
                wait = self.draw.expovariate(1 / self.asked.wait)
                continue
            self.given.append((since, inf, self.paces[number], self.clock.now))
            return

    def _spend(self, seconds, until):
        left = until - self.clock.now
        self.clock.sleep(min(seconds, max(left, 0.0)))
        if seconds > left:
            raise Killed

    def _world(self, name, number, until):
        self._spend(self.asked.start, until)
        sizes, seconds = 0.0, None
        while True:
            self.folder.call("looks", 8)  # is it whole; which list, which plan; is it asked to end
            standings = self.folder.standings(self.units, "r")
            units = replace(self.units, units=open_units(self.units, standings))
            if not any(unit.rows for unit in units.units):
                return
            speed = sizes / seconds if seconds else None
            pace = speed / self.speed if speed else 1.0
            claimed = claim_next(
                self.folder, units, name, "r", dead=self._dead, known_dead=self._dead, speed=speed, pace=pace
            )
            if claimed is None:
                return
            began, key = self.clock.now, claimed.attempt.unit
            self.folder.call("starts", self.asked.calls)
            self._spend(self.asked.between, until)
            plan = plan_of(self.asked, 1, 0, [self.paces[number]])
            found = simulate(replace(plan, rows=self.left[key]), until=max(until - self.clock.now, 0.0))
            self._score(key, found, until)
            self.folder.settle(claimed.attempt, kind_of(0, 0))
            if seconds is None:  # of the first a part is its start
                seconds = 0.0
            else:
                sizes, seconds = sizes + self.blocks[key].bytes, seconds + self.clock.now - began
            self.ends.append(self.clock.now)

    def _score(self, key, found, until):
        whole = found.rows == self.left[key] and self.clock.now + found.seconds <= until
        self.left[key] -= found.rows
        self._spend(found.seconds if whole else inf, until)

    def _dead(self, names):
        for _ in names:
            self.folder.call("reads", 2)
        return {name for name in names if self.clock.now >= self.killed.get(name, inf) + KNOWN_SECONDS}


def one_world(asked, draw, worlds):
    """Seconds until one world over all nodes has scored all, and what the devices could have done by then."""
    now, rows, restarts, paces = max(worlds.waits), asked.segments * SEGMENT_ROWS, 0, worlds.paces
    since = now
    while rows:
        now += asked.start + asked.between
        fails = draw.expovariate(asked.worlds / asked.fails) if asked.fails else inf
        found = simulate(replace(plan_of(asked, asked.worlds, 0, paces), rows=rows), until=fails)
        rows -= found.rows
        now += fails if rows else found.seconds
        if rows:
            now, restarts = now + draw.expovariate(1 / asked.wait), restarts + 1
    could = (now - since) * sum(paces) * asked.devices
    return now, asked.segments * asked.seconds / could, restarts


def main(asked):
    began = time.process_time()
    draw, clock = random.Random(asked.seed), Time()
    worlds = Worlds(asked, draw, clock)
    end, could, held = worlds.go()
    folder = worlds.folder
    sizes = sorted(unit.segments[1] - unit.segments[0] for unit in worlds.blocks.values())
    print(f"{asked.worlds} worlds × {asked.devices} devices, {asked.segments:,} segments of {asked.seconds} s")
    print(f"{len(sizes)} blocks of {sizes[0]} to {sizes[-1]} segments; {worlds.again} nodes failed")
    print(f"claimed: {end / 3600:.2f} h, {could:.3f} of what the devices could do, {held:.3f} until each world left")
    total = sum(folder.calls.values())
    busiest = max(folder.at.values())
    print(f"metadata: {total:,} calls, {total / end:.1f} a second, at most {busiest} in one: {dict(folder.calls)}")
    now, share, restarts = one_world(asked, draw, worlds)
    print(f"one world: {now / 3600:.2f} h, {share:.3f}, {restarts} restarts")
    print(f"{time.process_time() - began:.0f} s of CPU", flush=True)
    return could < asked.least


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Worlds that share a dataset, in virtual time.")
    parser.add_argument("--worlds", type=int, default=100)
    parser.add_argument("--devices", type=int, default=8, help="of each world")
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="that a device takes for a segment")
    parser.add_argument("--start", type=float, default=40.0, help="seconds until a world can claim")
    parser.add_argument("--between", type=float, default=2.0, help="seconds between claim and first batch")
    parser.add_argument("--fails", type=float, default=10 * 3600.0, help="mean seconds between failures of a node")
    parser.add_argument("--wait", type=float, default=900.0, help="mean seconds of those that wait in the queue")
    parser.add_argument("--stragglers", type=int, default=3, help="worlds of half the pace")
    parser.add_argument("--calls", type=int, default=600, help="metadata calls of a block, as counted of a run")
    parser.add_argument("--least", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    sys.exit(main(parser.parse_args()))
