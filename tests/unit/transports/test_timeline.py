"""A rank's time: summed by what was done, from when it counts."""

from math import inf

import pytest

from hpcens.transports import Timeline


def test_what_was_before_it_counts_is_not_summed():
    """Story: readers that wait for devices to load had waited longer than the start had scored."""
    timeline = Timeline(keep=True)
    timeline.add("wait", 1.0, 3.0)
    timeline.since = inf
    timeline.add("read", 3.0, 4.0)
    timeline.since = 10.0
    for began, ended in ((4.0, 6.0), (6.0, 12.0), (12.0, 15.0)):
        timeline.add("wait", began, ended)
    assert timeline.totals == {"wait": pytest.approx(2.0 + 2.0 + 3.0)}
    assert [seconds for _, _, seconds, _ in timeline.spans] == [2.0, 1.0, 2.0, 6.0, 3.0], "a trace shows all"
