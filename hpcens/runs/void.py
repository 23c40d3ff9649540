"""Void runs: what was scored under a fingerprint is not to be continued, since a runtime gave wrong values in it.

    RUN/void/DIGEST.json  {"member", "runtime", "fingerprint", "apart"}: one a finding, each written once

The next start makes a fingerprint without that runtime, and takes over nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcens.files import read_json, sealed, write_atomically


@dataclass(frozen=True, slots=True)
class Finding:
    """A member that gave wrong values in a runtime.

    fingerprint  digest of what was scored with it
    apart        by how much it differed from eager, see `runtimes.agreement`
    """

    member: str
    runtime: str
    fingerprint: str
    apart: float

    def save(self, run: Path) -> None:
        """Make what was scored under the fingerprint void. run: the run directory."""
        folder = run / "void"
        folder.mkdir(exist_ok=True)
        name = hashlib.sha256(f"{self.member}\0{self.runtime}\0{self.fingerprint}".encode()).hexdigest()[:16]
        write_atomically(folder / f"{name}.json", sealed(json.dumps(asdict(self))))


def findings(run: Path) -> tuple[Finding, ...]:
    """Return what was found in a run so far. run: the run directory."""
    raw = (read_json(path) for path in sorted((run / "void").glob("*.json")))
    return tuple(Finding(**each) for each in raw if isinstance(each, dict))


def is_void(run: Path, tree: Mapping[str, Any] | None) -> bool:
    """Return whether what was scored under a fingerprint is void. run: the run directory."""
    return tree is not None and digest_of_fingerprint(tree) in {finding.fingerprint for finding in findings(run)}


def digest_of_fingerprint(tree: Mapping[str, Any]) -> str:
    """Return one digest of a fingerprint."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
