"""What needs no ranks: verify a result, combine its members again, export it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hpcens.api.configuration import Config, PathLike, load_config
from hpcens.api.handle import raise_unless_complete
from hpcens.api.opened import Result, open_result
from hpcens.combining import Recombination, require_same_members, under_rule
from hpcens.config import spec_from_json
from hpcens.config.job import absolute
from hpcens.config.partial import is_partial, load_partial
from hpcens.errors import UsageError
from hpcens.result import Finished, Verification
from hpcens.result import verify as verifying
from hpcens.runs import Verdict


def verify(result: PathLike) -> Verification:
    """Compare a result with its journal, every byte with its checksum, and members' weights with those that scored.

    The answer's `sound` says whether nothing is wrong, `faults` what is.
    Raises DataError where the file is missing or is no result of hpcens.
    """
    return verifying.verify(Path(result))


def combine(result: PathLike, output: PathLike, *, rule: str | None = None, config: Config = None) -> Result:
    """Combine a result's stored members by another rule or to other outputs, and return the new result, open.

    result  the path of one that stores its members
    output  the file to write; where it is complete already it is opened at once
    rule    another rule, as `hpcens combine --rule` takes it
    config  or a configuration with another rule or other outputs; one without members has these alone
    Raises UsageError where members are not stored, FingerprintMismatch where the configuration names others.
    """
    if (rule is None) == (config is None):
        raise UsageError("combine takes a rule or a configuration", "give one of them: rule='median'")
    verdict = combined(Path(result), Path(output), rule=rule, config=config)
    if verdict is not None:
        raise_unless_complete(verdict)
    return open_result(output)


def combined(result: Path, output: Path, *, rule: str | None, config: Config) -> Verdict | None:
    """Combine stored members, and return how it ended; None where the output was complete already. See `combine`."""
    source = Finished(absolute(result))
    if isinstance(config, str | os.PathLike) and is_partial(Path(config)):
        spec = load_partial(Path(config), spec_from_json(source.document("config")))
    elif config is not None:
        spec = load_config(config)
        require_same_members(source, spec)
    else:
        spec = under_rule(source, rule or "", Path.cwd())
    recombination = Recombination(source, spec, absolute(output))
    return None if recombination.is_complete() else recombination.write()


def export(result: PathLike, output: PathLike, names: Sequence[str] = ()) -> int:
    """Write datasets of a result to a .parquet, .csv or .npy file, and return the number of rows.

    names  datasets; none: all
    Raises UsageError where the file exists, DataError where rows are not what was written.
    """
    with open_result(result) as opened:
        return opened.export(output, names)
