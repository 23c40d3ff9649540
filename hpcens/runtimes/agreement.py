"""Agreement: how far outputs for the same rows lie apart, from one runtime, call or batch to another.

Of probabilities it is the difference itself. Values have scales of their own: energies of −123457 eV that differ from
row to row by 5 eV are told apart by the 5, not by the 123457. So a difference is taken as a part of the standard
deviation over rows, element by element, and at least of 1e-6 of the value.
"""

from __future__ import annotations

import math

import numpy as np

from hpcens.vocabulary import Array

_LEAST_SCALE = 1e-6
# Epsilons of its type by which a value may be rounded another way: no part of any difference.
_ROUNDING = 8
# Rounding in what is narrower than the outputs, which are float32.
_EPSILONS = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "tf32": 2.0**-11}


def difference(values: Array, reference: Array, *, probabilities: bool, scale: Array | None = None) -> float:
    """Return the most by which values differ from a reference, (rows, *output shape) both.

    scale  standard deviation of each element over rows, (*output shape); None: that of the reference's own rows
    Infinite where the shapes differ, or only one of the two is finite.
    """
    apart = differences(values, reference, probabilities=probabilities, scale=scale)
    return math.inf if apart is None else float(apart.max(initial=0.0))


def differences(values: Array, reference: Array, *, probabilities: bool, scale: Array | None = None) -> Array | None:
    """Return of each row the most by which it differs, (rows,); None where the shapes differ. See `difference`."""
    if values.shape != reference.shape:
        return None
    flat, wanted = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (values, reference))
    finite = np.isfinite(wanted)
    strange = (finite != np.isfinite(flat)).any(axis=1)
    flat, wanted = np.where(finite, flat, 0.0), np.where(finite, wanted, 0.0)
    apart = np.abs(flat - wanted)
    if not probabilities:
        size = np.abs(wanted)
        spread = spread_over_rows(reference) if scale is None else scale
        apart = np.maximum(0.0, apart - _ROUNDING * float(np.finfo(reference.dtype).eps) * size)
        scales = np.maximum(spread.reshape(1, -1), _LEAST_SCALE * size)
        # where all rows have the same 0, the row's largest value says how large a difference is
        scales = np.where(scales > 0, scales, _LEAST_SCALE * size.max(axis=1, keepdims=True, initial=0.0))
        apart = np.divide(apart, scales, out=np.where(apart > 0, math.inf, 0.0), where=scales > 0)
    worst: Array = np.where(strange, math.inf, apart.max(axis=1, initial=0.0))
    return worst


def spread_over_rows(values: Array) -> Array:
    """Return the standard deviation of each element over the rows in which it is finite, (*output shape).

    values  (rows, *output shape)
    """
    whole = values.astype(np.float64)
    finite = np.isfinite(whole)
    count = np.maximum(1, finite.sum(axis=0))
    mean = np.where(finite, whole, 0.0).sum(axis=0) / count
    spread: Array = np.sqrt(np.where(finite, (whole - mean) ** 2, 0.0).sum(axis=0) / count)
    return spread


def tolerance_in(precision: str, tolerance: float) -> float:
    """Return how far apart rounding in a precision may bring what is computed in other batches or runtimes."""
    return max(tolerance, 4 * _EPSILONS.get(precision, 0.0))
