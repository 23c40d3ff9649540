"""Pages of the guide whose blocks start ranks are true as well; the others are in tests/unit/guide."""

import pytest
from support import guide

from hpcens.guide import TOPICS


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if guide.starts_ranks(topic)])
def test_every_block_of_a_page_does_what_it_says(topic, tmp_path, cache, monkeypatch):
    guide.make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HPCENS_CACHE", str(cache))
    session = guide.Session(tmp_path)
    session.run(topic)
    assert session.count
