"""A handle: a name for a run's files. Its errors are those of the command's exit codes."""

import threading

import pytest
from support.results import begin

import hpcens
from hpcens.api.handle import raise_unless_complete
from hpcens.runs import RunDirectory, Verdict


def test_a_handle_waits_for_the_verdict_and_raises_what_the_run_ended_with(tmp_path):
    output = tmp_path / "out.h5"
    with pytest.raises(hpcens.UsageError, match="no run directory"):
        hpcens.attach(output)
    run = RunDirectory.of(output)
    run.path.mkdir()
    epoch = begin(run)
    handle = hpcens.attach(run.path)
    assert handle.output == output and handle.status().state == "running" and "running, 0 of 0 rows" in repr(handle)
    with pytest.raises(TimeoutError, match=r"not complete after 0\.1 s"):
        handle.wait(0.1)
    epoch.judge(Verdict(75, "drained", "again"))
    assert handle.wait() == Verdict(75, "drained", "again")
    with pytest.raises(hpcens.Incomplete, match="drained\n  → again"):
        handle.result()
    with pytest.raises(hpcens.UsageError, match="nothing works on"):
        handle.cancel()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, hpcens.HpcensError),
        (2, hpcens.UsageError),
        (65, hpcens.DataError),
        (75, hpcens.Incomplete),
        (78, hpcens.FingerprintMismatch),
        (143, hpcens.HpcensError),
    ],
)
def test_exit_codes_are_exceptions(code, kind):
    with pytest.raises(hpcens.HpcensError) as error:
        raise_unless_complete(Verdict(code, "why", "what next"))
    assert type(error.value) is kind and str(error.value) == "why\n  → what next"
    raise_unless_complete(Verdict(0, "complete"))


@pytest.mark.parametrize("function", [hpcens.plan, hpcens.run, hpcens.submit])
def test_another_thread_than_the_main_one_is_refused(function, tmp_path):
    caught = []

    def call():
        try:
            function(tmp_path / "a.h5", {})
        except hpcens.UsageError as error:
            caught.append(error.what)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert caught == [f"hpcens.{function.__name__} is called in another thread than the main one"]
