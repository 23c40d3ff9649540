"""Rows in buckets: what is summed by bucket is drawn again by bucket, so that intervals need no rows in memory.

Rows are dealt to at most 1,024 buckets by a hash of their number, or of the group they belong to, and every measure is
made of sums by bucket. An interval is that of a bootstrap over buckets: of few rows each has its own, which is the
plain bootstrap; of many it draws random parts of them, which varies as much. Sums run in the order of the rows, one by
one, so that they are the same bits however the rows are cut into chunks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from hpcens.rules import Doubles
from hpcens.vocabulary import Array

BUCKETS = 1024
DRAWS = 1000
_SEED = 0


def buckets_of_rows(first: int, count: int, rows: int) -> Array:
    """Return the bucket of each of `count` rows from the number `first` on. rows: how many there are in all."""
    numbers = np.arange(first, first + count, dtype=np.uint64)
    return (numbers if rows <= BUCKETS else _scrambled(numbers) % np.uint64(BUCKETS)).astype(np.int64)


def buckets_of_groups(groups: Array) -> Array:
    """Return the bucket of each row by its group, (rows,): rows of one group are drawn together."""
    return (_numbers_of_groups(groups) % np.uint64(BUCKETS)).astype(np.int64)


def shares_of_rows(first: int, count: int, purpose: int) -> Doubles:
    """Return a number from 0 up to 1 for each of `count` rows from the number `first` on, as if it were drawn.

    purpose  what it is for: numbers of another purpose, and buckets, have nothing to do with it
    """
    return _shares(np.arange(first, first + count, dtype=np.uint64), purpose)


def shares_of_groups(groups: Array, purpose: int) -> Doubles:
    """Return such a number for each row by its group, (rows,): rows of one group have the same."""
    return _shares(_numbers_of_groups(groups), purpose)


def _numbers_of_groups(groups: Array) -> Array:
    values, places = np.unique(groups.astype(str), return_inverse=True)
    digests = [hashlib.blake2b(str(value).encode(errors="surrogatepass"), digest_size=8).digest() for value in values]
    numbers = np.array([int.from_bytes(digest, "little") for digest in digests], np.uint64)
    chosen: Array = numbers[places.reshape(-1)]
    return chosen


def _shares(numbers: Array, purpose: int) -> Doubles:
    of_purpose = _scrambled(np.full(1, purpose, np.uint64))
    return (_scrambled(numbers ^ of_purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _scrambled(numbers: Array) -> Array:
    """Return numbers that look random: the last steps of splitmix64."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: Array = z ^ (z >> np.uint64(31))
    return scrambled


def draws(rows_of_bucket: Array) -> Doubles:
    """Return how often each bucket counts, (1 + DRAWS, buckets): first each once, then as the bootstrap drew them."""
    filled = np.flatnonzero(rows_of_bucket)
    counts = np.zeros((1 + DRAWS, len(rows_of_bucket)))
    counts[0] = 1.0
    if len(filled):
        generator = np.random.default_rng(_SEED)
        counts[1:, filled] = generator.multinomial(len(filled), np.full(len(filled), 1 / len(filled)), DRAWS)
    return counts


class Sums:
    """Sums by bucket of some quantities, each of one number a row or of several.

    widths  quantity → how many numbers it has a row
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        self._sums = {name: np.zeros((width, BUCKETS)) for name, width in widths.items()}

    def add(self, buckets: Array, values: Mapping[str, Array]) -> None:
        """Add rows. buckets: (rows,) of each; values: quantity → (rows,) or (rows, width)."""
        for name, of_rows in values.items():
            columns = of_rows.reshape(len(buckets), -1).T
            for total, column in zip(self._sums[name], columns, strict=True):
                np.add.at(total, buckets, column.astype(np.float64))

    def drawn(self, name: str, counts: Doubles) -> Doubles:
        """Return a quantity's sum in each draw, (draws, width)."""
        sums = self._sums[name]
        drawn: Doubles = counts @ sums.T
        drawn[0] = sums.sum(axis=1)
        return drawn

    def of_buckets(self, name: str) -> Doubles:
        """Return a quantity's sum by bucket, (width, buckets)."""
        return self._sums[name]
