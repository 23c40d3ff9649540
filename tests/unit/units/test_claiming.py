"""Claims of units: any interleaving of worlds, killed at any call, gives every unit exactly one result."""

import threading
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from hpcens.errors import BAD_DATA, COMPLETE, FAILURE, INCOMPLETE
from hpcens.units import Attempt, Unit, UnitList, choose, claim_next, kind_of, next_attempt, standing_of
from hpcens.units.claims import MOST_DEATHS, attempts_of

KEYS = [f"{number:016x}" for number in range(6)]
UNITS = UnitList(1, "{}", {}, tuple(Unit(key, f"/d/{key}", f"/o/{key}", 60 - i) for i, key in enumerate(KEYS)))


class Memory:
    """The directory as one file server has it: every call is one step, and each name is made once."""

    def __init__(self, step):
        self.names, self.claims, self._step = set(), {}, step

    def standings(self, units, round_id=None):
        self._step()
        attempts = attempts_of(self.names)
        failed = {a.name for own in attempts.values() for a in own if a.kind == "failed" and self.own(a) == round_id}
        return {unit.key: standing_of(attempts.get(unit.key, ()), failed) for unit in units.units}

    def own(self, attempt):
        return self.claims[attempt.name][1]

    def claim(self, attempt, world, round_id):
        self._step()
        if attempt.name in self.names:
            return False
        self.names.add(attempt.name)
        self.claims[attempt.name] = world, round_id
        return True

    def claimant(self, attempt):
        self._step()
        return self.claims[attempt.name]

    def settle(self, attempt, kind):
        self._step()
        self.names.add(f"{attempt.name}.{kind}")


class Killed(BaseException):
    """A world is gone, at this very call."""


class Simulation:
    """Worlds in threads of which one runs at a time, each until its next call, in an order that hypothesis draws.

    order     which of those that live makes the next call, as a number
    kills     calls, counted over all worlds, at which the one that makes it is killed
    mistaken  worlds that are taken for dead whether or not they live: they wake up and go on
    """

    def __init__(self, faulty, order, kills, mistaken=()):
        self.memory = Memory(self._step)
        self.faulty, self.order, self.kills, self.mistaken = faulty, iter(order), kills, mistaken
        self.results, self.scoring, self.overlaps = Counter(), {}, 0
        self.living, self.turns, self.calls = {}, {}, 0
        self.back = threading.Semaphore(0)
        self.ended = Counter()

    def _step(self):
        if (turn := self.turns.get(threading.current_thread())) is None:
            return
        self.back.release()
        turn.acquire()
        self.calls += 1
        if self.calls in self.kills:
            raise Killed

    def run(self, rounds):
        """Live worlds of these rounds side by side until all have ended."""
        for round_id in rounds:
            name = f"{round_id}{len(self.ended) + len(self.living)}"
            thread = threading.Thread(target=self._world, args=(name, round_id), daemon=True)
            self.living[name], self.turns[thread] = thread, threading.Semaphore(0)
            thread.start()
        while self.living:
            names = sorted(self.living)
            turn = self.turns[self.living[names[next(self.order, 0) % len(names)]]]
            turn.release()
            self.back.acquire()

    def _world(self, name, round_id):
        self.turns[threading.current_thread()].acquire()
        end = "killed"
        try:
            for _ in range(100):
                claimed = claim_next(self.memory, UNITS, name, round_id, dead=self._dead)
                if claimed is None:
                    end = "nothing left"
                    break
                self._score(name, claimed)
        except Killed:
            pass
        finally:
            self.ended[end] += 1
            del self.living[name]
            self.back.release()

    def _dead(self, names):
        return {name for name in names if name not in self.living or name in self.mistaken}

    def _score(self, name, claimed):
        unit = claimed.attempt.unit
        if claimed.deaths >= MOST_DEATHS:
            self.memory.settle(claimed.attempt, "failed")
            return
        self.overlaps += self.scoring.get(unit) in self.living
        self.scoring[unit] = name
        self._step()
        self.scoring.pop(unit, None)
        if unit in self.faulty:
            self.memory.settle(claimed.attempt, "failed")
            return
        self.results[unit] += not self.results[unit]  # the result's name is made once
        self.memory.settle(claimed.attempt, "done")

    def states(self, round_id):
        return {key: standing.state for key, standing in self.memory.standings(UNITS, round_id).items()}


@settings(max_examples=300, deadline=None)
@given(
    order=st.lists(st.integers(0, 5), max_size=200),
    kills=st.sets(st.integers(1, 150), max_size=4),
    faulty=st.sets(st.sampled_from(KEYS), max_size=3),
    mistaken=st.sets(st.sampled_from(["a0", "a1", "b2"])),
)
def test_every_file_gets_exactly_one_result(order, kills, faulty, mistaken):
    simulation = Simulation(faulty, order, kills, mistaken)
    simulation.run("aab")
    simulation.kills = set()
    simulation.run("c")  # the same command again
    assert simulation.states("c") == {key: "failed" if key in faulty else "done" for key in KEYS}
    assert simulation.results == {key: 1 for key in KEYS if key not in faulty}
    assert mistaken or not simulation.overlaps
    assert simulation.ended["nothing left"] + simulation.ended["killed"] == 4


@settings(deadline=None)
@given(order=st.lists(st.integers(0, 5), max_size=120))
def test_a_faulty_file_fails_once_a_round_and_a_world(order):
    """Rounds that go on side by side do not hand a faulty file back and forth."""
    simulation = Simulation({KEYS[0]}, order, ())
    simulation.run("aabb")
    failed = [name for name in simulation.memory.names if name.startswith(KEYS[0]) and name.endswith("failed")]
    rounds = Counter(simulation.memory.claims[name.removesuffix(".failed")][1] for name in failed)
    assert set(rounds.values()) == {1}


def test_names_that_are_no_claims_are_left_out():
    unit = KEYS[1]
    names = [f"{unit}.0001", f"{unit}.0001.left", f"{unit}.0002", f".{unit}.0003.ab", "notes.txt", f"{unit}.0002~"]
    assert attempts_of(names) == {unit: (Attempt(unit, 1, "left"), Attempt(unit, 2))}


def test_only_the_number_after_an_attempt_that_ended_is_taken():
    unit = KEYS[0]
    held = standing_of([Attempt(unit, 1)])
    assert held.state == "held" and next_attempt(unit, held) is None
    assert next_attempt(unit, held, dead=True) == Attempt(unit, 2)
    left = standing_of([Attempt(unit, 1, "left")])
    assert next_attempt(unit, left) == Attempt(unit, 2)
    late = standing_of([Attempt(unit, 1, "done"), Attempt(unit, 2)])
    assert late.state == "done" and next_attempt(unit, late, dead=True) is None


def test_a_failure_of_nobodys_may_pass_once():
    assert [kind_of(code, 0) for code in (COMPLETE, FAILURE, INCOMPLETE, BAD_DATA)] == [
        "done",
        "left",
        "left",
        "failed",
    ]
    assert kind_of(FAILURE, 1) == "failed"


def test_a_world_takes_the_largest_that_fits_its_time():
    sizes = {unit.key: unit.bytes for unit in UNITS.units}
    free = set(KEYS[1:])
    assert choose(sizes, free, seconds_left=None, speed=None) == KEYS[1:]
    assert choose(sizes, free, seconds_left=57.0, speed=1.0) == KEYS[3:]
    assert choose(sizes, free, seconds_left=9.0, speed=None) == KEYS[1:]
    assert choose(sizes, free, seconds_left=0.0, speed=None) == []


def test_a_slow_world_begins_with_what_takes_it_no_longer_than_the_largest_takes_others():
    sizes = dict(zip(KEYS, (80, 80, 60, 40, 20, 10), strict=True))
    fast = choose(sizes, KEYS, seconds_left=None, speed=None, pace=0.9)
    assert fast == KEYS
    slow = choose(sizes, KEYS, seconds_left=None, speed=None, pace=0.5)
    assert slow == [KEYS[3], KEYS[4], KEYS[5], KEYS[2], KEYS[1], KEYS[0]]
    assert choose(sizes, KEYS[:2], seconds_left=None, speed=None, pace=0.1) == [KEYS[1], KEYS[0]]


def test_a_unit_that_lags_behind_is_taken_from_a_dead_world_before_smaller_ones_are():
    """The block of a node that failed early was scored last, when all others had nothing left to do."""
    sizes = (100, 90, 40, 40, 40, 40)
    units = UnitList(1, "{}", {}, tuple(Unit(k, k, k, size) for k, size in zip(KEYS, sizes, strict=True)))
    memory = Memory(lambda: None)
    asked = []

    def known_dead(names):
        asked.append(set(names))
        return {"lost"} & set(names)

    def claim(world):
        claimed = claim_next(memory, units, world, "r", dead=lambda names: (), known_dead=known_dead)
        return claimed.attempt.unit, claimed.taken_over

    assert claim("lost") == (KEYS[0], False) and claim("slow") == (KEYS[1], False)
    assert asked == []  # nothing lags behind yet
    assert claim("third") == (KEYS[0], True)
    assert asked == [{"lost", "slow"}]
    assert claim("fourth") == (KEYS[2], False)
    assert asked[1:] == [{"third", "slow"}]
