"""The rehearsal: a rule of the user's own combines made-up outputs before anything is queued, in a process of its own.

this process ──spec, space, digests, shape──► python -m hpcens.checks.rule_process ──nothing or an error──► this process
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from hpcens.combining import Combiner
from hpcens.config import spec_from_json, spec_to_json
from hpcens.engine.hardware import use_cores
from hpcens.errors import HpcensError, RuleError, as_verdict
from hpcens.processes import die_with
from hpcens.specs import RunSpec, Space

_SECONDS = 120.0


def rehearse(
    spec: RunSpec, space: Space, digests: Mapping[str, str], shape: tuple[int, ...], seconds: float = _SECONDS
) -> None:
    """Raises RuleError where the rule cannot be loaded, fails, ends its process or does not come to an end.

    shape  of one member's output for one row
    """
    name = f"rule {spec.rule.name}"
    request = {"spec": spec_to_json(spec), "space": space, "digests": dict(digests), "shape": shape}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hpcens.checks.rule_process", str(os.getpid())],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuleError(f"{name} did not combine three rows within {seconds:.0f} s", "try it alone") from None
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        words = f"; it said: {' | '.join(said)}" if said else ""
        raise RuleError(f"{name} ended its process with exit code {done.returncode}{words}", "it must return")
    answer = json.loads(done.stdout)
    if answer:
        raise RuleError(answer["what"], answer["remedy"])


def _answer(request: Mapping[str, Any]) -> dict[str, str]:
    try:
        Combiner(spec_from_json(request["spec"]), request["space"], (), request["digests"]).try_out(
            tuple(request["shape"])
        )
    except HpcensError as error:
        return {"what": error.what, "remedy": error.remedy}
    except Exception as error:
        return {"what": as_verdict(error).what, "remedy": "try the rule alone"}
    return {}


def main() -> None:
    """Be the other process. Its answer goes where nothing that the rule prints can get in between."""
    out = os.dup(1)
    os.dup2(2, 1)
    use_cores(1)
    answer = json.dumps(_answer(json.loads(sys.stdin.buffer.read())))
    with os.fdopen(out, "w") as file:
        file.write(answer)
    os._exit(0)  # whatever threads the rule left behind


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    main()
