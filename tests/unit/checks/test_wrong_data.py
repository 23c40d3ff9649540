"""What is wrong with a dataset is told before anything is queued: what, where, what to do; and nothing is touched."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from support.fuzzing import fuzzing

from hpcens.dataset.inspection import inspecting
from hpcens.dataset.source import Source
from hpcens.errors import DataError, HpcensError
from hpcens.specs import DatasetSpec, InputSpec, SelectSpec
from hpcens.vocabulary import Segmentation

ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


def inspect(*dataset):
    with inspecting(*dataset) as facts:
        return facts()


@pytest.fixture
def path(tmp_path):
    """A file with a bit of everything."""
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:
        file["images"], file["short"], file["group/inner"] = ROWS, ROWS[:15], ROWS
        file["scalar"], file["none"], file["flat"] = 1.0, np.empty((0, 3)), np.empty((20, 0))
        file["complex"], file["text"] = ROWS.astype("c8"), np.array([b"a"] * 20)
        file["wide"] = ROWS.astype(np.longdouble)
        file["names"] = np.array(["a"] * 20, object)
        file.create_dataset("ragged", (20,), h5py.vlen_dtype(np.float32))
        file["table"] = np.zeros(20, [("x", "f4"), ("note", "S3")])
        file["mask"], file["short mask"] = np.arange(20) % 2 == 0, np.ones(15, bool)
        file["nothing"], file["floats"] = np.zeros(20, bool), np.arange(20.0)
        file["list"], file["outside"], file["negative"] = [3, 1, 3], [3, 20], [-1]
        file["integer mask"] = np.arange(20) % 2
        file["dangling"], file["away"] = h5py.SoftLink("/nowhere"), h5py.ExternalLink("gone.h5", "x")
        file["short ids"], file["references"] = np.arange(15), np.array([file["images"].ref] * 20, h5py.ref_dtype)
    return path


def inputs(**named):
    return {name: InputSpec(path=of) if isinstance(of, str) else InputSpec(**of) for name, of in named.items()}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "datasets (complex, flat, floats, group/inner, images, integer mask, list, mask and"),
        ({"input": "imagse"}, "has no dataset 'imagse'\n  → did you mean images? it has: complex"),
        ({"input": "dangling"}, "has no dataset 'dangling'"),
        ({"input": "away"}, "is a link to x in gone.h5, which is not there"),
        ({"input": "group"}, "group is a group, not a dataset\n  → it holds: group/inner"),
        ({"input": "/"}, "is a group, not a dataset"),
        ({"input": "scalar"}, "scalar has no rows (shape ())"),
        ({"input": "none"}, "none has no rows (shape (0, 3))"),
        ({"input": "flat"}, "/flat has empty rows (shape (20, 0))"),
        ({"input": "complex"}, "/complex holds complex numbers (complex64)"),
        ({"input": "text"}, "/text holds strings of 1 bytes"),
        ({"input": "wide"}, "/wide holds numbers too wide (float128)"),
        ({"input": "names"}, "/names holds strings\n"),
        ({"input": "ragged"}, "/ragged holds rows of variable length ("),
        ({"input": "references"}, "/references holds no numbers (variable-length or reference data)"),
        (
            {"input": "table"},
            "/table is a compound of fields: x, note\n  → name one: dataset.inputs: {table: {path: table",
        ),
        ({"inputs": inputs(a={"path": "table", "field": "y"})}, "/table has no field 'y'\n  → it has: x, note"),
        ({"inputs": inputs(a={"path": "table", "field": "note"})}, "/table, field note, holds strings of 3 bytes"),
        ({"inputs": inputs(a={"path": "images", "field": "x"})}, "/images has no field 'x'\n  → it has: no fields"),
        ({"inputs": inputs(a="images", b="short")}, "the inputs differ in rows: /images 20, /short 15"),
        ({"select": SelectSpec(path="short mask")}, "/short mask has 15 marks for 20 rows"),
        ({"select": SelectSpec(path="floats")}, "/floats is float64[20] and selects nothing"),
        ({"select": SelectSpec(path="images")}, "/images is float32[20, 3] and selects nothing"),
        ({"select": SelectSpec(path="nothing")}, "dataset.select selects none of 20 rows"),
        ({"select": SelectSpec(start=20)}, "dataset.select selects none of 20 rows"),
        ({"select": SelectSpec(path="outside")}, "outside[1] is 20, and there are rows 0–19"),
        ({"select": SelectSpec(path="negative")}, "negative[0] is -1, and there are rows 0–19"),
        ({"select": SelectSpec(path="integer mask")}, "holds only 0 and 1, one a row: a mask stored as integers"),
        ({"select": SelectSpec(path="maks")}, "did you mean mask?"),
        ({"select": SelectSpec(path="group")}, "group is a group"),
        ({"columns": ("short ids",)}, "/short ids has 15 values for 20 rows"),
        ({"columns": ("idz",)}, "has no dataset 'idz'"),
        ({"columns": ("group",)}, "group is a group"),
        ({"columns": ("ragged",)}, "/ragged holds variable-length or reference data"),
        ({"columns": ("references",)}, "/references holds variable-length or reference data"),
    ],
)
def test_the_wrong_place_in_a_file(path, spec, said):
    before = path.read_bytes(), path.stat().st_mtime_ns
    given = {} if not spec or "input" in spec or "inputs" in spec else {"input": "images"}
    with pytest.raises(DataError) as caught:
        Source([path], DatasetSpec(**given, **spec)).facts()
    assert said in str(caught.value) and "→" in str(caught.value) and caught.value.exit_code == 65
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_the_right_places_of_that_file_are_read(path):
    spec = DatasetSpec(inputs=inputs(a="images", x={"path": "table", "field": "x"}), select=SelectSpec(path="list"))
    source = Source([path], spec)
    assert source.facts().rows == 3 and source.head(3)[0].tolist() == ROWS[[3, 1, 3]].tolist()


def not_hdf5(path):
    path.write_bytes(b"rows,and,commas\n" * 100)


def empty(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-500])


def folder(path):
    path.unlink()
    path.mkdir()


def in_use(path):
    path.unlink()
    code = (
        "import h5py, os, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f['x'] = [1]; f.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "no such file"),
        (not_hdf5, "is not an HDF5 file"),
        (empty, "is not an HDF5 file"),
        (truncated, "is truncated"),
        (folder, "is a folder"),
        (in_use, "is being written, or its writer crashed"),
    ],
)
def test_the_wrong_file(path, spoil, said):
    spoil(path)
    with pytest.raises(DataError) as caught:
        inspect([path], DatasetSpec(input="images"), None)
    assert said in str(caught.value) and str(path) in str(caught.value) and "→" in str(caught.value)


def test_no_permission(path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    if os.geteuid():
        path.chmod(0)
    else:
        monkeypatch.setattr(h5py, "File", refuse)  # nothing is forbidden to root
    with pytest.raises(DataError, match="no permission to read it"):
        Source([path], DatasetSpec(input="images"))


@pytest.mark.parametrize(
    ("filter_id", "name", "remedy"),
    [
        (32015, "zstd", "pip install 'hpcens[filters]'"),
        (32022, "HDF5 filter 32022", "name its folder in HDF5_PLUGIN_PATH"),
    ],
)
def test_a_missing_filter_is_named_with_its_package(tmp_path, filter_id, name, remedy):
    """Without hdf5plugin: a process that cannot import it. What nobody has: the filter's number in the file changed."""
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", data=ROWS, chunks=(5, 3), **hdf5plugin.Zstd())
    raw = (tmp_path / "d.h5").read_bytes()
    assert raw.count((32015).to_bytes(2, "little")) == 1
    (tmp_path / "d.h5").write_bytes(raw.replace((32015).to_bytes(2, "little"), filter_id.to_bytes(2, "little")))
    (tmp_path / "hdf5plugin.py").write_text("raise ImportError")
    code = (
        "import sys; from hpcens.dataset.source import Source; from hpcens.specs import DatasetSpec\n"
        "try: Source([__import__('pathlib').Path(sys.argv[1])], DatasetSpec())\n"
        "except Exception as error: print(error)"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    environment.pop("HDF5_PLUGIN_PATH", None)
    command = [sys.executable, "-c", code, tmp_path / "d.h5"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"(HDF5 filter {filter_id})" in said and name in said and remedy in said


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (ROWS.astype(np.float64), "rows are <f8[3], in"),
        (ROWS[:, :2], "rows are <f4[2], in"),
        (ROWS[:0], "has no rows"),
    ],
)
def test_files_that_differ(path, tmp_path, second, said):
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file["images"] = second
    with pytest.raises(DataError) as caught:
        Source([path, tmp_path / "e.h5"], DatasetSpec(input="images"))
    assert said in str(caught.value) and "e.h5" in str(caught.value)


def damaged(path, how, at):
    """A file in which the bytes of the chunk at a row are spoilt."""
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=np.random.default_rng(0).random((40, 8)), chunks=(10, 8), **how)
        offset = file["x"].id.get_chunk_info_by_coord((at, 0))
    raw = bytearray(path.read_bytes())
    raw[offset.byte_offset : offset.byte_offset + offset.size] = (b"\xa5\x3c\x01" * offset.size)[: offset.size]
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "gzip"},
        {"fletcher32": True},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf", "fletcher32": True},
        dict(hdf5plugin.Zstd()),
        dict(hdf5plugin.Bitshuffle(cname="zstd")),
    ],
)
def test_a_damaged_chunk_is_told_with_its_rows_when_it_is_read(tmp_path, how):
    damaged(tmp_path / "d.h5", how, 20)
    source, segmentation = Source([tmp_path / "d.h5"], DatasetSpec()), Segmentation(40, 8)
    source.read(segmentation, 0), source.read(segmentation, 1)
    for _ in range(2):
        with pytest.raises(DataError, match=r"d.h5: /x: rows 20–29 cannot be read"):
            source.read(segmentation, 2)
    source.close()


def test_a_file_cut_short_while_it_is_read(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = np.zeros((1 << 16, 8))
    source = Source([tmp_path / "d.h5"], DatasetSpec())
    os.truncate(tmp_path / "d.h5", 1 << 20)
    with pytest.raises(DataError, match=r"d.h5 changed while it was read: 4\d+ bytes, .* then, 1048576 bytes"):
        source.rows_between(60000, 60010)


def test_a_file_that_changed_between_the_first_look_and_the_run(tmp_path):
    """Story: the job waits in the queue, and the file is written anew meanwhile."""
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = ROWS
    facts = inspect([tmp_path / "d.h5"], DatasetSpec(), None)
    source = Source([tmp_path / "d.h5"], DatasetSpec())
    source.expect(facts.identity)
    os.utime(tmp_path / "d.h5")
    with pytest.raises(DataError, match=r"d.h5 changed since the run was prepared"):
        source.expect(facts.identity)
    with pytest.raises(DataError, match=r"d.h5 changed while it was read"):
        source.head(1)


LIBRARY_FAILS = """
import os, signal, sys
if "hpcens.processes.isolation" in sys.orig_argv:
    import resource
    import h5py
    set_limit = resource.setrlimit
    resource.setrlimit = lambda which, limits: set_limit(which, (1, 2) if which == resource.RLIMIT_CPU else limits)
    def fails(*_, **__):
        {}
    h5py.File = fails
"""


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", DataError, r"the HDF5 library crashed on it \(SIGSEGV\)"),
        ("while True: pass", DataError, "did not come to an end"),
        ("os.kill(os.getpid(), signal.SIGKILL)", HpcensError, "was killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGTERM)", HpcensError, "was killed by SIGTERM"),
        ("import time; time.sleep(300)", HpcensError, "neither read nor computed anything"),
        ("raise MemoryError('8 EiB')", DataError, "8 EiB"),
        ("sys.exit('gone')", Exception, "could not be looked at: gone"),
    ],
)
def test_whatever_the_library_does_the_command_ends_with_a_message(path, tmp_path, monkeypatch, how, error, said):
    (tmp_path / "sitecustomize.py").write_text(LIBRARY_FAILS.format(how))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr("hpcens.dataset.inspection._STILL_SECONDS", 5.0)
    with pytest.raises(error, match=said) as caught:
        inspect([path], DatasetSpec(input="images"), None)
    assert type(caught.value) is error or error is Exception, "what others do to the process is no word of the file"


def test_mutated_files_end_in_order():
    """A few of those that `tests/drills/fuzz_hdf5.py` makes by the hundred."""
    with fuzzing() as fuzz:
        fuzz.soundness(["gzip"])
        for number in range(5):
            fuzz.candidate(number, seed=1)
    assert fuzz.faults == []


def test_a_file_that_goes_while_it_is_read_is_bad_data(path):
    """Story: somebody tidies up in mid-run; the rows could be read on, but not by the next start."""
    source = Source([path], DatasetSpec(input="images"), None)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read any more") as caught:
        source.read(Segmentation(20, 5), 0)
    assert "put it back" in caught.value.remedy


def test_a_limit_of_processor_time_is_not_raised(path):
    """Story: a login node's `ulimit -t`: the look at a dataset takes what is left of it, and names it."""
    script = "import sys; from pathlib import Path; from hpcens.specs import DatasetSpec; "
    script += "from hpcens.dataset import inspection; "
    script += "print(inspection.inspect_speed([Path(sys.argv[1])], DatasetSpec(input='images'), None))"
    command = ["bash", "-c", f'ulimit -t 40; exec "{sys.executable}" -c "$0" "$1"', script, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
