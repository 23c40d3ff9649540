"""Roles: what reader, reducer and device workers decide. Pure: they return Sends and do no I/O."""

from hpcens.roles.dispatch import Shares, interleaved, shares_by_rank, turn
from hpcens.roles.rank_roles import Hello, RankRoles, assign_roles, check_world, extend_roles, most_readers_and_reducers
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker, room_of

__all__ = [
    "Hello",
    "RankRoles",
    "Reader",
    "Reducer",
    "Shares",
    "Worker",
    "assign_roles",
    "check_world",
    "extend_roles",
    "interleaved",
    "most_readers_and_reducers",
    "room_of",
    "shares_by_rank",
    "turn",
]
