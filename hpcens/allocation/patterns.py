"""Patterns: sets of members that one device can host, listed."""

from __future__ import annotations

from collections.abc import Iterator

from hpcens.allocation.menu import Menu, Pattern
from hpcens.allocation.program import left


def all_patterns(menu: Menu, most: int) -> list[list[Pattern]] | None:
    """List for each pool all patterns worth a look; None where their members have more than `most` choices in all.

    A pattern is not worth a look where another member could join it and all could still run as before.
    """
    by_pool: list[list[Pattern]] = []
    size = 0
    for pool, offer in enumerate(menu.offers):
        listed: list[Pattern] = []
        for pattern in _subsets(menu, pool):
            listed.append(pattern)
            size += sum(len(offer[m]) for m in pattern)
            if size > most:
                return None
        by_pool.append(listed)
    return by_pool


def _subsets(menu: Menu, pool: int) -> Iterator[Pattern]:
    offer = menu.offers[pool]
    members = [m for m in menu.members if m in offer]
    if not members:
        return
    weights = {m: max(o.weights for o in offer[m].values()) for m in members}
    least = {m: min(o.workspace for o in offer[m].values()) for m in members}
    spaces = {m: sorted({o.workspace for o in offer[m].values()}) for m in members}
    if len(members) == len(menu.members) and sum(len(each.devices) for each in menu.pools) == 1:
        yield tuple(members)  # a lone device hosts everyone
        return
    if left(menu, pool, tuple(members)) >= max(spaces[m][-1] for m in members):
        yield tuple(members)
        return
    contexts = {m: max(o.context for o in offer[m].values()) for m in members}

    def spare(context: int, used: int) -> int:
        return menu.room[pool] - context - used

    def extends(pattern: Pattern, context: int, used: int) -> bool:
        """Tell whether a member can join without any of the pattern losing a choice."""
        room_left = spare(context, used)
        largest = max(space for m in pattern for space in spaces[m] if space <= room_left)
        return any(
            m not in pattern and spare(max(context, contexts[m]), used + weights[m]) >= max(largest, least[m])
            for m in members
        )

    # A stack of (pattern, number of the next member to decide on, context, weights, smallest workspace that will do).
    stack: list[tuple[Pattern, int, int, int, int]] = [((), 0, 0, 0, 0)]
    while stack:
        pattern, i, context, used, workspace = stack.pop()
        if i < len(members):
            member = members[i]
            stack.append((pattern, i + 1, context, used, workspace))
            wider = max(context, contexts[member]), used + weights[member]
            if spare(*wider) >= (needed := max(workspace, least[member])):
                stack.append(((*pattern, member), i + 1, *wider, needed))
        elif pattern and not extends(pattern, context, used):
            yield pattern
