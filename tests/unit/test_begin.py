"""The last step before a start: what was asked of earlier ones does not end it, what was asked of it does."""

import pytest

from hpcens.api.starting import _begin
from hpcens.errors import Incomplete
from hpcens.runs import RunDirectory
from hpcens.runs.announcement import Announcement
from hpcens.runs.cancellation import ask_to_end


@pytest.fixture
def run(tmp_path):
    (tmp_path / "x.run").mkdir()
    return RunDirectory(tmp_path / "x.run")


def begin(run, word):
    return _begin(run, word, lambda job, preflight: "begun", None, None)


def test_a_request_that_names_nobody_was_for_a_start_before(run):
    """As earlier code wrote them, and as people do by hand."""
    run.cancel.write_text("stopped by SIGTERM")
    assert begin(run, Announcement(run.path)) == "begun"
    assert not run.cancel.exists()


def test_only_a_request_for_this_start_ends_it(run):
    word = Announcement(run.path)
    ask_to_end(run.cancel, "by hand", {"another"})
    assert begin(run, word) == "begun"
    ask_to_end(run.cancel, "by hand", {word.name})
    with pytest.raises(Incomplete, match="by hand, before it began"):
        begin(run, word)
