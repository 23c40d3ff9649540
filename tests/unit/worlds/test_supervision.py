"""How often whoever watches over a world's ranks looks for their verdict."""

from hpcens.worlds.supervision import pause


def looks(seconds):
    """Return how often it is looked within so many seconds, and how late the last look may be."""
    now, number = 0.0, 0
    while now < seconds:
        now, number = now + pause(now), number + 1
    return number, pause(now)


def test_a_file_is_ended_soon_and_a_block_is_not_looked_at_twenty_times_a_second():
    assert looks(0.05)[1] == 0.01
    number, late = looks(1.0)
    assert number < 60 and late < 0.06
    number, late = looks(900.0)
    assert number < 1100 and late == 1.0, "each is an open on a file server that all worlds share"
