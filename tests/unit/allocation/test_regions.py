"""Planning part by part."""

import pytest
from support.instances import SIZES, drawn

from hpcens.allocation.bound import pools, upper_bound
from hpcens.allocation.composition import holds, sharing_of
from hpcens.allocation.menu import make_menu
from hpcens.allocation.partition import partition
from hpcens.allocation.regions import replan


@pytest.mark.parametrize("seed", [5, 27, 55])
def test_planning_part_by_part_only_improves(seed):
    of = drawn(seed, tight=True).within(SIZES, 10**7)
    menu = make_menu(of, pools(of))
    start = partition(menu, dict.fromkeys(of.members, 0.5), seed=0)
    assert start is not None and holds(menu, start)
    before = sharing_of(menu, start).throughput
    found, _ = replan(menu, start, most=upper_bound(of).sharing.bound, enough=1.2 * before, seconds=30.0)
    assert holds(menu, found) and sharing_of(menu, found).throughput > 1.05 * before
