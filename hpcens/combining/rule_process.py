"""Rule process: a rule of the user's own first combines made-up outputs, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from hpcens.combining.combiner import Combiner
from hpcens.engine import use_cores
from hpcens.errors import USAGE, HpcensError, RuleError, RuleMisnamed, as_verdict
from hpcens.members import result_axis
from hpcens.processes.isolation import NoAnswer, isolated
from hpcens.specs import RunSpec, Space
from hpcens.usercode.imported import Imported

_SECONDS = 120.0


def try_rule(
    spec: RunSpec,
    space: Space,
    digests: Mapping[str, str],
    shape: tuple[int, ...],
    seconds: float = _SECONDS,
    *,
    sets: Sequence[Sequence[str]] = (),
) -> Imported:
    """Try the rule; return what it has imported.

    Raises RuleError where it cannot be loaded, fails, ends its process or does not come to an end.

    digests  what the rule's code and weights are pinned by
    shape    of one member's output for one row
    sets     names of members, in member order, of which rows have no others
    """
    name = f"rule {spec.rule.name}"
    with isolated(partial(_combine, spec, space, dict(digests), shape, tuple(sets))) as process:
        try:
            outcome = process.answer(seconds)
        except NoAnswer as silence:
            if silence.exit_code is None:
                raise RuleError(f"{name} did not combine three rows within {seconds:.0f} s", "try it alone") from None
            ending = f"ended its process with exit code {silence.exit_code}{silence.quotation}"
            raise RuleError(f"{name} {ending}", "it must return") from None
    if isinstance(outcome, RuleError):
        raise outcome
    return outcome


def _combine(
    spec: RunSpec, space: Space, digests: Mapping[str, str], shape: tuple[int, ...], sets: Sequence[Sequence[str]]
) -> Iterator[RuleError | Imported]:
    """Yield what the rule has imported, or what is wrong with it."""
    use_cores(1)
    before = frozenset(sys.modules)
    try:
        Combiner(spec, space, (), digests, result_axis(spec, shape, space)).try_out(shape, sets)
    except HpcensError as error:
        kind = RuleMisnamed if error.exit_code == USAGE else RuleError
        yield kind(error.what, error.remedy)
    except Exception as error:
        yield RuleError(as_verdict(error).what, "try the rule alone")
    else:
        yield Imported.since(before)
