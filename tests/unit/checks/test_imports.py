"""Imported code: whatever a member's or a rule's code imports is part of what it is, wherever it lies."""

import os
import re
import subprocess
import sys
import textwrap
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
import yaml

from hpcens.checks import members as judging
from hpcens.checks import testbed
from hpcens.checks.members import tried
from hpcens.checks.preflight import check
from hpcens.checks.trials import TrialBook
from hpcens.config import load
from hpcens.errors import MemberError
from hpcens.profiling.needs import package_path
from hpcens.runtimes import host
from hpcens.specs import Job
from hpcens.vocabulary import Instance

LAYERS = """
import torch
class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(8, 4)
    def forward(self, x):
        from owncode import late
        return late.act(self.a(x))
"""


class Owned:
    """A job whose member's factory imports a package of its own, part of it in its forward."""

    def __init__(self, folder):
        self.folder = folder
        self.book = TrialBook(folder / "trials")
        self.write("models.py", "from owncode.layers import Block\ndef build():\n    return Block()\n")
        self.write("owncode/__init__.py", "")
        self.write("owncode/layers.py", LAYERS)
        self.write("owncode/late.py", "import torch\nact = torch.relu\n")
        self.write("rules_own.py", "import weighing\ndef rule(stack, names):\n    return weighing.mean(stack)\n")
        self.write("weighing.py", "def mean(stack):\n    return stack.mean(0)\n")
        self.write("prepares.py", "from scaling import by\ndef scale(x):\n    return x * by\n")
        self.write("scaling.py", "by = 2.0\n")
        torch.manual_seed(0)
        linear = torch.nn.Linear(8, 4)
        torch.save({f"a.{key}": value for key, value in linear.state_dict().items()}, folder / "net.pt")
        with h5py.File(folder / "data.h5", "w") as file:
            file["x"] = np.ones((5, 8), "f4")

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def job(self, member=None, **keys):
        whole = {"name": "m", "factory": "models:build", "weights": "net.pt", "output": "values"} | (member or {})
        tree = {"members": [whole], "devices": {"cpu": 1}, **keys}
        (self.folder / "hpcens.yaml").write_text(yaml.safe_dump(tree))
        spec = load(self.folder / "hpcens.yaml")
        return Job(datasets=(self.folder / "data.h5",), output=self.folder / "out.h5", spec=spec)

    def preflight(self, job):
        return tried(job, check(job, self.book), self.book)


@pytest.fixture
def owned(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield Owned(tmp_path)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"models", "owncode", "rules_own", "weighing", "prepares", "scaling", "shim"}:
            del sys.modules[name]


def no_trial(monkeypatch):
    monkeypatch.setattr(judging, "try_members", None)
    monkeypatch.setattr(judging, "try_rule", None)


def test_what_load_and_forward_import_is_listed_without_what_is_empty(owned):
    digests = owned.preflight(owned.job()).digests["m"]
    imports = {key for key in digests if key.startswith(("imports ", "library "))}
    assert imports == {"imports owncode.layers", "imports owncode.late"}
    assert "models" not in str(imports), "the factory's own module is under code already"


@pytest.mark.parametrize("file", ["owncode/layers.py", "owncode/late.py", "owncode/__init__.py"])
def test_a_changed_import_is_another_member_and_another_package(owned, file):
    job = owned.job()
    before = owned.preflight(job)
    owned.write(file, (owned.folder / file).read_text() + "\nchanged = 1\n")
    stale = check(job, owned.book)
    assert stale.unseen == ("m",), "the kept list no longer stands"
    after = owned.preflight(job)
    assert after.digests != before.digests
    member = job.spec.members[0]
    assert package_path(before, "cpu", member, "frozen") != package_path(after, "cpu", member, "frozen")


def test_a_list_that_stands_is_digested_again_and_imports_nothing(owned, monkeypatch):
    job = owned.job()
    before = owned.preflight(job)
    no_trial(monkeypatch)
    assert owned.preflight(job) == before
    code = f"""
        import sys
        from pathlib import Path
        from hpcens.checks.preflight import check
        from hpcens.checks.trials import TrialBook
        from hpcens.config import load
        from hpcens.specs import Job
        folder = Path({str(owned.folder)!r})
        job = Job(datasets=(folder / "data.h5",), output=folder / "out.h5", spec=load(folder / "hpcens.yaml"))
        assert check(job, TrialBook(folder / "trials")).unseen == ()
        sys.exit(bool({{"torch", "models", "owncode"}} & set(sys.modules)))
    """
    monkeypatch.undo()
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_module_that_would_now_be_imported_instead_makes_the_list_stale(owned):
    job = owned.job()
    owned.preflight(job)
    owned.write("owncode/late/__init__.py", "import torch\nact = torch.sigmoid\n")
    assert check(job, owned.book).unseen == ("m",)


def test_a_preprocessing_step_and_a_rule_count_what_they_import(owned):
    preprocess = {"preprocess": [{"call": "prepares:scale"}]}
    job = owned.job(preprocess, rule="rules_own:rule")
    before = owned.preflight(job)
    assert "imports scaling" in before.digests["m"] and "imports weighing" in before.rule
    owned.write("weighing.py", "def mean(stack):\n    return stack.max(0)\n")
    assert check(job, owned.book).unseen == ("/rule",)
    after = owned.preflight(job)
    assert after.rule != before.rule and after.digests == before.digests
    owned.write("scaling.py", "by = 3.0\n")
    assert owned.preflight(job).digests != before.digests


def test_members_are_told_apart_by_what_their_own_code_imports(owned):
    owned.write("plain.py", "import torch\ndef build():\n    return torch.nn.Linear(8, 4)\n")
    torch.save(torch.nn.Linear(8, 4).state_dict(), owned.folder / "plain.pt")
    job = owned.job()
    (owned.folder / "hpcens.yaml").write_text(
        yaml.safe_dump(
            {
                "members": [
                    {"name": "m", "factory": "models:build", "weights": "net.pt", "output": "values"},
                    {"name": "p", "factory": "plain:build", "weights": "plain.pt", "output": "values"},
                ]
            }
        )
    )
    both = replace(job, spec=load(owned.folder / "hpcens.yaml"))
    preflight = owned.preflight(both)
    assert not any(key.startswith("imports ") for key in preflight.digests["p"])
    assert any(key.startswith("imports ") for key in preflight.digests["m"])


def test_a_tree_without_further_files_is_that_of_format_1(owned):
    owned.write(
        "models.py", LAYERS.replace("from owncode import late", "import torch").replace("late.act", "torch.relu")
    )
    digests = owned.preflight(owned.job({"factory": "models:Block"})).digests["m"]
    assert set(digests) == {"source", "weights", "code", "factory", "arguments"}


def test_ranks_refuse_code_that_was_not_tried(owned):
    from hpcens.engine import CpuHardware, Engine

    job = owned.job()
    preflight = owned.preflight(job)

    def hosted(package=owned.folder / "package"):
        host(
            Engine(CpuHardware(1)),
            [Instance("cpu0", "m", 4, "eager", 1.0, 1.0)],
            spec=job.spec,
            inputs=preflight.facts.names,
            space=preflight.space,
            digests=preflight.digests,
            cores=1,
            rows=(np.ones((4, 8), "f4"),),
            package=lambda member, runtime, group: package,
        )
        for name in ("models", "owncode", "owncode.layers", "owncode.late", "shim"):
            sys.modules.pop(name, None)

    hosted()
    owned.write("owncode/layers.py", LAYERS.replace("8, 4", "8, 4, True"))
    with pytest.raises(MemberError, match=r"member m: .*layers.py was imported as owncode.layers, which is another"):
        hosted()
    for name in ("models", "owncode", "owncode.layers", "owncode.late"):
        sys.modules.pop(name, None)
    owned.write("shim.py", "x = 1\n")
    owned.write("owncode/layers.py", LAYERS)
    owned.write("owncode/__init__.py", "import shim\n")
    with pytest.raises(MemberError, match=r"shim.py was imported as shim, which is new|which is another"):
        hosted()


def test_a_library_counts_by_its_version(owned, tmp_path, monkeypatch):
    place = tmp_path / "site-packages"
    (place / "blocks").mkdir(parents=True)
    (place / "blocks" / "__init__.py").write_text("width = 4\n")
    info = place / "blocks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blocks\nVersion: 1.0\n")
    (info / "RECORD").write_text("blocks/__init__.py,,\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), *sys.path]))
    monkeypatch.syspath_prepend(str(place))
    owned.write("models.py", "import blocks\nfrom owncode.layers import Block\ndef build():\n    return Block()\n")
    job = owned.job()
    digests = owned.preflight(job).digests["m"]
    assert digests["library blocks"] == "1.0" and not any("numpy" in key or "torch" in key for key in digests)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blocks\nVersion: 1.1\n")
    assert check(job, owned.book).unseen == ("m",)
    assert owned.preflight(job).digests["m"]["library blocks"] == "1.1"


def test_where_no_device_is_nothing_is_tried(owned, monkeypatch):
    job = owned.job()
    monkeypatch.setattr(testbed, "discover", lambda wanted: ())
    no_trial(monkeypatch)
    assert owned.preflight(job).unseen == ("m",)


def test_a_damaged_list_is_none(owned):
    owned.preflight(owned.job())
    [file] = owned.book.folder.iterdir()
    file.write_text(re.sub(r'"files": \{', '"files": {"x": 3, ', file.read_text()))
    assert check(owned.job(), owned.book).unseen == ("m",)


def test_weights_of_a_factory_are_told_by_its_trial_and_kept(owned, monkeypatch):
    owned.write("models.py", "import torch\ndef build():\n    torch.manual_seed(0)\n    return torch.nn.Linear(8, 4)\n")
    job = owned.job({"weights": "factory"})
    digests = owned.preflight(job).digests["m"]
    assert digests["weights"] == "factory" and len(digests["state"]) == 64
    no_trial(monkeypatch)
    assert owned.preflight(job).digests["m"] == digests


def test_a_file_that_code_opens_is_part_of_the_member(owned):
    owned.write("scaler.npz", "1")
    job = owned.job({"files": ["scaler.npz"]})
    before = owned.preflight(job)
    assert "file scaler.npz" in before.digests["m"]
    owned.write("scaler.npz", "2")
    assert owned.preflight(job).digests["m"] != before.digests["m"]
    (owned.folder / "scaler.npz").unlink()
    with pytest.raises(MemberError, match=r"member m: files .*scaler.npz: No such file"):
        check(job, owned.book)


def test_a_cache_that_cannot_be_written_hides_nothing(owned):
    owned.book.folder.write_text("a file, where a folder is to be")
    preflight = owned.preflight(owned.job())
    assert preflight.unseen == () and "imports owncode.layers" in preflight.digests["m"]
