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
from hpcens.cache import cache_folder, keep_in_cache
from hpcens.checks.findings import Preflight
from hpcens.checks.steadiness import Steadiness
from hpcens.engine import first_family
from hpcens.files import MALFORMED
from hpcens.members import COMPLEX, STATE, common_axis, digest_of
from hpcens.result import torch_version
from hpcens.specs import MemberSpec, RunSpec
from hpcens.usercode.imported import Imported, is_of_imports
from hpcens.vocabulary import Family


@dataclass(frozen=True, slots=True)
class Trial:
    """What a member gave.

    shape       of one row of its output, as the ensemble combines it
    warnings    what looks wrong but is no fault
    imported    what its code had imported once it had run
    taken       what its output is taken to be, in words
    state       digest of the weights that its factory loads; empty for others
    steadiness  how far its outputs for the same row lie apart
    complex     whether it has complex parameters or buffers
    family      of the device on which it was tried
    """

    shape: tuple[int, ...]
    warnings: tuple[str, ...] = ()
    imported: Imported = field(default_factory=Imported)
    taken: str = ""
    state: str = ""
    steadiness: Steadiness = field(default_factory=Steadiness)
    complex: bool = False
    family: Family = "cpu"


class TrialBook:
    """A folder of trials that were passed, one file a key; several runs may read and write it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._passed: dict[str, Trial] = {}

    @staticmethod
    def default() -> TrialBook:
        """Return the book beside the profiles."""
        return TrialBook(cache_folder() / "trials")

    def get(self, key: str, search_path: Path) -> Trial | None:
        """Return the stored trial; None where there is none, the file is damaged, or imported code changed since."""
        trial = self._passed.get(key) or self._kept(key)
        return trial if trial is not None and trial.imported.stands(search_path) else None

    def _kept(self, key: str) -> Trial | None:
        try:
            return _trial(json.loads((self.folder / f"{key}.json").read_text()))
        except (OSError, *MALFORMED):
            return None

    def put(self, key: str, trial: Trial) -> None:
        """Keep a trial; where the cache cannot be written, as long as this book is there."""
        if not keep_in_cache(self.folder / f"{key}.json", json.dumps(asdict(trial))):
            self._passed[key] = trial


def _trial(raw: Mapping[str, Any]) -> Trial:
    return Trial(
        tuple(map(int, raw["shape"])),
        tuple(map(str, raw["warnings"])),
        imported=Imported.from_json(raw["imported"]),
        taken=str(raw["taken"]),
        state=str(raw["state"]),
        steadiness=Steadiness(**raw["steadiness"]),
        complex=bool(raw["complex"]),
        family="cuda" if raw.get("family") == "cuda" else "cpu",
    )


def member_key(member: MemberSpec, spec: RunSpec, preflight: Preflight) -> str:
    """Digest all that a member's trial depends on, but what a trial finds: what its code imports."""
    parts: tuple[str, ...] = (
        *(digest_of(_own(preflight.digests[member.name])), preflight.facts.row, ",".join(preflight.facts.names)),
        *(member.output, str(member.precision), preflight.space, torch_version(), __version__),
        json.dumps([spec.classes, member.class_axis, spec.class_axis, common_axis(spec), spec.task, spec.assumed]),
    )
    # networks may work on one family and not on the other: files have devices baked in
    family = first_family(spec.devices)
    parts += () if family == "cpu" else (family,)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def rule_key(spec: RunSpec, preflight: Preflight, shape: tuple[int, ...]) -> str:
    """Digest all that the trial of a rule on outputs of this shape depends on."""
    names, dtype = spec.member_names, spec.combined_dtype
    parts = [asdict(spec.rule), _own(preflight.rule), names, shape, preflight.space, dtype, __version__]
    sets = spec.sets(preflight.facts.sets)
    parts += [sets] if sets else []
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


def _own(digests: Mapping[str, str]) -> dict[str, str]:
    return {key: digest for key, digest in digests.items() if not is_found(key)}


def is_found(key: str) -> bool:
    """Tell whether a digest is of what only a trial can tell."""
    return key in (STATE, COMPLEX) or is_of_imports(key)
