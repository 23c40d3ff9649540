"""Cut a dataset that worlds share into blocks, and list what is to be done of it, stage after stage; pure.

plan, which fixes the numbers of all ─► the blocks, in any order ─► assembly, once all blocks are there

The plan is a list of its own; blocks and assembly are the next one, written once by the first world that comes to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path

from hpcens.units.claims import Standing
from hpcens.units.listing import Unit, UnitList
from hpcens.vocabulary import NO_SEGMENTS, Segmentation

# What one world is to spend on a block, by the plan: no more is lost with it, and it is worth what its start takes.
_MOST_SECONDS, _LEAST_SECONDS = 900.0, 60.0
# Each is a dozen files while it is scored; in all, or for each world where that is more.
_MOST_BLOCKS, _MOST_OF_A_WORLD = 1000, 20
# Blocks that there are for each world, however short they are then.
_FOR_EACH_WORLD = 4


def cut(segmentation: Segmentation, seconds: float, worlds: int, devices: int = 1) -> list[tuple[int, int]]:
    """Cut the segments into blocks, the largest first: of each the first segment, and the one after its last.

    seconds  that one world takes for all of them, by the plan
    worlds   that are to share them
    devices  of a world: of blocks that are multiples of it none waits for the others' last segments
    """
    total, number = len(segmentation), max(_MOST_BLOCKS, _MOST_OF_A_WORLD * worlds)
    each = max(seconds / total, 1e-9)
    most = max(1, ceil(total / number), int(_MOST_SECONDS / each))
    worth_it = int(min(_LEAST_SECONDS / each, total / (_FOR_EACH_WORLD * worlds)))
    least = min(most, max(1, worth_it))
    blocks = _falling(total, most, least, worlds, devices)
    while len(blocks) > number and least < most:
        least = min(most, least + ceil(least / 8))
        blocks = _falling(total, most, least, worlds, devices)
    return sorted(blocks, key=lambda block: block[0] - block[1])


def _falling(total: int, most: int, least: int, worlds: int, devices: int) -> list[tuple[int, int]]:
    """Cut so many segments into blocks of at most and at least so many; what is left at the end goes with the last."""
    blocks: list[tuple[int, int]] = []
    first = 0
    while (rest := total - first) > 0:
        size = min(most, max(least, rest // (2 * worlds)))
        size -= size % devices if size > devices else 0
        if rest - size < least:
            size = rest if rest <= most else ceil(rest / 2)
        blocks.append((first, first + size))
        first += size
    return blocks


def planning(units: UnitList) -> UnitList:
    """Return the list of a dataset whose numbers are yet to be fixed, after a list of which they turned out void."""
    plan = Unit(_key("plan", units.number), "the plan", units.whole, 0, NO_SEGMENTS)
    return replace(units, units=(plan,), fingerprint="")


def scoring(
    units: UnitList,
    folder: Path,
    fingerprint: str,
    segmentation: Segmentation,
    *,
    row_bytes: int,
    seconds: float,
    devices: int = 1,
) -> UnitList:
    """Return the list of a dataset's blocks, and of their assembly.

    folder       of the blocks' results
    fingerprint  digest of that under which they are scored
    seconds      that one world takes for all, by the plan
    devices      of the world that has planned
    """
    blocks = []
    for first, stop in cut(segmentation, seconds, units.worlds, devices):
        part = replace(segmentation, first=first, stop=stop)
        name = f"rows {part.first_row:,}–{part.first_row + part.part_rows - 1:,}"
        key = _key("block", fingerprint, first, stop)
        rows = part.part_rows
        blocks.append(Unit(key, name, str(folder / f"{key}.h5"), rows * row_bytes, (first, stop), rows))
    assembly = Unit(_key("assembly", fingerprint), "putting the blocks together", units.whole, 0)
    return replace(units, units=(*blocks, assembly), fingerprint=fingerprint)


def with_damaged_anew(units: UnitList, damaged: Collection[str]) -> UnitList:
    """Return the list with other keys for blocks that turned out damaged, and for their assembly: they are free then.

    damaged  their keys
    """
    assembly = assembly_of(units)

    def anew(unit: Unit) -> Unit:
        if unit.key not in damaged and unit is not assembly:
            return unit
        key = _key("again", unit.key)
        output = unit.output if unit is assembly else str(Path(unit.output).with_name(f"{key}.h5"))
        return replace(unit, key=key, output=output)

    return replace(units, units=tuple(map(anew, units.units)))


def blocks_of(units: UnitList) -> tuple[Unit, ...]:
    """Return the blocks of a dataset that worlds share."""
    return tuple(unit for unit in units.units if unit.rows)


def assembly_of(units: UnitList) -> Unit | None:
    """Return what puts the blocks together; None while they are yet to be cut."""
    return units.units[-1] if units.units[-1].segments is None else None


def open_units(units: UnitList, standings: Mapping[str, Standing]) -> tuple[Unit, ...]:
    """Return what may be worked on: the blocks until all are there, then what puts them together."""
    blocks = [unit for unit in units.units if unit.segments is not None]
    if all(standings[unit.key].state == "done" for unit in blocks):
        return tuple(unit for unit in units.units if unit.segments is None)
    return tuple(blocks)


def _key(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
