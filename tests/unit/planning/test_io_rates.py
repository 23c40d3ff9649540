"""I/O rates that plans are made with: from ranks that surveyed them, or from what is kept."""

from hpcens.planning.io_rates import known_link, with_survey
from hpcens.profiling import IoSurvey, ProfileBook
from hpcens.vocabulary import Device, IoRates, Link, LinkKey


def test_several_readers_read_no_slower_than_one_alone():
    """A survey that was disturbed says they do."""
    alone = IoRates(reading=100.0, disk=5.0, sync_seconds=0.1)
    surveyed = with_survey(alone, IoSurvey(Link(1e9, 2e-5), 70.0, 3))
    assert surveyed == IoRates(
        reading=100.0,
        reading_together=100.0,
        readers_together=3,
        link=1e9,
        message_seconds=2e-5,
        disk=5.0,
        sync_seconds=0.1,
    )
    assert [surveyed.read_by(readers) for readers in (1, 2, 3)] == [100.0] * 3
    faster = with_survey(alone, IoSurvey(None, 250.0, 4))
    assert [faster.read_by(readers) for readers in (1, 2, 3, 4)] == [100.0, 150.0, 200.0, 250.0]
    assert with_survey(alone, IoSurvey(None, None, 1)) == alone and alone.read_by(3) == 300.0


def test_a_book_keeps_links_until_it_forgets(tmp_path):
    book, near, far = ProfileBook(tmp_path), LinkKey("k", apart=False), LinkKey("k", apart=True)
    assert book.link(near) is None
    book.put_link(near, Link(2e9, 1e-5))
    book.put_link(near, Link(1e9, 2e-5))
    assert book.link(near) == Link(1e9, 2e-5) and book.link(far) is None
    assert list(book.links()) == [(near, Link(1e9, 2e-5))] and list(book.all()) == []
    here = [Device("n/cuda0", "cuda", "k", 1, host="n"), Device("n/cuda1", "cuda", "other", 1, host="n")]
    assert known_link(here[:1], book) == Link(1e9, 2e-5)
    assert known_link(here, book) is None, "one of the kinds was never measured"
    assert known_link([here[0], here[0].on("m")], book) is None, "nor was another node"
    book.clear()
    assert book.link(near) is None
