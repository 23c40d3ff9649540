"""Trials: what members gave on the dataset's first rows. A trial that was passed is kept beside the profiles.

A second start tries nothing again that is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpcens import __version__
from hpcens.checks.findings import Preflight
from hpcens.files import cache_folder, write_atomically
from hpcens.members import common_axis, digest_of
from hpcens.result import torch_version
from hpcens.specs import MemberSpec, RunSpec
from hpcens.usercode.imported import Imported, is_of_imports


@dataclass(frozen=True, slots=True)
class Trial:
    """What a member gave.

    shape     of one row of its output, as the ensemble combines it
    warnings  what looks wrong but is no fault
    taken     what its output is taken to be, in words
    imported  what its code had imported once it had run
    """

    shape: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    taken: str = ""
    imported: Imported = field(default_factory=Imported)


class TrialBook:
    """A folder of trials that were passed, one file a key; several runs may read and write it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def default() -> TrialBook:
        """Return the book beside the profiles."""
        return TrialBook(cache_folder() / "trials")

    def get(self, key: str, search_path: Path) -> Trial | None:
        """Return the stored trial; None where there is none, the file is damaged, or imported code changed since."""
        try:
            trial = _trial(json.loads((self.folder / f"{key}.json").read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return trial if trial.imported.stands(search_path) else None

    def put(self, key: str, trial: Trial) -> None:
        """Keep a trial."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"{key}.json", json.dumps(asdict(trial)), durable=False)


def _trial(raw: Mapping[str, Any]) -> Trial:
    imported = Imported.from_json(raw["imported"])
    shape, warnings = tuple(map(int, raw["shape"])), tuple(map(str, raw["warnings"]))
    return Trial(shape, warnings, str(raw["taken"]), imported)


def member_key(member: MemberSpec, spec: RunSpec, preflight: Preflight) -> str:
    """Digest all that a member's trial depends on, but what its code imports: that is what a trial finds."""
    parts = (
        *(digest_of(_own(preflight.digests[member.name])), preflight.facts.row, ",".join(preflight.facts.names)),
        *(member.output, str(member.precision), preflight.space, torch_version(), __version__),
        json.dumps([spec.classes, member.class_axis, spec.class_axis, common_axis(spec), spec.task, spec.assumed]),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def rule_key(spec: RunSpec, preflight: Preflight, shape: tuple[int, ...]) -> str:
    """Digest all that the trial of a rule on outputs of this shape depends on."""
    names, dtype = spec.member_names, spec.combined_dtype
    parts = [asdict(spec.rule), _own(preflight.rule), names, shape, preflight.space, dtype, __version__]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


def _own(digests: Mapping[str, str]) -> dict[str, str]:
    return {key: digest for key, digest in digests.items() if not is_of_imports(key)}
