"""Shell: words for other people's shells and terminals, which take some characters for commands.

Names of files come from whoever delivers the data. What would be read as another line is refused before a script is
made of it, what people may paste is quoted, and what they only read is escaped.
"""

from __future__ import annotations

import shlex
import unicodedata
from pathlib import Path

_CONTROL = ("Cc", "Zl", "Zp")  # Unicode's categories: control characters, separators of lines and of paragraphs


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
