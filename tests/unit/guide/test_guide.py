"""The guide is true: every block of its pages is run, and prints what the page says; see `support.guide`."""

import re
import shlex
import shutil
from typing import get_args

import pytest
from support import guide
from support.project import ROOT

import hpcens
from hpcens.cli import command_parser, main
from hpcens.config.keys import KEYS
from hpcens.guide import TOPICS, page
from hpcens.specs import OutputName, RuleName, RuntimeName


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("guide")
    guide.make_files(folder)
    return folder


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if not guide.starts_ranks(topic)])
def test_every_block_of_a_page_does_what_it_says(topic, made, tmp_path, monkeypatch):
    folder = shutil.copytree(made, tmp_path / "folder")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("HPCENS_CACHE", str(made / "cache"))
    session = guide.Session(folder)
    session.run(topic)
    assert session.count or topic in ("formats", "architecture")


@pytest.mark.parametrize(
    ("pattern", "text", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a\n…\nd", "a\nd", True),
        ("…\nd", "d", True),
        ("a … c", "a b c", True),
        ("a", "a\nb", False),
        ("a\n…\nd", "a\nb\nc", False),
        ("a.c", "abc", False),
    ],
)
def test_dots_stand_for_anything_and_nothing_else_does(pattern, text, same):
    assert guide.matches(pattern, text) is same


def test_the_guide_is_printed_by_topic(capsys):
    assert main(["help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {topic} " in listed for topic in TOPICS)
    assert main(["help", "formats"]) == 0
    printed = capsys.readouterr().out
    assert "| `prediction`, `label`, `members/NAME`, … |" in printed and "<!--" not in printed
    assert main(["help", "memebrs"]) == 2
    assert "did you mean members?" in capsys.readouterr().err


def test_all_rules_outputs_runtimes_and_steps_are_in_it():
    rules, plans, members = page("rules"), page("plans"), page("members")
    assert all(re.search(rf"`[^`]*\b{name}\b", rules) for name in get_args(RuleName))
    assert all(f"`{name}`" in rules for name in get_args(OutputName))
    assert all(name in plans for name in get_args(RuntimeName) if name not in ("auto", "frozen_channels_last"))
    steps = {key.split(".")[2] for key in KEYS if re.fullmatch(r"members\[\]\.preprocess\[\]\.\w+", key)} - {"input"}
    assert steps and all(f"`{step}`" in members for step in steps)


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "hpcens" / "guide").glob("*.md"))])
def test_links_lead_to_files(path):
    targets = re.findall(r"\]\(([^)#]+)", path.read_text())
    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert missing == []


def test_the_commands_and_the_configuration_of_the_readme_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^hpcens (.*)$", readme, re.MULTILINE)
    assert len(commands) > 8
    for command in commands:
        command_parser().parse_args(shlex.split(command, comments=True))
    [config] = re.findall(r"^```yaml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "hpcens.yaml").write_text(config)
    assert hpcens.load_config().member_names == ("small", "large", "script", "seen")
    topics = re.findall(r"\w+", " ".join(re.findall(r"\| (`\w+`(?:, `\w+`)*) \|$", readme, re.MULTILINE)))
    assert topics == [*TOPICS]
    assert len(readme.splitlines()) < 100
