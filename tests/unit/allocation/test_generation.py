"""Generated patterns: what a device makes at best at any prices, and a bound that no placement beats."""

import time
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.instances import SIZES, drawn, mixed
from support.placements import all_placements, throughput_of

from hpcens.allocation.bound import pools, upper_bound
from hpcens.allocation.generation import generate
from hpcens.allocation.menu import Option, make_menu
from hpcens.allocation.model import Choice
from hpcens.allocation.pricing import Pricing


def best_by_enumeration(offer, room, worth, most):
    """Every set of members at every level; a set's time goes to those whose rows are worth most for it."""
    best = 0.0
    context = min(o.context for of in offer.values() for o in of.values())
    for level in {o.workspace for of in offer.values() for o in of.values()}:
        able = {m: [o for o in of.values() if o.workspace <= level] for m, of in offer.items()}
        able = {m: (max(o.speed for o in of), min(o.weights for o in of)) for m, of in able.items() if of}
        for size in range(1, len(able) + 1):
            for some in combinations(able, size):
                if context + level + sum(able[m][1] for m in some) > room:
                    continue
                free, made = 1.0, 0.0
                for m in sorted(some, key=lambda m: -worth[m] * able[m][0]):
                    rows = min(most, free * able[m][0])
                    free, made = free - rows / able[m][0], made + rows * worth[m]
                best = max(best, made)
    return best


@st.composite
def offers(draw):
    numbers = st.integers(1, 100)
    sizes = draw(st.integers(1, 3))
    return {
        f"m{m}": {
            Choice(b, "eager"): Option(draw(st.floats(1.0, 100.0)), weights, (b + 1) * row, 5) for b in range(sizes)
        }
        for m in range(draw(st.integers(1, 6)))
        for weights, row in [(draw(numbers), draw(numbers))]
    }


@settings(max_examples=120, deadline=None)
@given(offers(), st.integers(50, 500), st.floats(0.5, 200.0), st.lists(st.floats(0.01, 1.0), min_size=6, max_size=6))
def test_a_priced_device_is_the_best_of_all_that_it_can_hold(offer, room, most, prices):
    worth = dict(zip(offer, prices, strict=False))
    best = best_by_enumeration(offer, room, worth, most)
    pricing = Pricing(offer, room)
    found = pricing.best(worth, most, 1e-3)
    assert best * (1 - 1e-9) <= found.bound <= best * (1 + 2e-3)
    assert found.columns or best == 0.0
    for column in found.columns:
        assert pricing.column(tuple(column.speeds)) is not None, "what is found fits"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 500))
def test_no_placement_beats_what_generated_patterns_prove(seed):
    of = mixed(seed).within((4, 16), 10**6)
    best = max((throughput_of(of, *placement) for placement in all_placements(of)), default=0.0)
    assume(best > 0.0)
    bound = upper_bound(of).sharing
    menu = make_menu(of, pools(of), largest=True)
    proven = generate(menu, (), worth=bound.worth, most=bound.bound, enough=0.0, end=time.monotonic() + 60.0)
    assert best * (1 - 1e-9) <= proven.bound <= bound.bound and not proven.late


@pytest.mark.parametrize("seed", [18, 34])
def test_generated_patterns_prove_less_where_memory_binds(seed):
    of = drawn(seed, tight=True).within(SIZES, 10**7)
    bound = upper_bound(of).sharing
    menu = make_menu(of, pools(of), largest=True)
    most = {"worth": bound.worth, "most": bound.bound}
    proven = generate(menu, (), **most, enough=0.97 * bound.bound, end=time.monotonic() + 60.0)
    assert proven.bound < 0.985 * bound.bound
    assert generate(menu, (), **most, enough=0.0, end=time.monotonic()).late
