"""The quickstart, which is to work wherever it is typed first."""

import runpy
import subprocess
from pathlib import Path

from hpcens.cli import command_parser


def test_it_waits_for_its_result_on_a_login_node_too(tmp_path, monkeypatch):
    """Story: where a Slurm answers `submit` returns at once, and there was no result to look into."""
    quickstart = runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "quickstart.py"))
    commands = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, **_: commands.append(words) or subprocess.CompletedProcess([], 0)
    )
    assert quickstart["submit"](tmp_path) == 0
    assert quickstart["evaluate"](tmp_path) == 0
    submitting, evaluating = commands
    assert submitting[2:] == ["hpcens", "submit", "digits.h5", "--wait"]
    options = command_parser().parse_args(evaluating[3:])
    assert (str(options.result), options.labels) == ("digits.predictions.h5", "digits.h5:/labels")
