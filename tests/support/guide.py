"""Runs the blocks of a page of the guide, in their order, in one folder, and compares what they print.

| block | what is done |
| --- | --- |
| `python NAME.py`, `yaml NAME.yaml` | is written to a file of this name |
| `python` | is run; the `text` block behind it is what it prints |
| `yaml` | its keys take the place of those in hpcens.yaml, and the dataset is scored under it, in one process; the |
|        | result is verified. `data=FILE`: another dataset; `needs=MODULE`: read, and its members built where |
|        | the module is installed; `loads`: only read |
| `console` | lines behind `$ ` are commands, the others what they print, `[2]` their exit code if it is not 0 |
| `sh install` | extras of the package that have to exist |
| `… mpi` | starts ranks: such pages are read by tests/runs |
| `console slurm` | is only parsed: these need a cluster |

`…` in what is printed stands for anything, alone on a line for any lines.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import yaml

import hpcens
from hpcens.cli import command_parser, main
from hpcens.guide import page
from support.one_process import run
from support.project import ROOT

CONFIG, DATASET = "hpcens.yaml", "dataset.h5"


@dataclass
class Block:
    kind: str
    words: list
    text: str

    @property
    def options(self):
        return dict(word.split("=") for word in self.words if "=" in word)


def blocks(topic):
    found = re.findall(r"^```(\w+)(.*)\n((?:.*\n)*?)```$", page(topic), re.MULTILINE)
    return [Block(kind, words.split(), text) for kind, words, text in found]


def starts_ranks(topic):
    return any("mpi" in block.words for block in blocks(topic))


def make_files(folder):
    """What the page `start` has its reader make: a network, two of its weights, a dataset and a configuration."""
    for block in blocks("start"):
        if block.words[:1] and "." in block.words[0]:
            (folder / block.words[0]).write_text(block.text)
    before = Path.cwd()
    os.chdir(folder)
    try:
        with patch("sys.path", [str(folder), *sys.path]):
            runpy.run_path("make.py")
    finally:
        os.chdir(before)
        forget_modules(folder)


def forget_modules(folder):
    """Leave no module of the folder to others, who may have one of its name."""
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


def matches(pattern, text):
    """Whether a text is what a page says."""
    lines = [".*(?:\n.*)*" if line.strip() == "…" else _line(line) for line in pattern.strip().splitlines()]
    joined = "\n".join(lines).replace("\n.*(?:\n.*)*", "(?:\n.*)*").replace(".*(?:\n.*)*\n", "(?:.*\n)*")
    return re.fullmatch(joined, "\n".join(line.rstrip() for line in text.strip().splitlines())) is not None


def _line(line):
    return ".*".join(re.escape(part.strip() if "…" in line else part) for part in line.rstrip().split("…"))


class Session:
    """One page read from its top to its end.

    folder  with the files of `make_files`, which is the working folder
    """

    def __init__(self, folder):
        self.folder = folder
        self.names = {}
        self.printed = ""
        self.count = 0

    def run(self, topic):
        try:
            for block in blocks(topic):
                getattr(self, f"_{block.kind}")(block)
                self.count += 1
        finally:
            forget_modules(self.folder)

    def _python(self, block):
        if block.words[:1] and block.words[0].endswith(".py"):
            (self.folder / block.words[0]).write_text(block.text)
            return
        with contextlib.redirect_stdout(io.StringIO()) as out, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit")  # torch's, of ways to store networks
            exec(compile(block.text, "guide", "exec"), self.names)
        self.printed = out.getvalue()

    def _text(self, block):
        assert matches(block.text, self.printed), f"{block.text}\n--- is said to be printed; it is\n{self.printed}"

    def _yaml(self, block):
        if block.words[:1] and block.words[0].endswith(".yaml"):
            (self.folder / block.words[0]).write_text(block.text)
            return
        whole = yaml.safe_load((self.folder / CONFIG).read_text()) | yaml.safe_load(block.text)
        config = self.folder / "block.yaml"
        config.write_text(yaml.safe_dump(whole, sort_keys=False))
        hpcens.load_config(config)
        needs = block.options.get("needs")
        if needs is None and "loads" not in block.words:
            self._score(config, self.folder / block.options.get("data", DATASET))
        elif needs is not None and find_spec(needs):
            for member in whole["members"]:
                module, _, name = member["factory"].partition(":")
                assert getattr(import_module(module), name)(**member["arguments"]).state_dict()

    def _score(self, config, dataset):
        output = self.folder / f"{dataset.stem}.predictions.h5"
        output.unlink(missing_ok=True)
        shutil.rmtree(output.with_suffix(".run"), ignore_errors=True)
        assert run(config, dataset, output)
        verification = hpcens.verify(output)
        assert verification.sound and verification.rows, verification.faults

    def _console(self, block):
        commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)
        assert commands
        for command, expected in commands:
            program, *words = shlex.split(command)
            assert program == "hpcens"
            command_parser().parse_args(words)
            if "slurm" in block.words:
                continue
            *lines, last = expected.splitlines() or [""]
            code = int(last[1:-1]) if re.fullmatch(r"\[\d+\]", last) else 0
            printed, ended = self._command(words, apart="mpi" in block.words)
            assert ended == code, printed
            expected = "\n".join(lines if code else [*lines, last])
            assert matches(expected, printed), f"$ {command}\n{expected}\n--- is expected, printed is\n{printed}"

    def _command(self, words, *, apart):
        """What a command prints, and its exit code. apart: in a process of its own, as what starts ranks has to."""
        if apart:
            command = [sys.executable, "-m", "hpcens", *words]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=100)
            return done.stderr + done.stdout, done.returncode
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), patch("hpcens.cli._flush"):
            code = main(words)
        return out.getvalue(), code

    def _sh(self, block):
        assert block.words == ["install"]
        named = {extra for found in re.findall(r"(?:hpcens|\.)\[([\w,]+)\]", block.text) for extra in found.split(",")}
        project = (ROOT / "pyproject.toml").read_text()
        assert named and all(f"\n{extra} = [" in project for extra in named)
