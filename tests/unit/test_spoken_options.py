"""What a message tells to write is what its reader can write: options in a shell, parameters in Python."""

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from support.stored import ROWS, scored, spec

import hpcens
from hpcens.api.handle import raise_unless_complete
from hpcens.cli import main
from hpcens.errors import UsageError
from hpcens.runs import Verdict
from hpcens.shell import command_line, counted, listed, option, verb

PACKAGE = Path(hpcens.__file__).parent
CALLS = (hpcens.calibrate, hpcens.combine, hpcens.evaluate, hpcens.plan, hpcens.run, hpcens.select, hpcens.submit)
# what is printed beside a command of the shell alone: of Slurm, of worlds, of srun and mpiexec
SHELLS_OWN = {"slurm", "plan", "local", "output", "trace", "limit"}


def test_an_option_is_written_for_a_shell_or_for_python():
    assert option("labels_column", "NAME") == "labels_column='NAME'"
    assert verb("combine", rule="mean") == "hpcens.combine(…, rule='mean')"
    with command_line():
        assert option("labels_column", "NAME") == "--labels-column NAME"
        assert option("ensemble_only", True) == "--ensemble-only" and option("top") == "--top"
        assert option("slurm", {"nodes": 4, "exclusive": True}) == "--slurm nodes=4 --slurm exclusive"
        assert verb("combine", rule="mean") == "hpcens combine --rule mean"
    assert option("top") == "top"


def test_an_error_of_python_names_no_option_of_the_shell(tmp_path, capsys):
    result = tmp_path / "r.h5"
    scored(result, spec()).close()
    for call, words in {
        lambda: hpcens.evaluate(result): "labels='FILE:/path', or labels_column='NAME'",
        lambda: hpcens.evaluate(result, labels_column="no"): "labels_column='no': .* labels='FILE:/path'",
        lambda: hpcens.evaluate(result, "no"): "labels='no'",
        lambda: hpcens.select(result, np.zeros(ROWS), groups="no"): "groups='no'",
        lambda: hpcens.select(result, np.zeros(ROWS), holdout=2): "holdout=0.5",
        lambda: hpcens.calibrate(result, np.zeros(ROWS), coverage=3): "coverage=0.9",
        lambda: hpcens.combine(result, tmp_path / "o.h5", rule="trimmed"): "rule='trimmed:0.2', .*: config",
    }.items():
        with pytest.raises(UsageError, match=f"(?s){words}") as refused:
            call()
        assert "--" not in str(refused.value)
    assert main(["evaluate", str(result), "--labels-column", "no"]) == 2
    assert re.search(r"--labels-column no: (?s:.*) --labels FILE:/path", capsys.readouterr().err)
    assert option("top") == "top"  # what the command line is told is over with it


def test_no_module_below_the_command_line_writes_an_option_that_python_has_too():
    parameters = {name for call in CALLS for name in inspect.signature(call).parameters} - SHELLS_OWN
    options = re.compile("--(" + "|".join(name.replace("_", "-") for name in sorted(parameters)) + r")\b(?!-)")
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "cli"):
            continue
        tree = ast.parse(path.read_text())
        docstrings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                assert not options.search(node.value), f"{path}:{node.lineno}: use shell.option: {node.value}"


def test_a_list_that_is_cut_says_how_many_more_there_are():
    assert listed(["a", "b"]) == "a, b" and listed([*"abcdefghij"]) == "a, b, c, d, e, f, g, h and 2 more"
    assert listed([*"abcde"], 3) == "a, b, c and 2 more"


def test_what_a_verdict_tells_to_do_is_told_in_python_too():
    verdict = Verdict(75, "the time limit was reached", "run the same command again; give it more: --slurm time=…")
    with pytest.raises(hpcens.Incomplete, match=r"give it more: slurm=\{'time': '…'\}"):
        raise_unless_complete(verdict)
    with command_line(), pytest.raises(hpcens.Incomplete, match="give it more: --slurm time=…"):
        raise_unless_complete(verdict)


def test_one_of_a_thing_is_no_several():
    assert (counted(1, "file"), counted(0, "file"), counted(1200, "file")) == ("1 file", "0 files", "1,200 files")
    assert (
        counted(1, "file has", "files have") == "1 file has" and counted(2, "file has", "files have") == "2 files have"
    )
