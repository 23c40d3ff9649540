"""Packings: found exactly where there is one."""

import pytest
from support.instances import mixed
from support.placements import all_fit_alone, all_placements, check, fits, planned

from hpcens.allocation.packing import place_packed
from hpcens.errors import UsageError


def test_a_packing_is_found_exactly_where_there_is_one():
    both = [0, 0]
    for seed in range(60):
        of = mixed(seed, memories=(20, 30))
        if all_fit_alone(of):
            packed = place_packed(of)
            exists = any(True for _ in all_placements(of))
            assert (packed is not None) == exists
            if packed is not None:
                runs = {m: (choice.batch, choice.runtime) for m, choice in packed.runs.items()}
                assert all(fits(of, d, packed.hosted.get(d.name, ()), runs) for d in of.devices)
            both[exists] += 1
    assert min(both) > 3


@pytest.mark.parametrize("seed", [248, 653])
def test_an_ensemble_that_only_a_packing_places_is_planned(seed):
    of = mixed(seed, memories=(20, 30))
    with pytest.raises(UsageError, match="do not fit the devices together"):
        planned(of, "greedy", (4, 16))
    check(of, planned(of, sizes=(4, 16)))
