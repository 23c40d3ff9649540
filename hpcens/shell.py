"""Shell: words for other people's shells and terminals, which take some characters for commands.

Names of files come from whoever delivers the data. What would be read as another line is refused before a script is
made of it, what people may paste is quoted, and what they only read is escaped.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_SETTING = re.compile(r"--slurm (\w+)=([^\s,;]+)")
_from_shell = False
LISTED = 8
"""Names that a message lists; of more, it says how many there are."""
_CONTROL = ("Cc", "Zl", "Zp")  # Unicode's categories: control characters, separators of lines and of paragraphs


@contextmanager
def command_line() -> Iterator[None]:
    """Let `option` and `verb` write for a shell meanwhile; else they write for Python."""
    global _from_shell
    before, _from_shell = _from_shell, True
    try:
        yield
    finally:
        _from_shell = before


def option(name: str, value: object = None) -> str:
    """Write a parameter as whoever called can give it: --top 3 in a shell, top=3 in Python.

    name   of the parameter in Python
    value  True is a flag alone in a shell; a mapping an option for each key
    """
    if not _from_shell:
        return name if value is None else f"{name}={value!r}"
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, Mapping):
        return " ".join(f"{flag} {key}{'' if of_key is True else f'={of_key}'}" for key, of_key in value.items())
    return flag if value is None or value is True else f"{flag} {value}"


def as_called(remedy: str) -> str:
    """Return a remedy that is stored, as those of verdicts are, as whoever called can write it."""
    return remedy if _from_shell else _SETTING.sub(r"slurm={'\1': '\2'}", remedy)


def verb(name: str, **options: object) -> str:
    """Write a call as whoever called can make it: hpcens combine --rule mean, or hpcens.combine(…, rule='mean')."""
    written = [option(key, value) for key, value in options.items()]
    return " ".join(["hpcens", name, *written]) if _from_shell else f"hpcens.{name}({', '.join(['…', *written])})"


def counted(number: int, noun: str, several: str = "") -> str:
    """Write a number of things: 1 file, 2 files. several: the noun's plural, where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def has_control_characters(text: str, allowed: str = "") -> bool:
    """Return whether a text holds line breaks, escapes or other characters that command instead of being read.

    allowed  those of them that may be there
    """
    return any(character not in allowed and unicodedata.category(character) in _CONTROL for character in text)


def printable(text: str) -> str:
    r"""Return the text with all but what can be read escaped, as in \x1b; line breaks and tabs stay."""
    return "".join(_escaped(c) if not c.isprintable() and c not in "\n\t" else c for c in text)


def quoted(path: Path | str) -> str:
    """Return a path as one word of a command that can be pasted; one that begins with a dash is no option."""
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    # the quotes of bash and zsh that know escapes; bytes that are no text are bytes there too
    return "$'" + "".join(c if c.isprintable() and c not in "\\'" else _in_bytes(c) for c in text) + "'"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def _in_bytes(character: str) -> str:
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", errors))


def amount(number: int) -> str:
    """Write a number of bytes in the largest unit of which there is one."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} B"


def in_a_line(text: str, most: int = 240) -> str:
    """Return a text of several lines as one, of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
