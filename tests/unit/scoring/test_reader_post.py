"""A reader's post takes from the plan by how many threads it reads."""

from types import SimpleNamespace

import pytest

from hpcens.scoring import posts
from hpcens.scoring.posts import ReaderPost
from hpcens.vocabulary import IoRates


class _AskedFor(Exception):
    pass


@pytest.mark.parametrize("threads", [None, 3])
def test_a_reader_reads_by_as_many_threads_as_were_measured(monkeypatch, threads):
    def source(*of):
        raise _AskedFor(*of)

    monkeypatch.setattr(posts, "Source", source)
    job = SimpleNamespace(datasets=("d.h5",), limit=5, spec=SimpleNamespace(dataset="spec", members=()))
    plan = SimpleNamespace(rates=IoRates(reading=1.0, reading_threads=threads), numerics=SimpleNamespace(members={}))
    with pytest.raises(_AskedFor) as asked:
        ReaderPost(0, SimpleNamespace(job=job, rank_roles=None, plan=plan), None, None, None)
    assert asked.value.args == (("d.h5",), "spec", 5, threads)
