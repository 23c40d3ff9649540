"""Mutated files of members, and mutated JSON of a run and of the cache: each is an answer, never a traceback."""

import contextlib
import json
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from hpcens.checks.member_process import try_members
from hpcens.checks.preflight import check
from hpcens.config.job import job_from
from hpcens.engine import discover
from hpcens.errors import HpcensError
from hpcens.files import unsealed
from hpcens.members import member_digests
from hpcens.specs import MemberSpec
from support.fuzzing import answer, kind_of, mutate
from support.member_files import as_onnx, exported, scripted

SECONDS = 10.0  # no candidate may take longer
TOGETHER = 50  # candidates of one process
KINDS = ("safetensors", "state dict", "torchscript", "exported", "onnx")


def seeds(folder: Path) -> dict[str, MemberSpec]:
    """Make a sound file of every kind; return the member of each."""
    import nets

    torch.manual_seed(7)
    module = nets.Linear().eval()
    x = torch.zeros(2, 3, 8, 8)
    save_file(module.state_dict(), folder / "a.safetensors")
    torch.save(module.state_dict(), folder / "a.pt")
    scripted(module, folder / "script.pt", x)
    exported(module, folder / "a.pt2", x)
    as_onnx(module, folder / "a.onnx")
    return {
        "safetensors": MemberSpec(name="seed", factory="nets:Linear", weights=folder / "a.safetensors"),
        "state dict": MemberSpec(name="seed", factory="nets:Linear", weights=folder / "a.pt"),
        "torchscript": MemberSpec(name="seed", torchscript=folder / "script.pt"),
        "exported": MemberSpec(name="seed", exported=folder / "a.pt2"),
        "onnx": MemberSpec(name="seed", onnx=folder / "a.onnx"),
    }


class MemberFuzz:
    """Mutants of one kind after another; `faults` says what went wrong.

    project  a sound one, whose dataset the mutants are tried on
    """

    def __init__(self, project) -> None:
        self.folder = project.folder
        self.job = job_from([str(project.dataset)], config=project.folder / "hpcens.yaml")
        self.preflight = check(self.job)
        self.device = discover(self.job.spec.devices)[0]
        self.seeds = seeds(self.folder)
        self.answers: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.longest = 0.0
        self.faults: list[str] = []

    def mutants(self, kind: str, numbers, seed: int) -> list[MemberSpec]:
        """Write mutants of this kind; return those whose digests could be taken, as preflight takes them."""
        member = self.seeds[kind]
        data = member.file.read_bytes()
        made = []
        for number in numbers:
            draw = random.Random(f"{seed} {kind} {number}")
            path = self.folder / f"{kind.replace(' ', '-')}-{number}{member.file.suffix}"
            path.write_bytes(mutate(data, draw))
            key = next(key for key in ("weights", "torchscript", "exported", "onnx") if getattr(member, key))
            mutant = replace(member, name=path.stem, **{key: path})
            try:
                member_digests(mutant, self.job.spec.search_path)
                made.append(mutant)
            except HpcensError as error:
                self._count(kind, str(error))
            except Exception as error:  # whatever it is, it is the finding
                self.faults.append(f"{mutant.name}: digests: {type(error).__name__}: {error}")
        return made

    def candidates(self, kind: str, numbers, seed: int) -> None:
        """Try mutants of this kind, as a start would."""
        numbers = list(numbers)
        mutants = self.mutants(kind, numbers, seed)
        job = replace(self.job, spec=replace(self.job.spec, members=tuple(mutants)))
        began = time.monotonic()
        first = True
        for name, outcome in try_members(job, self.preflight, mutants, self.device, SECONDS):
            took, began = time.monotonic() - began, time.monotonic()
            self.longest = self.longest if first else max(self.longest, took)  # the first waits for torch too
            first = False
            said = str(outcome) if isinstance(outcome, HpcensError) else ""
            self._count(kind, said)
            if "Traceback" in said or "within" in said or (said and "→" not in said):
                self.faults.append(f"{name}: {said[-300:]}")
        for path in self.folder.glob(f"{kind.replace(' ', '-')}-*"):
            path.unlink()

    def _count(self, kind: str, said: str) -> None:
        self.counts[kind] += 1
        self.answers[kind_of(said.partition(":")[2]) if said else "runs"] += 1


class JsonFuzz:
    """Mutants of the JSON that a finished project has left; verbs that read it answer."""

    def __init__(self, project) -> None:
        self.project = project
        epoch = project.run / "epochs" / "0001"
        cache = Path(project.environment["HPCENS_CACHE"])
        status = ("status", str(project.run))
        simulate = ("simulate", str(epoch / "plan.json"))
        self.files = dict.fromkeys((*project.run.glob("*.json"), *epoch.rglob("*.json")), status)
        self.files[epoch / "events.jsonl"] = status
        self.files[epoch / "plan.json"] = simulate
        self.files |= dict.fromkeys(cache.rglob("*.json"), ("profile", "--list"))
        self.codes: Counter[int] = Counter()
        self.faults: list[str] = []
        self.longest = 0.0

    def candidate(self, number: int, seed: int) -> None:
        draw = random.Random(f"{seed} {number}")
        path = draw.choice(sorted(self.files))
        before = path.read_bytes()
        whole = before
        with contextlib.suppress(ValueError):  # of every other one no checksum finds what is wrong
            whole = json.dumps(unsealed(before.decode())).encode() if number % 2 else before
        path.write_bytes(mutate(whole, draw))
        began = time.monotonic()
        try:
            code, said = answer(*self.files[path])
        except BaseException as error:  # whatever it is, it is the finding
            code, said = -1, f"Traceback: {type(error).__name__}: {error}"
        took = time.monotonic() - began
        self.longest = max(self.longest, took)
        self.codes[code] += 1
        if code not in (0, 2) or "Traceback" in said or took > SECONDS:
            kept = path.read_bytes()[:200]
            self.faults.append(f"{number} ({path.name}): code {code}, {took:.1f} s: {said.strip()[-300:]}: {kept!r}")
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        path.write_bytes(before)
