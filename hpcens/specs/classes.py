"""Classes: a member's own brought to the ensemble's; and that all members give the same. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from hpcens.errors import UsageError
from hpcens.shell import listed


def class_faults(classes: Mapping[str, str], ensemble: Sequence[str]) -> Iterator[str]:
    """Say why a mapping is not total onto the ensemble's classes.

    classes   the member's classes, in its order, to the ensemble's
    ensemble  the ensemble's classes
    """
    for own, target in classes.items():
        if target not in ensemble:
            yield f"{own} is mapped to {target}, which is no class of the ensemble ({listed(ensemble)})"
    reached = set(classes.values())
    missing = [name for name in ensemble if name not in reached]
    if missing:
        yield f"nothing is mapped to {listed(missing)}: every class of the ensemble needs one of the member's"


def merged_classes(classes: Mapping[str, str]) -> list[str]:
    """Return the ensemble's classes that several of the member's are mapped to: their probabilities are added."""
    return [name for name, count in Counter(classes.values()).items() if count > 1]


def class_rounds(classes: Mapping[str, str], ensemble: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return how the member's last axis becomes the ensemble's: the sum over rounds of one place for each class.

    classes   the member's classes, in its order, to the ensemble's
    ensemble  the ensemble's classes, in order
    Place len(classes), one after the member's last, stands for zero. One round is a permutation.
    """
    added = [[i for i, target in enumerate(classes.values()) if target == name] for name in ensemble]
    most = max(map(len, added))
    return tuple(tuple(places[r] if r < len(places) else len(classes) for places in added) for r in range(most))


def check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UsageError where members disagree. shapes: shape of one row of each member's output."""
    if len(set(shapes.values())) > 1:
        raise UsageError(
            "the members' outputs differ in shape: " + ", ".join(f"{m} {list(s)}" for m, s in shapes.items()),
            "all members of an ensemble give one output of one shape per row; map their classes: members[].classes;"
            " bring them to one axis: class_axis",
        )
