"""The program over cells, against brute force."""

import pytest
from support.instances import mixed
from support.placements import all_placements, throughput_of

from hpcens.allocation.bound import pools, upper_bound
from hpcens.allocation.cells import solve_cells
from hpcens.allocation.composition import holds, sharing_of
from hpcens.allocation.menu import make_menu
from hpcens.allocation.program import Effort


def test_the_program_over_cells_finds_the_best_placement_and_proves_it():
    """Against brute force; where pools differ in memory or members in size, what it proves is still no less."""
    reached = 0
    for seed in range(24):
        of = mixed(seed, memories=(20, 40)).within((4, 16), 10**6)
        best = max((throughput_of(of, *placement) for placement in all_placements(of)), default=0.0)
        if best == 0.0:
            continue
        bound = upper_bound(of)
        menu = make_menu(of, pools(of), largest=True)
        most = bound.sharing.bound
        answer = solve_cells(menu, most=most, least=0.0, effort=Effort(10_000, 60.0))
        assert best <= answer.bound * (1 + 1e-6) and not answer.late
        if menu.exact and answer.composition is not None and holds(menu, answer.composition):
            assert sharing_of(menu, answer.composition).throughput == pytest.approx(best, rel=1e-3)
            reached += 1
        above = solve_cells(menu, most=most, least=min(most, answer.bound * 1.01), effort=Effort(10_000, 60.0))
        assert above.bound >= best * (1 - 1e-6), "no answer above what is wanted proves no less than that"
    assert reached > 5
