"""Verification of a finished result."""

import json
import os
import shutil
import signal
from dataclasses import replace

import h5py
import pytest
from support.results import begin, directory, flip, score

from hpcens.cli import main
from hpcens.errors import BAD_DATA, FAILURE, DataError
from hpcens.result.disk import Disk
from hpcens.result.export import export
from hpcens.result.finished import Finished
from hpcens.result.journal import Journal, Kind, Record, read_journal
from hpcens.result.verify import verify, verify_each


def test_verify_names_what_is_wrong(tmp_path):
    score(directory(tmp_path), tmp_path, Disk())
    path = tmp_path / "out.h5"
    assert verify(path).sound
    flip(path, "label", 4 * 9)
    assert verify(path).faults == ["rows 8–11 differ from their checksum in the file"]
    (tmp_path / "a.safetensors").write_bytes(b"other")
    assert any("is not what was scored with" in fault for fault in verify(path).faults)
    journal = (run := directory(tmp_path)).journal(run.newest)
    content_ = read_journal(journal)
    doubled = next(r for r in content_.records if r.kind == Kind.WRITTEN)
    with journal.open("ab") as raw:
        raw.write(doubled.pack())
    assert any("twice" in fault for fault in verify(path).faults)


def test_a_start_that_was_killed_after_the_result_was_whole_leaves_it_sound(tmp_path):
    """One that took a living start for dead began to copy what that was about to give its name."""
    run = directory(tmp_path)
    score(run, tmp_path, Disk())
    header = read_journal(run.journal(run.newest)).header
    late = begin(run)
    journal = Journal(Disk(), run.journal(late), replace(header, epoch=2, id="2", working="working-0002.h5"))
    journal.append([Record(Kind.INHERITED)])
    journal.sync()
    assert verify(tmp_path / "out.h5").sound
    flip(tmp_path / "out.h5", "label", 4 * 9)
    assert not verify(tmp_path / "out.h5").sound


def test_what_a_result_says_of_itself_is_sealed(tmp_path):
    score(directory(tmp_path), tmp_path, Disk())
    path = tmp_path / "out.h5"
    with h5py.File(path, "r+") as file:
        before = file["classes"][0]
        file["classes"][0] = "dawn"
    fault = "what it says of itself is not what was written: attributes, class names or documents"
    assert verify(path).faults == [fault]
    with pytest.raises(DataError, match="what it says of itself"):
        export(Finished(path), tmp_path / "out.csv")
    with h5py.File(path, "r+") as file:
        file["classes"][0] = before
        file["prediction"].attrs["description"] = "other"
    assert verify(path).faults == [fault]
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum"]  # as earlier versions left it
    assert verify(path).sound
    with h5py.File(path, "r+") as file:
        del file["hpcens/written"]
    with pytest.raises(DataError, match="is damaged"):
        Finished(path)


def test_a_result_on_which_the_library_crashes_is_told_in_words(tmp_path, monkeypatch):
    path = tmp_path / "out.h5"
    with pytest.raises(DataError, match="no such file"):
        verify(path)
    score(directory(tmp_path), tmp_path, Disk())
    # what a damaged address makes of libhdf5, at the import of whoever reads the result
    (tmp_path / "h5py.py").write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(DataError, match="the process that read it was killed by SIGSEGV"):
        verify(path)


# what a damaged file makes of libhdf5: always, or where another file was read before in the same process
CRASHES = """
import os, signal
import h5py

opened, real = set(), h5py.File.__init__

def init(self, path, *others, **options):
    if isinstance(path, h5py.h5f.FileID):
        return real(self, path, *others, **options)
    name = os.path.basename(path)
    with open(os.environ["OPENED"], "a") as file:
        file.write(f"{os.getpid()} {name}\\n")
    if name == "crashes.h5" or (name == "suffers.h5" and opened - {name}):
        os.kill(os.getpid(), signal.SIGSEGV)
    opened.add(name)
    real(self, path, *others, **options)

h5py.File.__init__ = init
"""


@pytest.fixture
def many(tmp_path, monkeypatch):
    """Results of which one crashes the library, one suffers from those before it, and one is damaged."""
    folder = tmp_path / "many"
    folder.mkdir()
    score(directory(tmp_path), tmp_path, Disk())
    paths = [folder / f"{name}.h5" for name in ("first", "suffers", "crashes", "damaged", "gone", "last")]
    for path in paths:
        if path.stem != "gone":
            shutil.copy(tmp_path / "out.h5", path)
    flip(folder / "damaged.h5", "label", 4 * 9)
    (tmp_path / "sitecustomize.py").write_text(CRASHES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OPENED", str(tmp_path / "opened"))
    return paths


def test_many_results_are_read_by_one_process_and_one_that_crashes_the_library_is_told_alone(many, tmp_path):
    found = {path.stem: found for path, found in verify_each(many)}
    assert list(found) == [path.stem for path in many]
    faults = {name: getattr(each, "what", None) or "".join(each.faults) for name, each in found.items()}
    assert faults["first"] == faults["suffers"] == faults["last"] == ""
    assert "crashes.h5: the process that read it was killed by SIGSEGV" in faults["crashes"]
    assert faults["damaged"] == "rows 8–11 differ from their checksum in the file"
    assert "gone.h5: no such file" in faults["gone"]
    lines = [line.split() for line in (tmp_path / "opened").read_text().splitlines()]
    processes = [[name for pid, name in lines if pid == process] for process in dict.fromkeys(pid for pid, _ in lines)]
    assert [list(dict.fromkeys(names)) for names in processes] == [
        ["first.h5", "suffers.h5"],
        ["suffers.h5", "crashes.h5"],
        ["crashes.h5"],
        ["damaged.h5", "last.h5"],
    ]


def test_of_many_results_each_is_told_and_the_worst_counts(many, capsys):
    assert main(["verify", *map(str, many)]) == FAILURE
    said = capsys.readouterr().out
    assert said.count("\nsound: ") + said.startswith("sound: ") == 3
    assert "crashes.h5: the process that read it was killed by SIGSEGV" in said and "gone.h5: no such file" in said
    assert main(["verify", "--json", str(many[0]), str(many[2])]) == BAD_DATA
    sound, crashes = json.loads(capsys.readouterr().out)
    assert (sound["sound"], crashes["sound"], crashes["result"]) == (True, False, str(many[2]))
