"""Packing: some placement of all members, found or excluded exactly, for when memory is all that matters."""

from __future__ import annotations

from hpcens.allocation.model import Choice, Placement, choices, device_memory, fits, measured, rehost
from hpcens.allocation.problem import Problem
from hpcens.vocabulary import Device

# Part of the time. Only whether there is an answer depends on it, not which.
_PART = 0.5


def place_packed(problem: Problem) -> Placement | None:
    """Place every member once, at the batch that needs least memory, by an integer program solved with HiGHS.

    None where there is no such placement, or none was found in half the time. Worst-fit is quicker and
    spreads the members more evenly, but gives up on ensembles that fill the memory of their devices.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    cells = [
        (d, m, choice)
        for d, device in enumerate(problem.devices)
        for m, member in enumerate(problem.members)
        for choice in _thrifty(problem, device, member)
    ]
    # Unknowns: for each cell, whether it has an instance; for each device, the parts of its memory
    # that the largest context and the largest workspace take, which no single member decides.
    # Rows: every member is placed once; every device's memory; every cell's two claims to be largest.
    devices, members = len(problem.devices), len(problem.members)
    entries: list[tuple[int, int, float]] = []
    for column, (d, m, choice) in enumerate(cells):
        device = problem.devices[d]
        profiled = measured(problem, device.kind, problem.members[m], choice)
        assert profiled is not None
        entries += [(m, column, 1.0), (members + d, column, profiled[0].weights / device.memory)]
        for part, claim in enumerate((profiled[0].context + problem.held, profiled[1].workspace)):
            row = members + devices + 2 * column + part
            entries += [(row, column, -claim / device.memory), (row, len(cells) + 2 * d + part, 1.0)]
    entries += [(members + d, len(cells) + 2 * d + part, 1.0) for d in range(devices) for part in (0, 1)]
    rows, columns, values = zip(*entries, strict=True)
    shape = (members + devices + 2 * len(cells), len(cells) + 2 * devices)
    answer = milp(
        np.zeros(shape[1]),
        constraints=LinearConstraint(
            csr_array((values, (rows, columns)), shape=shape),
            np.r_[np.ones(members), np.full(devices, -np.inf), np.zeros(2 * len(cells))],
            np.r_[np.ones(members + devices), np.full(2 * len(cells), np.inf)],
        ),
        integrality=np.r_[np.ones(len(cells)), np.zeros(2 * devices)],
        bounds=Bounds(0, 1),
        options={"time_limit": _PART * problem.seconds},
    )
    if answer.x is None:
        return None
    placement = Placement({}, {})
    for (d, m, choice), value in zip(cells, answer.x, strict=False):
        if value > 0.5:
            device, member = problem.devices[d], problem.members[m]
            members_there = (*placement.hosted.get(device.name, ()), member)
            placement = rehost(problem, placement.running(member, choice), device.name, members_there)
    # The solver takes a row for satisfied at a part in a million too much.
    return placement if fits(problem, placement) else None


def _thrifty(problem: Problem, device: Device, member: str) -> list[Choice]:
    """Return the choice that needs least memory, of each runtime in which the member fits the device alone."""
    least: dict[str, tuple[float, Choice]] = {}
    for choice in choices(problem, member):
        need = device_memory(problem, device.kind, (member,), {member: choice})
        if need <= device.memory:
            least[choice.runtime] = min(least.get(choice.runtime, (need, choice)), (need, choice))
    return [choice for _, choice in least.values()]
