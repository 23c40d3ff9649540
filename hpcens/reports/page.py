"""Pages that people open in a browser: one file that needs nothing else, no network and no script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpcens.errors import UsageError
from hpcens.files import write_atomically
from hpcens.reports.svg import words

_PAGE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 58rem; padding: 0 1rem; color: #1c2733;
       background: #fff }
@media print { body { margin: 0; max-width: none } }
"""
_PART = "font: 15px/1.5 system-ui, sans-serif; max-width: 58rem; padding: 1rem; color: #1c2733; background: #fff;"
_STYLE = """
h1 { font-size: 1.6rem; margin-bottom: .2rem; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem }
p { margin: .2rem 0; overflow-wrap: anywhere } p.caption { color: #4a5a6a; font-size: .9rem; max-width: 48rem }
.wide { overflow-x: auto; margin: .6rem 0 } .pair { display: flex; flex-wrap: wrap }
.pair h3 { font-size: .95rem; margin: .6rem 0 0; font-weight: 600 }
svg text { font: 12px system-ui, sans-serif; fill: #1c2733 } svg text.small { font-size: 11px; fill: #4a5a6a }
svg text.head { font-weight: 600 } svg text.faint { fill: #9aa8b5 } svg text.light { fill: #fff }
.first { fill: #2f6f9f } .second { fill: #d9822b } .third { fill: #4c9f70 } .fourth { fill: #8a6fb0 }
.fifth { fill: #c9a227 } .sixth { fill: #7fb2d6 } .seventh { fill: #b4503c } .eighth { fill: #4f5d6b }
.launching { fill: #93a0ac } .importing { fill: #c2ae90 } .loading { fill: #b3cfa0 }
.waiting { fill: #d3dce4 } .track { fill: #edf2f6 } .plain { fill: #fff }
.grid { stroke: #e3eaf0 } .axis { stroke: #7c8b99 } .whisker { stroke: #1c2733; stroke-width: 1.2 }
.curve { stroke: #2f6f9f; stroke-width: 1.8 }
.broken { stroke: #2f6f9f; stroke-width: 1.6; stroke-dasharray: 6 4 }
.key { display: inline-block; margin-right: 1.2rem; font-size: .9rem } .key svg { vertical-align: -1px }
table { border-collapse: collapse; margin: .6rem 0; font-size: .9rem } th { font-weight: 600 }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #d5dde5; white-space: nowrap }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 18rem }
pre { font: 12px/1.45 ui-monospace, monospace }
pre { background: #f5f8fa; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere }
.state { display: inline-block; padding: .1rem .6rem; border-radius: .3rem; color: #fff; background: #4c9f70 }
.state.ended { background: #b4503c } .state.going { background: #2f6f9f }
"""

_LONG = 60  # letters; what has more is broken where the line ends


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{words(title)}</title>\n<style>{_PAGE}{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def scoped(parts: Iterable[str]) -> str:
    """Return a part of somebody else's page, in which it changes nothing beside it."""
    rules = (
        f"{', '.join(f'.hpcens {selector.strip()}' for selector in selectors.split(','))} {{{declared}}}"
        for selectors, declared in re.findall(r"([^{}]+)\{([^{}]*)\}", _STYLE)
    )
    style = "\n".join([f".hpcens {{ {_PART} }}", *rules])
    return f'<style>{style}</style>\n<div class="hpcens">' + "\n".join(parts) + "</div>\n"


def write_page(text: str, path: Path) -> None:
    """Write a page to a file. Raises UsageError where its name is not that of a page, OSError where it cannot be."""
    require_page(path)
    write_atomically(path, text)


def require_page(path: Path) -> None:
    """Raise UsageError where a name is not that of a page."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path} is no name of a page", "name a file that ends in .html")


def paragraphs(lines: Iterable[str]) -> str:
    """Return lines of text, a paragraph each."""
    return "".join(f"<p>{words(line)}</p>" for line in lines)


def figure(title: str, caption: str, *drawings: str, keys: str = "") -> str:
    """Return a section: its title, the drawings, which colour means what, and a caption that says how to read it."""
    legend = f"<p>{keys}</p>" if keys else ""
    drawn = "".join(f'<div class="wide">{drawing}</div>' for drawing in drawings)
    return f'<section><h2>{words(title)}</h2>\n<p class="caption">{words(caption)}</p>{drawn}{legend}</section>'


def side_by_side(drawings: Sequence[tuple[str, str]]) -> str:
    """Return drawings beside each other, each with its name."""
    return '<div class="pair">' + "".join(f"<div><h3>{words(n)}</h3>{d}</div>" for n, d in drawings) + "</div>"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of texts."""
    head = "".join(f"<th>{words(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(map(_table_cell, row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _table_cell(value: object) -> str:
    long = ' class="long"' if len(str(value)) > _LONG else ""
    return f"<td{long}>{words(value)}</td>"


def folded(title: str, text: str) -> str:
    """Return a text that opens at a click."""
    return f"<details><summary>{words(title)}</summary><pre>{words_of_lines(text)}</pre></details>"


def words_of_lines(text: str) -> str:
    """Return a text of several lines, each escaped."""
    return "\n".join(words(line) for line in text.splitlines())
