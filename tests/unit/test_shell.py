"""Names that shells and terminals would obey: refused before Slurm, quoted in commands, escaped where they are read."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from hpcens.cli import main
from hpcens.config import load
from hpcens.config.job import job_from
from hpcens.config.site import slurm_settings
from hpcens.errors import UsageError
from hpcens.launch.slurm import sbatch_text
from hpcens.shell import has_control_characters, printable, quoted
from hpcens.specs import CpuSpec, DevicesSpec, Job, RunSpec, SlurmSpec

STACK = 'rule: {name: stack, factory: "m:f", weights: w.safetensors, arguments: {text: "a\\nb"}}'
NAMES = ["plain.h5", "a b", "it's", "$(touch x)", "`x`", "-n.h5", "--now", "a;b", "a\nb", "tab\t", "\x1b[2J", "é\\'\n"]


@pytest.mark.parametrize("name", [*NAMES, "not\udcffutf", "\u202egnp.exe"])
def test_a_quoted_name_is_one_word_of_bash_and_no_option(name):
    printed = subprocess.run(["bash", "-c", f"printf '<%s>' {quoted(name)}"], capture_output=True).stdout
    expected = f"./{name}" if name.startswith("-") else name
    assert printed == f"<{expected}>".encode("utf-8", "surrogateescape")
    assert quoted(name).isprintable()


def test_what_is_read_is_escaped_and_keeps_its_lines():
    assert printable("ünd \x1b[2J\x9b\x07\u202e\udcff\n\tend") == "ünd \\x1b[2J\\x9b\\x07\\u202e\\udcff\n\tend"
    assert not has_control_characters("ünd so — 東")
    assert all(has_control_characters(f"a{c}b") for c in "\n\r\0\x1b\x7f\x9b\x85\u2028\u2029")


@pytest.mark.parametrize("name", ["a\ntouch PWNED #", "a\rb", "a\x1b[2Jb", "a\u2028b", "a\x85b"])
def test_control_characters_are_refused_wherever_a_name_enters(name, project, monkeypatch):
    config = project.folder / "hpcens.yaml"
    project.dataset.rename(project.folder / f"{name}.h5")
    with pytest.raises(UsageError, match="control characters"):
        job_from([str(project.folder / f"{name}.h5")], config=config)
    with pytest.raises(UsageError, match="control characters"):
        job_from([str(project.folder / "*.h5")], config=config)
    (project.folder / f"{name}.d").mkdir()
    monkeypatch.chdir(project.folder / f"{name}.d")  # in which the result would lie
    with pytest.raises(UsageError, match="control characters"):
        job_from(["/data/x.h5"], config=config)
    monkeypatch.chdir("/")
    for option in (f"foo{name}=1", f"reservation={name}", f"account={name}", f"partition={name}"):
        with pytest.raises(UsageError):
            slurm_settings(SlurmSpec(), [option], ())
    word = json.dumps(name)
    for extra in (
        f"output: {{path: {word}}}",
        f"classes: [{word}, b]",
        f"dataset: {{columns: [{word}]}}",
        f"dataset: {{input: {word}}}",
        f"slurm: {{arguments: {{{word}: 1}}}}",
        f"slurm: {{arguments: {{reservation: {word}}}}}",
        f"slurm: {{qos: {word}}}",
        f"cluster: {{{word}: {{nodes: 1, devices: 1}}}}",
    ):
        project.yaml(extra)
        with pytest.raises(UsageError, match=r"control characters|printable"):
            load(config)
    spec = RunSpec(members=(), devices=DevicesSpec(cpu=CpuSpec(count=1)))
    with pytest.raises(UsageError, match="control characters"):
        sbatch_text(Job(datasets=(), output=Path(f"/x/{name}.h5"), spec=spec), SlurmSpec())


def test_lines_of_the_users_own_shell_and_arguments_of_their_code_may_have_more_than_one(project):
    project.yaml('slurm: {setup: ["module load a\\nmodule load b"]}\n' + STACK)
    spec = load(project.folder / "hpcens.yaml")
    assert spec.slurm.setup == ("module load a\nmodule load b",) and spec.rule.arguments == {"text": "a\nb"}


@pytest.mark.parametrize("key", ["foo bar", "a'b", "--", "ü", "a#b", ""])
def test_keys_that_sbatch_cannot_have_are_refused(key):
    with pytest.raises(UsageError):
        slurm_settings(SlurmSpec(), [f"{key}=1"], ())


def test_names_reach_the_terminal_escaped_and_commands_can_be_pasted(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["init", "a b.yaml"]) == 0
    assert shlex.split(capfd.readouterr().out.strip())[-1] == "a b.yaml"
    assert main(["init", "x\x1b[2J/no.yaml"]) == 2
    assert main(["status", "x\x1b[2J"]) == 2
    with pytest.raises(SystemExit):
        main(["init", "x", "y\x1b[2J"])
    (tmp_path / "z\x1b.run" / "epochs").mkdir(parents=True)
    main(["list"])
    said = capfd.readouterr()
    assert "\x1b" not in said.out + said.err and "x\\x1b[2J" in said.err
