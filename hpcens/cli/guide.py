"""The verb that prints the guide: help."""

from __future__ import annotations

from argparse import Namespace

from hpcens.cli.terminal import say
from hpcens.errors import COMPLETE
from hpcens.guide import contents, page


def show_page(options: Namespace) -> int:
    """Print a page of the guide; without a topic, what there is."""
    if options.topic:
        say(page(options.topic))
    else:
        say(f"hpcens help TOPIC prints a page of the guide; hpcens VERB --help describes a verb.\n\n{contents()}")
    return COMPLETE
