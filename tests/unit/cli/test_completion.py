"""Shells complete verbs, their options and words; a verb that is misspelt is answered with the one that was meant."""

import shutil
import subprocess

import pytest

from hpcens.cli import main


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hpcens ver", "verify"),
        ("hpcens co", "combine completion"),
        ("hpcens plan --dead", "--deadline"),
        ("hpcens completion f", "fish"),
        ("hpcens nothing --", ""),
    ],
)
def test_bash_completes(line, words, capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    typed = line.split()
    ask = f'COMP_WORDS=({line}); COMP_CWORD={len(typed) - 1}; _hpcens; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (words, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_every_verb_and_option(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    option = "--deadline:" if shell == "zsh" else "-l deadline -d "
    assert (
        "verify" in script and option in script and "user's guide" in script.replace("\\'", "'").replace("'\"'\"'", "'")
    )
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, text=True).returncode == 0


@pytest.mark.parametrize(
    ("word", "answer"),
    [("statsu", "did you mean status?"), ("xyz", "hpcens --help lists them"), ("a\nb", "there is no verb")],
)
def test_a_verb_that_is_misspelt(word, answer, capsys):
    with pytest.raises(SystemExit) as ended:
        main([word])
    assert ended.value.code == 2 and answer in capsys.readouterr().err
