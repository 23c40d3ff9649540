"""Carried: what a member with passes gives beside the mean of its draws, on the way to whoever combines. Pure.

The entropies of its draws, in the mean over them, lie behind its classes on their axis, so that they take every way
that the classes take: [p1, p2, p3, entropy].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcens.members.layout import result_axis
from hpcens.specs import MemberSpec, RunSpec, Space
from hpcens.vocabulary import Array


@dataclass(frozen=True, slots=True)
class Carried:
    """Where entropies lie.

    axis    of the classes, that of rows being 0
    labels  whether each class has an entropy of its own, as labels do that do not exclude one another
    """

    axis: int
    labels: bool

    def widened(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of a row of both. shape: of a row of the mean."""
        place = self.axis - 1
        return (*shape[:place], shape[place] + (shape[place] if self.labels else 1), *shape[place + 1 :])

    def narrowed(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of a row of the mean. shape: of a row of both."""
        place = self.axis - 1
        return (*shape[:place], shape[place] // 2 if self.labels else shape[place] - 1, *shape[place + 1 :])

    def parted(self, values: Array) -> tuple[Array, Array]:
        """Return the mean, (rows, *output shape), and its entropies, without the axis of classes but for labels."""
        classes = self.narrowed(values.shape[1:])[self.axis - 1]
        before: tuple[Any, ...] = (slice(None),) * self.axis
        entropies = values[(*before, slice(classes, None) if self.labels else classes)]
        return np.ascontiguousarray(values[(*before, slice(classes))]), np.ascontiguousarray(entropies)


def carried_of(member: MemberSpec, spec: RunSpec, shape: Sequence[int], space: Space) -> Carried | None:
    """Return where a member's entropies lie; None where it carries none.

    shape  of a row of its output, as it is combined
    space  the one the rule combines in
    """
    if member.passes is None or space != "probabilities":
        return None
    axis = result_axis(spec, shape, space)
    return None if axis is None else Carried(axis, spec.task == "multilabel")
