"""The verb that helps a shell complete commands: completion. Scripts are made from the parser and so have all of it."""

from __future__ import annotations

import argparse
import shlex
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass

from hpcens.cli import command_parser
from hpcens.cli.terminal import say
from hpcens.errors import COMPLETE


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: what it does, its options with their help, and the words that may follow it."""

    text: str
    options: Mapping[str, str]
    words: tuple[str, ...]


def completion(options: Namespace) -> int:
    """Print the script of a shell."""
    say({"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell](_verbs()))
    return COMPLETE


def _verbs() -> dict[str, Verb]:
    """Read the verbs off the parser of the command line."""
    [verbs] = [action for action in command_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    texts = {choice.dest: choice.help or "" for choice in verbs._choices_actions}
    return {name: _verb(texts[name], parser) for name, parser in verbs.choices.items()}


def _verb(text: str, parser: argparse.ArgumentParser) -> Verb:
    options = {option: action.help or "" for action in parser._actions for option in action.option_strings}
    words = [str(choice) for action in parser._actions if not action.option_strings for choice in action.choices or ()]
    return Verb(text, options, tuple(words))


def _bash(verbs: Mapping[str, Verb]) -> str:
    following = {name: shlex.quote(" ".join([*verb.options, *verb.words])) for name, verb in verbs.items()}
    cases = "\n".join(f"    {name}) words={words} ;;" for name, words in following.items())
    return f"""# for ~/.bashrc: source <(hpcens completion bash)
_hpcens() {{
  local words=""
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  [ "$COMP_CWORD" -eq 1 ] && words={shlex.quote(" ".join(verbs))}
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _hpcens hpcens"""


def _zsh(verbs: Mapping[str, Verb]) -> str:
    described = "\n".join(f"      {shlex.quote(f'{name}:{verb.text}')}" for name, verb in verbs.items())
    cases = "\n".join(
        f"    {name}) options=({' '.join(shlex.quote(f'{option}:{text}') for option, text in verb.options.items())}); "
        f"following=({' '.join(verb.words)}) ;;"
        for name, verb in verbs.items()
    )
    return f"""# for ~/.zshrc, after compinit: source <(hpcens completion zsh)
_hpcens() {{
  local -a verbs options following
  verbs=(
{described}
  )
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  case $words[2] in
{cases}
  esac
  [[ $PREFIX == -* ]] && _describe option options && return
  (( $#following )) && compadd -a following && return
  _files
}}
compdef _hpcens hpcens"""


def _fish(verbs: Mapping[str, Verb]) -> str:
    lines = ["# for ~/.config/fish/config.fish: hpcens completion fish | source"]
    for name, verb in verbs.items():
        lines.append(f"complete -c hpcens -n __fish_use_subcommand -f -a {name} -d {_fish_quoted(verb.text)}")
        here = f"complete -c hpcens -n '__fish_seen_subcommand_from {name}'"
        for option, text in verb.options.items():
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"{here} {kind} -d {_fish_quoted(text)}")
        lines += [f"{here} -f -a {word}" for word in verb.words]
    return "\n".join(lines)


def _fish_quoted(text: str) -> str:
    """Quote a text for fish, whose quotes a backslash escapes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
