"""Hold the user's guide: a page of Markdown a topic, printed by `hpcens help TOPIC`."""

from __future__ import annotations

import ast
import re
from importlib import resources

from hpcens.errors import UsageError

TOPICS = (
    "start",
    "members",
    "data",
    "rules",
    "routes",
    "cascade",
    "plans",
    "gpus",
    "slurm",
    "sites",
    "results",
    "evaluation",
    "python",
    "errors",
    "formats",
    "architecture",
)
"""In the order in which one reads them."""

# a line in a page that stands for what a module of hpcens says of itself
_INCLUDE = re.compile(r"^<!-- docstring of (\S+) -->$", re.MULTILINE)


def page(topic: str) -> str:
    """Return the page of a topic. Raises UsageError where there is none."""
    if topic not in TOPICS:
        from difflib import get_close_matches

        near = get_close_matches(topic, TOPICS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"the guide has no page {topic}", f"{meant}It has {', '.join(TOPICS)}")
    text = resources.files("hpcens.guide").joinpath(f"{topic}.md").read_text("utf-8")
    return _INCLUDE.sub(lambda match: _docstring(match[1]), text)


def contents() -> str:
    """Return the topics, a line each with the title of its page."""
    titles = {topic: page(topic).partition("\n")[0].lstrip("# ") for topic in TOPICS}
    return "\n".join(f"  {topic:<13}{title}" for topic, title in titles.items())


def _docstring(module: str) -> str:
    """Return what a module says of itself, without importing it."""
    file = resources.files("hpcens").joinpath(*module.split("/"))
    return ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
