"""Words: what is wrong with a featuriser, in those of the YAML: it is loaded and digested as a member."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hpcens.errors import HpcensError


@contextmanager
def in_words_of_features(name: str | None) -> Iterator[None]:
    """Let errors that name a member name the featuriser, and its place in the YAML."""
    try:
        yield
    except HpcensError as error:
        error.what = error.what.replace(f"member {name} (features)", f"features {name}")
        error.remedy = error.remedy.replace("members[]", f"features.{name}")
        raise
