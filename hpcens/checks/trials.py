"""Trials: what members gave on the dataset's first rows. A trial that was passed is kept beside the profiles.

A second start tries nothing again that is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcens import __version__
from hpcens.checks.preflight import Preflight
from hpcens.files import cache_folder, write_atomically
from hpcens.members import digest_of
from hpcens.result import torch_version
from hpcens.specs import MemberSpec, RunSpec


@dataclass(frozen=True, slots=True)
class Trial:
    """What a member gave: the shape of one row of its output, and what looks wrong but is no fault."""

    shape: tuple[int, ...]
    warnings: tuple[str, ...] = ()


class TrialBook:
    """A folder of trials that were passed, one file a key; several runs may read and write it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def default() -> TrialBook:
        """Return the book beside the profiles."""
        return TrialBook(cache_folder() / "trials")

    def get(self, key: str) -> Trial | None:
        """Return the stored trial; None where there is none or the file is damaged."""
        try:
            return _trial(json.loads((self.folder / f"{key}.json").read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, trial: Trial) -> None:
        """Keep a trial."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"{key}.json", json.dumps(asdict(trial)), durable=False)


def _trial(raw: Mapping[str, Any]) -> Trial:
    return Trial(tuple(map(int, raw["shape"])), tuple(map(str, raw["warnings"])))


def member_key(member: MemberSpec, spec: RunSpec, preflight: Preflight) -> str:
    """Digest all that a member's trial depends on."""
    parts = (
        *(digest_of(dict(preflight.digests[member.name])), preflight.facts.row, ",".join(preflight.facts.names)),
        *(member.output, str(member.precision), preflight.space, torch_version(), __version__),
        json.dumps(spec.classes),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def rule_key(spec: RunSpec, preflight: Preflight, shape: tuple[int, ...]) -> str:
    """Digest all that the trial of a rule on outputs of this shape depends on."""
    parts = [asdict(spec.rule), dict(preflight.rule), spec.member_names, shape, preflight.space, __version__]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]
