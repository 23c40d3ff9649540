"""What Slurm's commands print, and how they are insisted on; no Slurm is needed."""

from hpcens.scheduler.jobs import parse_job, requeue


def test_a_line_of_scontrol():
    line = "JobId=3 JobName=a JobState=RUNNING Reason=None EndTime=2026-11-24T08:31:40 NodeList=n[1-2] ExitCode=0:0"
    assert parse_job(line).nodes == "n[1-2]"
    assert (parse_job(line).preempted, parse_job(f"{line} PreemptTime=2026-11-24T08:31:20").preempted) == (False, True)


def test_a_controller_that_is_away_is_waited_for(tmp_path, monkeypatch):
    """The first two answers are those of a login node that does not reach it; a refusal is not asked again."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (tmp_path / "scontrol").write_text(
        '#!/bin/sh\necho "$@" >> $0.asked\n[ $(wc -l < $0.asked) -gt 2 ] && exit 0\n'
        'echo "Unable to contact slurm controller (connect failure)" >&2; exit 1\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    assert requeue("7") == ""
    assert (tmp_path / "scontrol.asked").read_text() == "requeue 7\n" * 3
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" >> $0.again\necho "not permitted" >&2; exit 1\n')
    assert requeue("7") == "not permitted"
    assert (tmp_path / "scontrol.again").read_text() == "requeue 7\n"
