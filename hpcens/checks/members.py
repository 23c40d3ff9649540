"""Members: what each promised is held against its trial before anything is queued.

All members give one output of one shape, in a space the rule can combine, and say rightly which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpcens.checks.imports import RULE, untried
from hpcens.checks.member_process import SECONDS, try_members
from hpcens.checks.preflight import Preflight, after_trials
from hpcens.checks.steadiness import require_no_chance, steadiness_warnings
from hpcens.checks.testbed import Testbed
from hpcens.checks.trials import Trial, TrialBook, member_key, rule_key
from hpcens.combining import try_rule
from hpcens.errors import USAGE, HpcensError, MemberError, UsageError
from hpcens.result import keeping_of, outputs_of, require_room, require_same_axis, room
from hpcens.runs import RunDirectory
from hpcens.specs import Job, MemberSpec, check_shapes


def check_members(
    job: Job,
    preflight: Preflight,
    book: TrialBook | None = None,
    seconds: float = SECONDS,
    testbed: Testbed | None = None,
) -> tuple[str, ...]:
    """Try the members that were never tried on such rows. Returns warnings: what looks wrong, but is no fault.

    book     of trials that were passed; None: the user's
    seconds  for one member, besides the time its file takes to be read
    testbed  on which they are tried; None: the job's devices on this host
    Raises MemberError naming every member that cannot be loaded or run, or gives what it does not say;
    UsageError where members disagree, or do not fit the classes, the rule or the outputs; RuleError where the
    rule is the user's own and fails; Incomplete where there is no room for the result.
    """
    book, testbed = book or TrialBook.default(), testbed or Testbed(job.spec.devices)
    members = [member for member in job.spec.members if member.name not in preflight.stored]
    preflight = tried(job, preflight, book, seconds, testbed)
    trials = _trials(job, preflight, members, book, seconds, testbed)
    shapes = {name: trial.shape for name, trial in trials.items()}
    check_shapes(shapes)
    for shape in shapes.values():
        require_same_axis(job, preflight.space, shape, preflight.stored)
        outputs = outputs_of(job.spec, shape, preflight.space)
        keeping = keeping_of(job.spec, outputs)
        rows = preflight.facts.rows if keeping is None else keeping.expected(preflight.facts.rows)
        require_room(job, room(RunDirectory.of(job.output), rows, outputs, job.spec.output.compression))
    if preflight.rule and shapes:
        check_rule(job, preflight, next(iter(shapes.values())), book)
    tolerance = job.spec.plan.tolerance
    warnings = (
        warning
        for member in members
        if (trial := trials.get(member.name)) is not None
        for warning in (*trial.warnings, *steadiness_warnings(member, trial.steadiness, tolerance))
    )
    return *warnings, *testbed.warnings()


def unsteady_members(job: Job, preflight: Preflight, book: TrialBook | None = None) -> dict[str, Any]:
    """Return of each member that was tried and is not steady what the result says of it, see `Steadiness.faults`.

    book  of trials that were passed; None: the user's
    """
    book = book or TrialBook.default()
    found = {}
    for member in job.spec.members:
        stored = member.name in preflight.stored
        trial = None if stored else book.get(member_key(member, job.spec, preflight), job.spec.search_path)
        if trial and (faults := trial.steadiness.faults(member.computes_in, job.spec.plan.tolerance)):
            found[member.name] = dict(faults)
    return found


def tried(
    job: Job,
    preflight: Preflight,
    book: TrialBook | None = None,
    seconds: float = SECONDS,
    testbed: Testbed | None = None,
) -> Preflight:
    """Try the members and the rule of whose code it is not known what it imports; return what is known then.

    book, seconds, testbed  see `check_members`
    Returns the preflight as it is where nothing can be tried here. Raises what `check_members` raises.
    """
    book, testbed = book or TrialBook.default(), testbed or Testbed(job.spec.devices)
    if not preflight.unseen or not _can_try(testbed):
        return preflight
    trials = _trials(job, preflight, untried(job, preflight), book, seconds, testbed)
    if RULE in preflight.unseen and trials:
        check_rule(job, preflight, next(iter(trials.values())).shape, book)
    return after_trials(job, preflight, book)


def _can_try(testbed: Testbed) -> bool:
    try:
        return testbed.device is not None
    except UsageError:
        return False


def taken(job: Job, preflight: Preflight, book: TrialBook | None = None) -> dict[str, str]:
    """Return what the output of each member is taken to be, in words, of those that were tried.

    book  of trials that were passed; None: the user's
    """
    book = book or TrialBook.default()
    trials = {
        member.name: book.get(member_key(member, job.spec, preflight), job.spec.search_path)
        for member in job.spec.members
    }
    return {name: trial.taken for name, trial in trials.items() if trial is not None}


def _trials(
    job: Job, preflight: Preflight, members: Sequence[MemberSpec], book: TrialBook, seconds: float, testbed: Testbed
) -> dict[str, Trial]:
    """Each member's trial, from the book where it is there; of members without one, none where there is no device."""
    keys = {member.name: member_key(member, job.spec, preflight) for member in members}
    kept = {name: trial for name, key in keys.items() if (trial := book.get(key, job.spec.search_path)) is not None}
    trials = {name: trial for name, trial in kept.items() if testbed.serves(trial)}
    missing = [member for member in members if member.name not in {*trials, *testbed.left}]
    device = testbed.device if missing else None
    if testbed.puts_off:
        testbed.later = tuple(member.name for member in missing)
    faults: list[tuple[str, HpcensError]] = []
    for name, outcome in try_members(job, preflight, missing, device, seconds) if device is not None else ():
        if isinstance(outcome, Trial):
            book.put(keys[name], outcome)
            trials[name] = outcome
        elif not testbed.leaves(name, outcome):
            faults.append((name, outcome))
    faults += _by_chance(job, members, trials)
    if faults:
        raise _together(faults)
    return {name: trials[name] for name in keys if name in trials}


def _by_chance(
    job: Job, members: Sequence[MemberSpec], trials: Mapping[str, Trial]
) -> Iterator[tuple[str, HpcensError]]:
    """Yield members that passed, but whose outputs depend on chance, with what is wrong with them."""
    for member in members:
        if (trial := trials.get(member.name)) is not None:
            try:
                require_no_chance(member, trial.steadiness, job.spec.plan.tolerance)
            except MemberError as error:
                yield member.name, error


def _together(faults: Sequence[tuple[str, HpcensError]]) -> HpcensError:
    """Return the faults of members as one; those that read alike but for the member are said once.

    faults  names of members, and what is wrong with each
    """
    alike: dict[tuple[type[HpcensError], str], list[tuple[str, HpcensError]]] = {}
    for name, fault in faults:
        alike.setdefault((type(fault), _without_name(name, str(fault))), []).append((name, fault))
    once = [_of_all(of_kind) for of_kind in alike.values()]
    if len(once) == 1:
        return once[0]
    kind = UsageError if all(fault.exit_code == USAGE for fault in once) else MemberError
    lines = "\n  ".join(str(fault).replace("\n", "\n  ") for fault in once)
    return kind(f"{len(faults)} members cannot be used:\n  {lines}", "correct them; nothing was started")


def _without_name(name: str, text: str) -> str:
    """Return a text with a blank for a member's name, and for the files that are called by it."""
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)


def _of_all(faults: Sequence[tuple[str, HpcensError]]) -> HpcensError:
    """Return the first of equal faults, said of all members that have it."""
    name, fault = faults[0]
    if len(faults) == 1:
        return fault
    others = f"{faults[1][0]}" if len(faults) == 2 else f"{len(faults) - 1} more"
    what = fault.what.replace(f"member {name}", f"member {name} (and so {others})", 1)
    return type(fault)(what, fault.remedy)


def check_rule(job: Job, preflight: Preflight, shape: tuple[int, ...], book: TrialBook) -> None:
    """Try a rule of the user's own, unless it passed before with as many members of that shape."""
    key = rule_key(job.spec, preflight, shape)
    if book.get(key, job.spec.search_path) is None:
        imported = try_rule(job.spec, preflight.space, preflight.rule, shape, sets=job.spec.sets(preflight.facts.sets))
        book.put(key, Trial(shape, imported=imported))
