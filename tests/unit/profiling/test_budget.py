"""From how many rows on a runtime is tried: from where its preparation pays, however many rows there were before."""

from hypothesis import given
from hypothesis import strategies as st

from hpcens.profiling.budget import budget, pays_from

POSITIVE = st.floats(1e-3, 1e4)


@given(needed=POSITIVE, speed=POSITIVE, seconds=POSITIVE)
def test_it_is_tried_from_the_first_rows_that_pay_and_not_later(needed, speed, seconds):
    rows = pays_from(needed, speed, seconds)
    assert budget(rows, speed, seconds) >= needed * (1 - 1e-9)
    assert budget(rows - 1, speed, seconds) <= needed * (1 + 1e-9)
