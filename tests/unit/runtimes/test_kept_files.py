"""Kept files: whatever happens to one, what is made of it gives the bytes it gave when it was prepared, or it is made
anew; never other predictions."""

import json
import os
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from hpcens.cache import shared_cache
from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.members.conversion import Conversion
from hpcens.members.forward import Forward
from hpcens.members.network import Network
from hpcens.members.preprocess import Preprocessing
from hpcens.profiling import ProfileBook
from hpcens.runtimes import kept_files
from hpcens.runtimes.recipe import Recipe
from hpcens.specs import MemberSpec, RunSpec
from hpcens.vocabulary import Profile, ProfileKey

BATCH = 4
ROWS = np.random.default_rng(1).random((BATCH, 6), np.float32)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x):
        return self.b(self.a(x).relu())


def made(folder, prepared=None):
    spec = MemberSpec(name="member", factory="x:y", weights=folder / "x", output="values")
    network = prepared or Network(Small().eval().requires_grad_(False))
    conversion = Conversion(spec, RunSpec(members=(spec,)), "values")
    given = {"inputs": (0,), "conversion": conversion, "prepared": prepared is not None}
    return Forward(spec, network, Preprocessing(spec, ["x"], folder), **given)


def run(folder, runtime):
    recipe = Recipe(partial(made, folder), runtime, CpuHardware(1), 1, (ROWS,), folder / "member", True)
    engine = Engine(CpuHardware(1))
    engine.host("member", recipe.make(BATCH), batch=BATCH)
    return engine.run("member", [torch.from_numpy(ROWS)])[0].tobytes()


def flip(path, place, bit):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture(scope="module", params=["frozen", "openvino"])
def prepared(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return folder, request.param, run(folder, request.param)


def test_a_flipped_bit_anywhere_is_found_and_said_once(prepared, capfd):
    folder, runtime, wanted = prepared
    draw = random.Random(5)
    for _ in range(4):
        for suffix in {path.suffix for path in folder.iterdir()}:
            [path] = folder.glob(f"*{suffix}")
            capfd.readouterr()
            flip(path, draw.randrange(path.stat().st_size), draw.randrange(8))
            assert run(folder, runtime) == wanted
            said = capfd.readouterr().err.count("prepared anew")
            assert said == 1 or (said == 0 and path.suffix == ".json"), path  # a format of another version is no fault
            assert run(folder, runtime) == wanted and capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"{}", b'{"format": 1, "files": 3}'])
def test_an_index_that_says_nothing_is_written_anew(prepared, content):
    folder, runtime, wanted = prepared
    [index] = folder.glob("*.json")
    index.write_bytes(content)
    assert run(folder, runtime) == wanted
    assert json.loads(index.read_text())["format"] == kept_files.FORMAT


def test_an_index_of_a_later_format_is_left_out(prepared, capfd):
    folder, runtime, wanted = prepared
    [index] = folder.glob("*.json")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"format": kept_files.FORMAT + 1}))
    assert run(folder, runtime) == wanted


def test_what_was_kept_without_a_digest_is_not_used(tmp_path, capfd):
    """Files of an earlier version, which had no digests: this one is damaged."""
    wanted = run(tmp_path, "frozen")
    [path] = tmp_path.glob("*.ts")
    content = path.read_bytes()
    for left in tmp_path.iterdir():
        left.unlink()
    named_then = tmp_path / f"member-{BATCH}.ts"
    named_then.write_bytes(content.replace(content[len(content) // 2 : len(content) // 2 + 1], b"\0"))
    capfd.readouterr()
    assert run(tmp_path, "frozen") == wanted
    assert "has no digest beside it" in capfd.readouterr().err and not named_then.exists()


def test_ranks_that_prepare_the_same_at_once_do_not_mix_their_files(tmp_path):
    """One is between its files and its index while the other writes its own, whose bytes differ."""
    files = (tmp_path / "m.xml", tmp_path / "m.bin")
    with kept_files.kept(files) as mine:
        mine.write_bytes(b"my graph")
        mine.with_suffix(".bin").write_bytes(b"my weights")
        with kept_files.kept(files) as theirs:
            theirs.write_bytes(b"their graph")
            theirs.with_suffix(".bin").write_bytes(b"their weights")
        assert [path.read_bytes() for path in kept_files.intact(files)] == [b"their graph", b"their weights"]
    assert [path.read_bytes() for path in kept_files.intact(files)] == [b"my graph", b"my weights"]
    assert len(list(tmp_path.iterdir())) == 3, "what the index does not name any more is removed"


def test_nothing_is_left_of_a_preparation_that_fails(tmp_path):
    def build():
        with kept_files.kept((tmp_path / "m.ts",)) as path:
            path.write_bytes(b"half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        build()
    assert list(tmp_path.iterdir()) == []


def keep(folder, name, size):
    with kept_files.kept((folder / f"{name}.ts",)) as path:
        path.write_bytes(name.encode() * size)


def test_what_was_not_used_for_longest_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("HPCENS_CACHE_SIZE", "2.5 KiB")
    for age, name in enumerate("abc"):
        keep(tmp_path, name, 600)
        os.utime(tmp_path / f"{name}.json", (1000 + age,) * 2)
    assert kept_files.intact((tmp_path / "a.ts",)), "used now"
    keep(tmp_path, "d", 600)
    assert [bool(kept_files.intact((tmp_path / f"{name}.ts",))) for name in "abcd"] == [True, False, True, True]
    keep(tmp_path, "e", 9000)
    assert [path.name for path in tmp_path.glob("*.json")] == ["e.json"], (
        "what is needed now is kept, whatever its size"
    )
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 20 << 30),
        ("50GiB", 50 << 30),
        ("1.5G", 3 << 29),
        ("1000", 1000),
        ("2 tib", 2 << 40),
        ("0", 0),
        ("x", 20 << 30),
    ],
)
def test_the_size_of_the_cache_is_as_it_is_written(monkeypatch, capfd, text, size):
    monkeypatch.setenv("HPCENS_CACHE_SIZE", text)
    assert kept_files.size_limit() == size
    assert ("no size as 50GiB" in capfd.readouterr().err) == (text == "x")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A cache of the site's, whose folders are not open to others."""
    monkeypatch.setenv("HPCENS_SHARED_CACHE", str(tmp_path / "site"))
    for name in ("site", "site/prepared", "site/profiles", "own", "own/prepared", "own/profiles"):
        (tmp_path / name).mkdir(mode=0o755)
    shared_cache.cache_clear()
    yield tmp_path / "site"
    shared_cache.cache_clear()


def test_what_a_site_has_prepared_is_taken_and_never_written_to(site, tmp_path, capfd):
    keep(site / "prepared", "a", 100)
    files = (tmp_path / "own" / "prepared" / "a.ts",)
    [found] = kept_files.intact(files)
    assert found.parent == site / "prepared" and list(files[0].parent.iterdir()) == []
    flip(found, 7, 1)
    assert kept_files.intact(files) is None
    assert "prepared anew" in capfd.readouterr().err and found.exists(), "it is the site's"
    keep(files[0].parent, "a", 50)
    assert kept_files.intact(files)[0].parent == files[0].parent, "one's own comes first"


def test_profiles_of_a_site_are_read_where_there_is_none_of_ones_own(site, tmp_path):
    key = ProfileKey("cpu", "m", "eager", "<f4[3]", "2.4")
    ProfileBook(site / "profiles").put(key, Profile(1, 2, 0.5, (4,)))
    book = ProfileBook(tmp_path / "own" / "profiles")
    assert book.get(key) == Profile(1, 2, 0.5, (4,))
    book.put(key, Profile(9, 2, 0.5, (4,)))
    assert book.get(key).weights == 9


def test_a_sites_cache_that_others_may_write_to_is_not_read(site, tmp_path, capfd):
    keep(site / "prepared", "a", 100)
    (site / "prepared").chmod(0o777)
    assert kept_files.intact((tmp_path / "own" / "prepared" / "a.ts",)) is None
    assert "HPCENS_SHARED_CACHE is not read" in capfd.readouterr().err
