"""Rows from other files: each is found as HDF5 finds it, refused where it is absent, noticed where it changes."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcens.dataset.columns import Columns
from hpcens.dataset.extents import Blocks, Extents
from hpcens.dataset.hdf5 import only_dataset
from hpcens.dataset.source import Source
from hpcens.dataset.table import Plain
from hpcens.errors import DataError, HpcensError
from hpcens.specs import DatasetSpec, SelectSpec

UNLIMITED = h5py.h5s.UNLIMITED
ROWS = 10  # of each part
PARTS = 4


def write(path, values, name="x", **how):
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=values, **how)
    return path


def part(number, rows=ROWS):
    return np.arange(3 * rows, dtype="f4").reshape(rows, 3) + 1 + 100 * number


def parts(folder, pattern="part-{}.h5", **how):
    folder.mkdir(exist_ok=True)
    return [write(folder / pattern.format(i), part(i), **how) for i in range(PARTS)]


WHOLE = np.concatenate([part(i) for i in range(PARTS)])


def virtual(path, names, name="x", rows=ROWS, source="x"):
    """One file after another, `rows` rows of each."""
    layout = h5py.VirtualLayout((rows * len(names), 3), "f4")
    for i, part_name in enumerate(names):
        layout[rows * i : rows * (i + 1)] = h5py.VirtualSource(str(part_name), source, (rows, 3))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset(name, layout)
    return path


def numbered(path, file, dataset="x", rows=ROWS):
    """Blocks of rows by number, as `%b` names them."""
    space = h5py.h5s.create_simple((0, 3), (UNLIMITED, 3))
    space.select_hyperslab((0, 0), (UNLIMITED, 1), (rows, 1), (rows, 3))
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_virtual(space, file.encode(), dataset.encode(), h5py.h5s.create_simple((rows, 3)))
    with h5py.File(path, "a") as made:
        empty = h5py.h5s.create_simple((0, 3), (UNLIMITED, 3))
        h5py.h5d.create(made.id, b"x", h5py.h5t.IEEE_F32LE, empty, how)
    return path


@contextlib.contextmanager
def opened(*paths, **spec):
    source = Source([Path(path) for path in paths], DatasetSpec(**({"input": "x"} | spec)))
    try:
        yield source
    finally:
        source.close()


def identity(*paths, **spec):
    with opened(*paths, **spec) as source:
        return source.facts().identity


def sources_of(path, **spec):
    """The names of the files that the identity holds beside the dataset's own."""
    facts = identity(path, **spec)["files"]["1"]
    return [text.partition(",")[0] for key, text in facts.items() if key.startswith("source")]


KINDS = {
    "virtual": lambda folder: virtual(folder / "d.h5", [f"part-{i}.h5" for i in range(PARTS)]),
    "numbered": lambda folder: numbered(folder / "d.h5", "part-%b.h5"),
}


class TestAbsent:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("select", [None, SelectSpec(start=0, stop=5)])
    def test_a_virtual_source_that_is_not_there_is_refused_and_named(self, tmp_path, kind, select):
        files = parts(tmp_path)
        path = KINDS[kind](tmp_path)
        assert sources_of(path) == [file.name for file in files]
        files[2].unlink()
        with pytest.raises(DataError, match=r"x in part-2\.h5.*not there|part-2\.h5, which is not there") as caught:
            identity(path, select=select)
        assert "copy" in caught.value.remedy

    @pytest.mark.parametrize(
        "damage", ["folder", "text", "truncated", "empty", "another dataset", "a group", "short", "pipe"]
    )
    def test_a_virtual_source_that_cannot_be_read_is_refused_and_named(self, tmp_path, damage):
        source = parts(tmp_path)[1]
        path = virtual(tmp_path / "d.h5", [f"part-{i}.h5" for i in range(PARTS)])
        whole = source.read_bytes()
        source.unlink()
        if damage == "folder":
            source.mkdir()
        elif damage == "pipe":
            os.mkfifo(source)
        elif damage in ("another dataset", "a group", "short"):
            with h5py.File(source, "w") as file:
                if damage == "another dataset":
                    file["y"] = part(1)
                elif damage == "a group":
                    file["x/y"] = part(1)
                else:
                    file["x"] = part(1)[:7]
        else:
            source.write_bytes({"text": b"no", "truncated": whole[:-100], "empty": b""}[damage])
        with pytest.raises(DataError, match=r"part-1\.h5"):
            identity(path)

    def test_rows_that_no_source_covers_are_filled_as_meant(self, tmp_path):
        parts(tmp_path)
        layout = h5py.VirtualLayout((25, 3), "f4")
        layout[5:15] = h5py.VirtualSource("part-0.h5", "x", (ROWS, 3))
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file.create_virtual_dataset("x", layout, fillvalue=-1)
        wanted = np.full((25, 3), -1, "f4")
        wanted[5:15] = part(0)
        with opened(tmp_path / "d.h5") as source:
            source.facts()
            assert (source.head(25)[0] == wanted).all()

    @pytest.mark.parametrize("use", ["select", "columns"])
    def test_a_virtual_mask_or_column_without_its_source_is_refused(self, tmp_path, use):
        write(tmp_path / "d.h5", part(0))
        write(tmp_path / "other.h5", np.ones(ROWS, bool))
        layout = h5py.VirtualLayout((ROWS,), "?")
        layout[:] = h5py.VirtualSource("other.h5", "x", (ROWS,))
        with h5py.File(tmp_path / "d.h5", "a") as file:
            file.create_virtual_dataset("marks", layout)
        spec = {"select": SelectSpec(path="marks")} if use == "select" else {"columns": ("marks",)}
        assert sources_of(tmp_path / "d.h5", **spec) == ["other.h5"]
        (tmp_path / "other.h5").unlink()
        with pytest.raises(DataError, match=r"other\.h5, which is not there"):
            identity(tmp_path / "d.h5", **spec)

    def test_a_source_behind_another_is_refused_and_named(self, tmp_path):
        files = parts(tmp_path / "deep")
        virtual(tmp_path / "deep" / "middle.h5", [file.name for file in files])
        virtual(tmp_path / "d.h5", ["deep/middle.h5"], rows=PARTS * ROWS)
        assert sorted(sources_of(tmp_path / "d.h5")) == ["middle.h5", *(file.name for file in files)]
        files[3].unlink()
        with pytest.raises(
            DataError, match=r"middle\.h5: /x: rows 30–39 come from x in part-3\.h5, which is not there"
        ):
            identity(tmp_path / "d.h5")

    def test_a_virtual_dataset_that_is_its_own_source_ends(self, tmp_path):
        virtual(tmp_path / "d.h5", ["e.h5"])
        virtual(tmp_path / "e.h5", ["d.h5"])
        with pytest.raises(DataError, match="one behind another"):
            identity(tmp_path / "d.h5")

    @pytest.mark.parametrize("held", [None, 100])
    def test_external_storage_that_is_not_whole_is_refused_and_named(self, tmp_path, held):
        with h5py.File(tmp_path / "d.h5", "w") as file:
            storage = [(str(tmp_path / f"{i}.raw"), 0, 120) for i in range(4)]
            file.create_dataset("x", data=WHOLE, external=storage)
        assert sources_of(tmp_path / "d.h5") == [f"{i}.raw" for i in range(4)]
        (tmp_path / "2.raw").unlink() if held is None else os.truncate(tmp_path / "2.raw", held)
        with pytest.raises(DataError, match=r"rows 20–29 are stored in .*2\.raw, which (is not there|has 100 bytes)"):
            identity(tmp_path / "d.h5")

    @pytest.mark.parametrize("way", ["absolute", "up", "link", "folder link", "working folder", "behind virtual"])
    @pytest.mark.parametrize("use", ["input", "columns", "select"])
    def test_external_storage_outside_the_folder_is_refused_unless_trusted(self, tmp_path, monkeypatch, way, use):
        home, away = tmp_path / "home", tmp_path / "away"
        for folder in (home, away):
            folder.mkdir()
        (away / "secret").write_bytes(bytes([1, 0] * 5))
        (home / "link").symlink_to(away / "secret")
        (home / "folder").symlink_to(away)
        monkeypatch.chdir(away if way == "working folder" else home)
        name = {"up": "../away/secret", "link": "link", "folder link": "folder/secret", "working folder": "secret"}
        with h5py.File(home / "d.h5", "w") as file:
            file["x"] = part(0)
            space = h5py.h5s.create_simple((ROWS,))
            how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            how.set_external(name.get(way, str(away / "secret")).encode(), 0, ROWS)
            kind = h5py.h5t.py_create(np.dtype(bool), logical=True) if use == "select" else h5py.h5t.NATIVE_UINT8
            h5py.h5d.create(file.id, b"raw", kind, space, how)
        if way == "behind virtual":
            (home / "d.h5").rename(home / "raw.h5")
            layout = h5py.VirtualLayout((ROWS,), "?" if use == "select" else "u1")
            layout[:] = h5py.VirtualSource("raw.h5", "raw", (ROWS,))
            with h5py.File(home / "d.h5", "w") as file:
                file["x"] = part(0)
                file.create_virtual_dataset("raw", layout)
        spec = {
            "input": {"input": "raw"},
            "columns": {"columns": ("raw",)},
            "select": {"select": SelectSpec(path="raw")},
        }
        with pytest.raises(DataError, match=r"raw is stored in \S+(secret|link), outside the folder") as caught:
            identity(home / "d.h5", **spec[use])
        assert "dataset.trust: [file_access]" in caught.value.remedy
        assert identity(home / "d.h5", trust=("file_access",), **spec[use])["files"]["1"]["rows"] == ROWS

    def test_external_storage_that_the_users_own_prefix_leads_to_is_taken(self, tmp_path):
        (tmp_path / "away").mkdir()
        (tmp_path / "home").mkdir()
        (tmp_path / "away" / "raw").write_bytes(part(0).tobytes())
        with h5py.File(tmp_path / "home" / "d.h5", "w") as file:
            space = h5py.h5s.create_simple((ROWS, 3))
            how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            how.set_external(b"raw", 0, 120)
            h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, how)
        look = (
            "from hpcens.dataset.source import Source\nfrom hpcens.specs import DatasetSpec\nfrom pathlib import Path\n"
        )
        look += (
            f"print(Source([Path({str(tmp_path / 'home' / 'd.h5')!r})], DatasetSpec(input='x')).head(1)[0].tolist())"
        )
        for prefix, taken in ((str(tmp_path / "away"), True), ("${ORIGIN}/../away", True), ("", False)):
            environment = os.environ | {"HDF5_EXTFILE_PREFIX": prefix, "PYTHONPATH": os.pathsep.join(sys.path)}
            ran = subprocess.run(
                [sys.executable, "-c", look], env=environment, cwd=tmp_path / "away", capture_output=True, text=True
            )
            assert (ran.stdout == f"{part(0)[:1].tolist()}\n") == taken, ran.stderr
            assert taken or "outside the folder" in ran.stderr

    def test_blocks_by_number_are_missed_among_datasets_too(self, tmp_path):
        for i in (0, 1, 3):
            write(tmp_path / "parts.h5", part(i), f"x{i}")
        numbered(tmp_path / "d.h5", "parts.h5", "x%b")
        with pytest.raises(DataError, match=r"ends at row 20 since x2 in parts\.h5 is not there"):
            identity(tmp_path / "d.h5")
        write(tmp_path / "parts.h5", part(2), "x2")
        assert identity(tmp_path / "d.h5")["rows"] == 40

    def test_a_source_without_end_that_ends_before_others_do_is_refused(self, tmp_path):
        how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        for i, rows in enumerate((6, 4)):
            write(tmp_path / f"{i}.h5", part(i, rows), maxshape=(None, 3))
            space = h5py.h5s.create_simple((0, 6), (UNLIMITED, 6))
            space.select_hyperslab((0, 3 * i), (UNLIMITED, 1), (1, 1), (1, 3))
            taken = h5py.h5s.create_simple((0, 3), (UNLIMITED, 3))
            taken.select_hyperslab((0, 0), (UNLIMITED, 1), (1, 1), (1, 3))
            how.set_virtual(space, f"{i}.h5".encode(), b"x", taken)
        with h5py.File(tmp_path / "d.h5", "w") as file:
            empty = h5py.h5s.create_simple((0, 6), (UNLIMITED, 6))
            h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, empty, how)
        with pytest.raises(DataError, match=r"come from x in .*1\.h5, which does not hold them: its shape is \(4, 3\)"):
            identity(tmp_path / "d.h5")
        with h5py.File(tmp_path / "1.h5", "a") as file:
            file["x"].resize((6, 3))
        assert identity(tmp_path / "d.h5")["rows"] == 6


LOOK = """
import sys, h5py
from pathlib import Path
from hpcens.dataset.source import Source
from hpcens.specs import DatasetSpec
facts = Source([Path(sys.argv[1])], DatasetSpec(input="x")).facts().identity["files"]["1"]
with h5py.File(sys.argv[1], locking=False) as file:
    print(int(file["x"][0, 0]), facts["source 1"].split()[1])
"""


@pytest.mark.parametrize("way", ["virtual", "link"])
@pytest.mark.parametrize("place", ["first of prefix", "second of prefix", "origin", "beside", "working", "linked"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_is_found_where_the_library_finds_it(tmp_path, way, place, absolute):
    """Files of one name lie in all places that come later: HDF5 reads the first, which is the one in the identity."""
    places = ["first of prefix", "second of prefix", "origin", "beside", "working", "linked"]
    variable = "HDF5_VDS_PREFIX" if way == "virtual" else "HDF5_EXT_PREFIX"
    if place == "origin" and way == "link":
        pytest.skip("an external link's prefix knows no ${ORIGIN}")
    folders = {name: tmp_path / name for name in places}
    folders["origin"] = folders["beside"] / "below"
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    prefix = "${ORIGIN}/below" if place == "origin" else f"{folders['first of prefix']}:{folders['second of prefix']}"
    name = str(tmp_path / "gone" / "s.h5") if absolute else "s.h5"
    real = folders["linked"] / "d.h5"
    if way == "virtual":
        virtual(real, [name])
    else:
        with h5py.File(real, "w") as file:
            file["x"] = h5py.ExternalLink(name, "x")
    (folders["beside"] / "d.h5").symlink_to(real)
    sizes = {}
    for number, later in enumerate(places[places.index(place) :]):
        file = write(folders[later] / "s.h5", part(number))
        write(file, np.zeros(1000 * number, "u1"), "padding")
        sizes[number] = file.stat().st_size
    if way == "link" and place in ("first of prefix", "second of prefix"):
        (folders["origin"] / "s.h5").unlink()
    said = subprocess.run(
        [sys.executable, "-c", LOOK, folders["beside"] / "d.h5"],
        env=os.environ | {variable: prefix, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=folders["working"],
        capture_output=True,
        text=True,
    )
    assert said.stdout.split() == ["1", str(sizes[0])], said.stderr


def chain(folder):
    """A dataset behind two external links."""
    write(folder / "end.h5", WHOLE)
    for name, target in (("middle.h5", "end.h5"), ("d.h5", "middle.h5")):
        with h5py.File(folder / name, "w") as file:
            file["x"] = h5py.ExternalLink(target, "x")
    return folder / "d.h5", {folder / "middle.h5": (0, 40), folder / "end.h5": (0, 40)}


def of_parts(folder, make):
    return make, {file: (ROWS * i, ROWS * (i + 1)) for i, file in enumerate(sorted(folder.glob("part-*")))}


def stored(folder):
    with h5py.File(folder / "d.h5", "w") as file:
        storage = [(str(folder / f"part-{i}.raw"), 0, 120) for i in range(PARTS)]
        file.create_dataset("x", data=WHOLE, external=storage)
    return of_parts(folder, folder / "d.h5")


def plain_virtual(folder):
    parts(folder, compression="gzip")
    return of_parts(folder, virtual(folder / "d.h5", [f"part-{i}.h5" for i in range(PARTS)]))


def by_number(folder):
    parts(folder)
    return of_parts(folder, numbered(folder / "d.h5", "part-%b.h5"))


def nested(folder):
    parts(folder)
    virtual(folder / "middle.h5", [f"part-{i}.h5" for i in range(PARTS)])
    return of_parts(folder, virtual(folder / "d.h5", ["middle.h5"], rows=PARTS * ROWS))


def storage_behind_virtual(folder):
    stored(folder)[0].rename(folder / "raw.h5")
    return of_parts(folder, virtual(folder / "d.h5", ["raw.h5"], rows=PARTS * ROWS))


def cut(path):
    os.truncate(path, path.stat().st_size - 10)


def rewrite(path):
    data = path.read_bytes()
    path.write_bytes(data[:-10] + bytes(10))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # as if a moment had passed


def replace(path):
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, (1, 1))
    copy.rename(path)


def start_again(path, prepared):
    with opened(path) as source:
        source.expect(prepared)
        source.head(len(WHOLE))


@pytest.mark.parametrize("change", [cut, rewrite, replace, Path.unlink])
@pytest.mark.parametrize("make", [chain, stored, plain_virtual, by_number, nested, storage_behind_virtual])
def test_a_file_behind_a_dataset_that_changes_is_noticed_by_reads_that_touch_it(tmp_path, make, change):
    path, behind = make(tmp_path)
    for file, (first, end) in list(behind.items())[1:2]:
        prepared = identity(path)
        with opened(path) as source:
            source.expect(prepared)
            for start in range(0, len(WHOLE), 5):
                assert (source.rows_between(start, start + 5)[0] == WHOLE[start : start + 5]).all()
            change(file)
            for start in range(0, len(WHOLE), 5):
                if first <= start < end:
                    with pytest.raises(DataError, match=f"{file.name} (changed while it|cannot be read any more)"):
                        source.rows_between(start, start + 5)
                else:
                    assert (source.rows_between(start, start + 5)[0] == WHOLE[start : start + 5]).all()
        with pytest.raises(DataError, match=f"{file.name}|{path.name}"):
            start_again(path, prepared)
        columns = Columns((path,), DatasetSpec(input="x", columns=("x",)), identity=prepared)
        with (
            h5py.File("copy", "w", driver="core", backing_store=False) as copy,
            pytest.raises(DataError, match=f"{file.name}|{path.name}"),
        ):
            columns.copy(copy)


@pytest.mark.parametrize("change", [cut, rewrite, replace, Path.unlink])
def test_the_file_itself_is_noticed_too(tmp_path, change):
    path = write(tmp_path / "d.h5", WHOLE, compression="gzip", chunks=(5, 3))
    with opened(path) as source:
        source.head(3)
        change(path)
        with pytest.raises(DataError, match=r"d\.h5 (changed while it was read|cannot be read any more)"):
            source.head(40)


def test_a_file_that_is_closed_and_opened_again_meanwhile_is_still_the_same(tmp_path):
    paths = [write(tmp_path / f"{i}.h5", part(i)) for i in range(12)]
    with opened(*paths) as source:
        source.expect(source.facts().identity)
        source.head(120)
        rewrite(paths[0])
        with pytest.raises(DataError, match=r"0\.h5 changed while it was read"):
            source.head(10)


def test_a_change_is_found_after_the_read_too(tmp_path, monkeypatch):
    """The file is cut between the look at it and the read: the zeros do not go on."""
    plain_virtual(tmp_path)
    status = (tmp_path / "part-1.h5").stat()
    before, read = (status.st_atime_ns, status.st_mtime_ns), Plain.read

    def cut_first(self, where, targets):
        os.utime(tmp_path / "part-1.h5", (1, 1))
        read(self, where, targets)

    with opened(tmp_path / "d.h5") as source:
        source.head(40)
        monkeypatch.setattr(Plain, "read", cut_first)
        source.rows_between(0, 5)
        os.utime(tmp_path / "part-1.h5", ns=before)
        with pytest.raises(DataError, match=r"part-1\.h5 changed while it was read"):
            source.rows_between(10, 15)


def test_only_the_files_that_a_read_touches_are_asked_for(tmp_path, monkeypatch):
    count = 1000
    for i in range(3):
        write(tmp_path / f"{i}.h5", part(i))
    virtual(tmp_path / "d.h5", [f"{i}.h5" if i < 3 else f"./{'/' * i}0.h5" for i in range(count)])
    with opened(tmp_path / "d.h5") as source:
        source.head(25)
        asked, stat, stat_of_path = set(), os.stat, Path.stat  # of which Python 3.10 keeps os.stat for itself
        monkeypatch.setattr(os, "stat", lambda path, **how: asked.add(str(path)) or stat(path, **how))
        monkeypatch.setattr(Path, "stat", lambda path, **how: asked.add(str(path)) or stat_of_path(path, **how))
        assert (source.rows_between(5, 25)[0] == WHOLE[5:25]).all()
    assert 0 < len(asked) < 20


FEW = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pathlib import Path
import numpy as np
from hpcens.dataset.source import Source
from hpcens.specs import DatasetSpec
source = Source([Path(sys.argv[1])], DatasetSpec(input="x"))
step = int(sys.argv[2])
rows = np.concatenate([source.rows_between(at, at + step)[0] for at in range(0, source.rows, step)])
print(int((rows[:, 0] != np.repeat(np.arange(200), 2) + 1).sum()), "wrong")
"""


@pytest.mark.parametrize("step", [2, 20, 400])
def test_more_sources_than_a_process_may_open(tmp_path, step):
    for i in range(200):
        write(tmp_path / f"{i}.h5", np.full((2, 3), i + 1, "f4"))
    path = virtual(tmp_path / "d.h5", [f"{i}.h5" for i in range(200)], rows=2)
    asked = subprocess.run([sys.executable, "-c", FEW, path, str(step)], capture_output=True, text=True)
    if step < 400:
        assert asked.stdout == "0 wrong\n", asked.stderr
    else:
        assert "could not be opened, and HDF5 filled its rows" in asked.stderr or "Too many open files" in asked.stderr


def test_a_source_that_the_library_could_not_open_is_never_taken_for_zeros(tmp_path, monkeypatch):
    """Story: the file server hesitates just when the library asks."""
    plain_virtual(tmp_path)
    monkeypatch.setattr("hpcens.dataset.guard.without_descriptor", lambda paths, before: list(paths))
    with opened(tmp_path / "d.h5") as source, pytest.raises(HpcensError, match=r"part-0\.h5.*HDF5 filled its rows"):
        source.head(3)


def test_what_has_no_such_files_is_what_it_was(tmp_path):
    """The identity that earlier versions gave, key by key."""
    plain_virtual(tmp_path)
    write(tmp_path / "d.h5", WHOLE, "plain")
    size, modified = (tmp_path / "d.h5").stat().st_size, (tmp_path / "d.h5").stat().st_mtime_ns
    plain = identity(tmp_path / "d.h5", input="plain")
    assert list(plain["files"]["1"]) == ["rows", "bytes", "modified", "sampled rows"]
    assert (plain["files"]["1"]["bytes"], plain["files"]["1"]["modified"]) == (size, modified)
    told = identity(tmp_path / "d.h5")["files"]["1"]
    stamps = [(tmp_path / f"part-{i}.h5").stat() for i in range(PARTS)]
    assert {key: text for key, text in told.items() if key.startswith("source")} == {
        f"source {i + 1}": f"part-{i}.h5, {stamp.st_size} bytes, modified {stamp.st_mtime_ns}"
        for i, stamp in enumerate(stamps)
    }


blocks = st.tuples(st.integers(0, 20), st.integers(1, 6), st.integers(0, 5), st.integers(1, 6)).map(
    lambda drawn: Blocks(drawn[0], max(drawn[1], drawn[3]), drawn[2], drawn[3])
)


@settings(max_examples=300, deadline=None)
@given(st.lists(blocks, max_size=6), st.integers(0, 40), st.integers(1, 20), st.lists(st.integers(0, 60), min_size=1))
def test_the_sources_of_any_rows(extents, start, length, rows):
    covered = [
        {each.first + i * each.step + j for i in range(each.number) for j in range(each.size)} for each in extents
    ]
    spans = [set(range(each.first, each.end)) for each in extents]
    wanted = set(range(start, start + length))
    found = Extents(extents).touched(slice(start, start + length)).tolist()
    assert found == [i for i, rows_of in enumerate(covered) if rows_of & wanted]
    listed = Extents(extents).touched(np.array(rows)).tolist()
    assert listed == [i for i, span in enumerate(spans) if span & set(rows)]


def test_the_only_dataset_below_many_groups_is_found_at_once(tmp_path):
    """The library takes the square of the time: minutes for so many."""
    with h5py.File(tmp_path / "d.h5", "w") as file:
        group = file
        for _ in range(3000):
            group = group.create_group("g")
        group["x"] = part(0)
        group["again"] = file["g"]
    with h5py.File(tmp_path / "d.h5") as file:
        assert only_dataset(file, tmp_path / "d.h5") == "g/" * 3000 + "x"


def test_a_source_that_is_cut_before_it_is_first_read_changed_rather_than_is_damaged(tmp_path):
    path, behind = plain_virtual(tmp_path)
    prepared = identity(path)
    with opened(path) as source:
        source.expect(prepared)
        os.truncate(next(iter(behind)), 100)
        with pytest.raises(DataError, match=r"changed (since the run was prepared|while it was read)"):
            source.rows_between(0, 2)
