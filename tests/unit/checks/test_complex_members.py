"""Complex members: what earlier code made of them is told from what is made now, whatever file they come from."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from support import precise
from support.member_files import X, exported, traced
from support.precise import seeded

from hpcens.checks.members import tried
from hpcens.checks.preflight import check
from hpcens.checks.trials import TrialBook
from hpcens.config import load
from hpcens.errors import FingerprintMismatch
from hpcens.members import COMPLEX
from hpcens.members.complex_files import holds_complex
from hpcens.result import differences, make_fingerprint, require_same
from hpcens.specs import Job
from hpcens.vocabulary import MemberNumerics, Numerics


@pytest.mark.parametrize(("network", "complex_numbers"), [("Spectral", True), ("Rotary", True), ("Single", False)])
@pytest.mark.parametrize("save", [traced, exported])
def test_a_graph_tells_it_by_its_file(tmp_path, save, network, complex_numbers):
    if (network, save) == ("Spectral", exported) and torch.__version__.startswith("2.6."):
        pytest.skip("torch 2.6 cannot export a Fourier transform")
    save(seeded(getattr(precise, network)), tmp_path / "m.pt2", X)
    assert holds_complex(tmp_path / "m.pt2") == complex_numbers
    (tmp_path / "m.pt2").write_bytes(b"PK nothing of the kind")
    assert not holds_complex(tmp_path / "m.pt2") and not holds_complex(tmp_path / "gone")


@pytest.mark.parametrize(("network", "marked"), [("Spectral", True), ("Rotary", True), ("Single", False)])
def test_a_factory_tells_it_once_it_was_tried(project, network, marked):
    folder, book = project.folder, TrialBook(project.folder / "trials")
    shutil.copy(Path(precise.__file__), folder / "networks.py")
    torch.save(seeded(getattr(precise, network)).state_dict(), folder / "m.pt")
    member = {"name": "m", "factory": f"networks:{network}", "weights": "m.pt", "output": "values"}
    (folder / "hpcens.yaml").write_text(yaml.safe_dump({"members": [member], "devices": {"cpu": 1}}))
    spec = load(folder / "hpcens.yaml")
    job = Job(datasets=(project.dataset,), output=project.output, spec=spec)
    first = check(job, book)
    assert COMPLEX not in first.digests["m"]
    after = tried(job, first, book)
    assert after.digests["m"].get(COMPLEX) == ("kept" if marked else None)
    assert check(job, book).digests == after.digests, "the trial is kept"
    numerics = Numerics(16, {"m": MemberNumerics(8, "eager")}, ("cpu",), "2")
    earlier, now = (
        make_fingerprint(spec, data={}, members=of.digests, rule={}, space="values", numerics=numerics)
        for of in (first, after)
    )
    assert bool(list(differences(earlier, now))) == marked
    if marked:
        with pytest.raises(FingerprintMismatch, match=r"members\.m\.complex numbers: absent then, kept now"):
            require_same(earlier, now, "out.h5")
