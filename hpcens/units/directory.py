"""Keep the list, the claims and the worlds of many units in one directory, beside the folder of their results."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hpcens.errors import UsageError
from hpcens.files import checked, claim_folder, make_first, read_as, sealed, sync_folder, write_atomically
from hpcens.ownership import PRIVATE, READABLE, own_folder
from hpcens.runs import RunDirectory
from hpcens.units.claims import Attempt, Kind, Outcome, Standing, attempts_of, standing_of
from hpcens.units.listing import UnitList
from hpcens.units.worlds import load_world


@dataclass(frozen=True, slots=True)
class Round:
    """One command that scores units.

    submitted  seconds since 1970
    jobs       ids of Slurm's job arrays; none where it runs without
    folder     of their logs; empty without
    worlds     how many it asked for
    """

    id: str
    submitted: float
    jobs: tuple[str, ...] = ()
    folder: str = ""
    worlds: int = 1

    @staticmethod
    def new() -> Round:
        """Begin another."""
        return Round(secrets.token_hex(4), time.time())


class UnitsDirectory:
    """The directory of the units whose results lie in a folder.

    path    FOLDER.run
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Attempt → what was read of it: neither a claim nor what came of it ever changes.
        self._claimed: dict[str, tuple[str, str, float]] = {}
        self._outcomes: dict[str, Outcome] = {}

    @staticmethod
    def of(folder: Path) -> UnitsDirectory:
        """Return the directory of the runs whose results lie in a folder: beside it, as FOLDER.run."""
        return UnitsDirectory(folder.with_name(f"{folder.name}.run"))

    @property
    def worlds(self) -> Path:
        """The folder of the worlds that have worked on the files."""
        return self.path / "worlds"

    @property
    def cancel(self) -> Path:
        """The file by which all worlds are asked to end."""
        return self.path / "cancel"

    @property
    def _claims(self) -> Path:
        return self.path / "claims"

    def make(self) -> None:
        """Make the directory, or see that it is one's own. Raises UsageError where it is another's."""
        own_folder(self.path, READABLE, "choose another output.folder")
        for name in ("lists", "rounds", "worlds", "claims"):
            own_folder(self.path / name, READABLE, "choose another output.folder")

    def retire(self) -> None:
        """Take all claims away, and the list: what several worlds have shared is whole.

        Each at once: of claims that go one by one, others would be free.
        """
        for folder in (self._claims, self.path / "lists"):
            with contextlib.suppress(OSError):  # another world was as quick
                folder.rename(self.path / f".retired.{secrets.token_hex(4)}")
        for folder in self.path.glob(".retired.*"):
            shutil.rmtree(folder, ignore_errors=True)

    def private(self, name: str) -> Path:
        """Make a folder of this user's alone in it. Raises UsageError where it is another's."""
        own_folder(self.path / name, PRIVATE, "choose another output.folder")
        return self.path / name

    @property
    def newest_list(self) -> UnitList | None:
        """The newest list; None where there is none. Raises UsageError where it is damaged."""
        names = [path for path in (self.path / "lists").glob("*.json") if path.stem.isdigit()]
        if not names:
            return None
        newest = max(names, key=lambda path: int(path.stem))
        found = read_as(newest, lambda raw: UnitList.from_json(raw, int(newest.stem)))
        if found is None and not newest.exists():  # taken away meanwhile
            return self.newest_list
        if found is None:
            raise UsageError(
                f"{newest} is damaged, or of a later version", "move it away, and run the same command again"
            )
        return found

    def keep(self, units: UnitList, *, after: int | None = None) -> UnitList:
        """Make this the newest list, unless it says what the newest one says; return the newest, with its number.

        after  only if this number is the newest list's: what other worlds have listed since stands
        """
        while True:
            newest = self.newest_list
            if newest is not None and (units.same_as(newest) or after not in (None, newest.number)):
                return newest
            numbered = replace(units, number=newest.number + 1 if newest else 1)
            path = self.path / "lists" / f"{numbered.number:04d}.json"
            draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            write_atomically(draft, sealed(numbered.to_json(), indent=None))
            try:
                make_first(path, draft)
            except FileExistsError:
                continue
            sync_folder(path.parent)
            return numbered

    def keep_round(self, own: Round) -> None:
        """Write what is known of a round."""
        write_atomically(self.path / "rounds" / f"{own.id}.json", sealed(json.dumps({"format": 1} | asdict(own))))

    def rounds(self) -> list[Round]:
        """Return all rounds, the oldest first."""
        found = (read_as(path, _round) for path in (self.path / "rounds").glob("[0-9a-f]*.json"))
        return sorted((own for own in found if own is not None), key=lambda own: own.submitted)

    def refuse(self, round_id: str, why: str) -> None:
        """Leave word that a world of a round was refused. why: with what to do, in words."""
        write_atomically(self.path / "rounds" / f"{round_id}.refused", sealed(json.dumps({"why": why})))

    def refusal(self) -> str:
        """Return why a world of the newest round was refused; empty where none was."""
        own = self.rounds()[-1:]
        found = read_as(self.path / "rounds" / f"{own[0].id}.refused", lambda raw: str(raw["why"])) if own else None
        return found or ""

    def attempts(self) -> dict[str, tuple[Attempt, ...]]:
        """Return unit → attempts at it, in one look at one folder."""
        folder = self._claims
        return attempts_of(entry.name for entry in folder.iterdir()) if folder.is_dir() else {}

    def standings(self, units: UnitList, round_id: str | None = None) -> dict[str, Standing]:
        """Return unit → how it stands.

        round_id  count what failed in this round alone; None: whatever failed last
        """
        attempts = self.attempts()
        found = {}
        for unit in units.units:
            own = attempts.get(unit.key, ())
            failed = None if round_id is None else self._failed_in(round_id, own)
            found[unit.key] = standing_of(own, failed)
        return found

    def _failed_in(self, round_id: str, attempts: Collection[Attempt]) -> set[str]:
        failed = (attempt for attempt in attempts if attempt.kind == "failed")
        return {attempt.name for attempt in failed if self.claimant(attempt)[1] == round_id}

    def claim(self, attempt: Attempt, world: str, round_id: str) -> bool:
        """Claim an attempt; return whether it was this call that did."""
        text = json.dumps({"world": world, "round": round_id, "began": time.time()})
        return claim_folder(self._claims / attempt.name, {"claim.json": sealed(text)})

    def claimant(self, attempt: Attempt) -> tuple[str, str]:
        """Return the world and the round that claimed an attempt; empty where that cannot be read."""
        return self._read_claim(attempt)[:2]

    def began(self, attempt: Attempt) -> float:
        """Return when an attempt was claimed, in seconds since 1970; 0 where that cannot be read."""
        return self._read_claim(attempt)[2]

    def _read_claim(self, attempt: Attempt) -> tuple[str, str, float]:
        if attempt.name not in self._claimed:
            path = self._claims / attempt.name / "claim.json"
            found = read_as(path, lambda raw: (str(raw["world"]), str(raw["round"]), float(raw["began"])))
            if found is None:
                return "", "", 0.0
            self._claimed[attempt.name] = found
        return self._claimed[attempt.name]

    def settle(self, attempt: Attempt, kind: Kind, outcome: Outcome) -> None:
        """State what came of an attempt, once; only the world that claimed it does."""
        path = self._claims / f"{attempt.name}.{kind}"
        draft = self._claims / f".{path.name}.{secrets.token_hex(4)}"
        write_atomically(draft, sealed(json.dumps(asdict(outcome))))
        with contextlib.suppress(FileExistsError):
            make_first(path, draft)
        sync_folder(self._claims)

    def outcome(self, attempt: Attempt) -> Outcome | None:
        """Return what came of an attempt; None where it goes on, or that cannot be read."""
        if attempt.kind is None:
            return None
        name = f"{attempt.name}.{attempt.kind}"
        if name not in self._outcomes:
            found = read_as(self._claims / name, lambda raw: checked(Outcome(**raw)))
            if found is None:
                return None
            self._outcomes[name] = found
        return self._outcomes[name]

    def world_folders(self) -> Iterator[tuple[str, Path]]:
        """Yield worlds: the id of each, and its folder."""
        for path in self.worlds.glob("[0-9a-f]*"):
            if load_world(path) is not None:
                yield path.name, path


def _round(raw: Mapping[str, Any]) -> Round:
    fields = {key: raw[key] for key in ("id", "submitted", "folder", "worlds")}
    return checked(Round(**fields, jobs=tuple(map(str, raw["jobs"]))))


def units_at(path: Path) -> UnitsDirectory | None:
    """Return the directory of units meant by a path; None: there is none.

    path  its own; or that of the folder of results, or of the one result that worlds share
    """
    named = path if path.name not in ("", "..") else path.resolve()
    for directory in (UnitsDirectory(path), *([UnitsDirectory.of(named)] if named.name else [])):
        if (directory.path / "lists").is_dir():
            return directory
    if not named.suffix or named.suffix == ".run":
        return None
    shared = UnitsDirectory(RunDirectory.of(named).path)
    units = shared.newest_list
    return shared if units is not None and Path(units.whole).name == named.name else None
