"""Routed: how the rows of a dataset are divided among members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Routed:
    """How a dataset's rows are divided among members.

    rows      member → number of rows that it scores, of those that do not score all by their `rows`
    digests   member → which they are
    sets      sets of members that some row has, each in member order; the first of very many
    unscored  number of rows that no member scores
    first     the first of them
    """

    rows: Mapping[str, int]
    digests: Mapping[str, str]
    sets: tuple[tuple[str, ...], ...]
    unscored: int = 0
    first: tuple[int, ...] = ()
