"""A rule of the user's own: `package.module:function`, called once a segment.

    def function(stack, names):
        '''stack: (members, rows, *output shape), a copy, float64 where a member gives that, else float32;
        names: the members', a tuple of str.

        Returns (rows, *output shape), numbers that are finite in the dtype in which the ensemble combines.
        '''

The same stack must always give the same bytes: no state, no random numbers. What it prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpcens.errors import RuleError, RuleMisnamed
from hpcens.rules.stack import Floats, Rule
from hpcens.specs import OutputDtype
from hpcens.usercode import NotThere, code_digest, import_callable


def function_digest(path: str, search_path: Path) -> str:
    """Digest the code of a rule of the user's own. Raises RuleMisnamed where there is none."""
    digest = code_digest(path, search_path)
    if digest is None:
        raise RuleMisnamed(f"rule {path}: there is no module {path.partition(':')[0]!r}", _looked_in(search_path))
    return digest


def load_function(
    path: str, search_path: Path, names: tuple[str, ...], code: str | None = None, dtype: OutputDtype = "float32"
) -> Rule:
    """Make a rule of the user's function. Raises RuleError where it cannot be imported; the rule, where it fails.

    path   import path of the function
    names  names of the members
    code   digest of the function's module when the run was checked: other code is refused
    dtype  to which what it gives is rounded
    """
    if code is not None and code_digest(path, search_path) != code:
        raise RuleError(f"rule {path}: its module changed since the run was checked", "run it again")
    try:
        function = import_callable(path, search_path)
    except NotThere as error:
        raise RuleMisnamed(f"rule {path} cannot be imported: {error}", _looked_in(search_path)) from None
    except (Exception, SystemExit) as error:
        raise RuleError(f"rule {path} cannot be imported: {_described(error)}", _looked_in(search_path)) from error

    def combine(stack: Sequence[Floats]) -> Floats:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                returned = np.asarray(function(np.stack(stack), names))
        except (Exception, SystemExit) as error:
            raise RuleError(f"rule {path} {_described(error)}", "try the function on such a stack alone") from error
        if returned.shape != stack[0].shape or returned.dtype.kind not in "fiub":
            raise RuleError(
                f"rule {path} returned {returned.dtype}{list(returned.shape)} for {len(stack)} members of"
                f" {list(stack[0].shape)}",
                "it must return numbers of the shape of one member's output",
            )
        with np.errstate(over="ignore"):
            prediction: Floats = returned.astype(dtype)
        if not np.isfinite(prediction).all():
            raise RuleError(f"rule {path} returned NaN or infinity", "try the function on such a stack alone")
        return prediction

    return combine


def _looked_in(search_path: Path) -> str:
    return f"rules are imported from {search_path} and from the Python path"


def _described(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"called exit({error.code})"
    return f"raised {type(error).__name__}: {error}"
