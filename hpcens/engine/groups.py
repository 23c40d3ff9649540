"""Groups on a device: what was computed as one is handed on as what each of its members gave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from hpcens.members import Forward
from hpcens.vocabulary import Array
from hpcens.vocabulary.groups import in_units


def units_of(members: Iterable[str], forwards: Mapping[str, Forward]) -> dict[str, tuple[str, ...]]:
    """Return what is to be run for members: each by itself, or its group; name → those of the members that it is for.

    forwards  what is hosted, groups under their names
    """
    groups = {name: forward.members for name, forward in forwards.items() if forward.members}
    return in_units(members, groups)


def parted(forward: Forward, values: Array, members: Iterable[str]) -> Iterator[tuple[str, Array]]:
    """Yield each of these members with its output, (rows, *output shape).

    values   of one member that, or of a group (rows, members of the group, *output shape)
    members  those that were asked for, in member order
    """
    for member in members:
        if not forward.members:
            yield member, values
        else:
            yield member, np.ascontiguousarray(values[:, forward.members.index(member)])
