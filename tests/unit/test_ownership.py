"""Only what is one's own is trusted: run directories, their folders, submitit's pickles, the cache."""

import os
import pickle
import subprocess
from pathlib import Path

import pytest

from hpcens import files
from hpcens.cache import cache_folder
from hpcens.entry import command
from hpcens.errors import UsageError
from hpcens.ownership import READABLE, own_folder, refuse_others
from hpcens.result.disk import Disk
from hpcens.runs import RunDirectory, Verdict

NOBODY = 65534


def give_away(path, monkeypatch):
    """Make a file or folder another user's."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


@pytest.fixture(params=[0o002, 0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_is_made_here_is_accepted_again_whatever_the_umask(umask, tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "out.run")
    first = run.begin()
    run.own("submitit", "submitit/1")
    first.judge(Verdict(0, "done"))
    assert run.begin().number == 2
    monkeypatch.setenv("HPCENS_CACHE", str(tmp_path / "far" / "cache"))
    assert cache_folder().stat().st_mode & 0o777 == 0o700
    files.write_atomically(tmp_path / "a.json", "1")
    descriptor = Disk().open(tmp_path / "journal", create=True)
    Disk().close(descriptor)
    made = [tmp_path / "a.json", tmp_path / "journal", *(tmp_path / "out.run").rglob("*"), tmp_path / "out.run"]
    assert [path for path in made if path.is_dir() and path.stat().st_mode & 0o022] == []
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == (tmp_path / "journal").stat().st_mode & 0o777
    assert not (tmp_path / "a.json").stat().st_mode & 0o022


@pytest.mark.parametrize("folder", ["", "epochs", "submitit"])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_a_run_directory_that_others_may_write_to_is_refused_with_what_to_do(folder, mode, tmp_path):
    run = RunDirectory(tmp_path / "a b.run")
    run.own("submitit")
    (run.path / folder).chmod(mode)
    with pytest.raises(UsageError, match=f"others than you may write to .*mode {mode:o}") as caught:
        run.own("submitit")
    subprocess.run(["bash", "-c", caught.value.remedy.partition(";")[0]], check=True)
    run.own("submitit")


@pytest.mark.parametrize("folder", ["", "epochs"])
def test_a_run_directory_of_another_user_is_refused(folder, tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "out.run")
    run.own()
    give_away(run.path / folder, monkeypatch)
    with pytest.raises(UsageError, match=r"belongs to .*who could put other files"):
        run.begin()


def test_a_run_directory_behind_a_link_is_fine_if_both_are_ones_own(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir(0o755)
    run = RunDirectory(tmp_path / "out.run")
    run.path.symlink_to("scratch")
    assert run.begin().number == 1
    give_away(run.path, monkeypatch)
    with pytest.raises(UsageError, match="belongs to"):
        run.own()


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_in_the_way_of_a_run_directory_is_named(kind, tmp_path):
    run = RunDirectory(tmp_path / "out.run")
    if kind == "file":
        run.path.write_text("")
    else:
        run.path.symlink_to("nowhere")
    with pytest.raises(UsageError, match="is in the way"):
        run.begin()


def test_a_cache_that_is_not_ones_own_is_refused(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HPCENS_CACHE", str(cache))
    cache.mkdir(0o755)
    assert cache_folder() == cache
    cache.chmod(0o777)
    with pytest.raises(UsageError, match="others than you may write") as caught:
        cache_folder()
    assert f"chmod go-w {cache}" in caught.value.remedy and "HPCENS_CACHE" in caught.value.remedy
    cache.chmod(0o700)
    give_away(cache, monkeypatch)
    with pytest.raises(UsageError, match="belongs to"):
        cache_folder()


def test_no_new_file_is_written_through_a_link(tmp_path, monkeypatch):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    monkeypatch.setattr("hpcens.files.secrets.token_hex", lambda size: "guessed")
    (tmp_path / f".x.json.{os.getpid()}.guessed").symlink_to(precious)
    with pytest.raises(FileExistsError):
        files.write_atomically(tmp_path / "x.json", "{}")
    (tmp_path / "journal").symlink_to(precious)
    with pytest.raises(FileExistsError):
        Disk().open(tmp_path / "journal", create=True)
    assert precious.read_text() == "mine"


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("what", ["folder", "pickle", "run directory"])
def test_a_queued_job_that_others_may_write_to_is_not_loaded(what, tmp_path):
    folder = tmp_path / "out.run" / "submitit" / "ab12"
    for path in (folder.parents[1], folder.parents[0], folder):
        own_folder(path, READABLE, "")
    stored = folder / "7_submitted.pkl"
    stored.write_bytes(pickle.dumps(Planted(tmp_path / "PWNED")))
    {"folder": folder, "pickle": stored, "run directory": folder.parents[1]}[what].chmod(0o777)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(files.__file__).parents[1]),
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_LOCAL_JOB_ID": "7",
        "SUBMITIT_LOCAL_GLOBALID": "0",
        "SUBMITIT_LOCAL_LOCALID": "0",
        "SUBMITIT_LOCAL_NODEID": "0",
    }
    queued = [*command("hpcens.launch.queued"), "-u", "-m", "submitit.core._submit", str(folder)]
    done = subprocess.run(queued, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "others than you may write" in done.stderr, done.stderr
    assert not (tmp_path / "PWNED").exists()


def test_a_file_that_root_owns_is_trusted_as_ssh_trusts_it():
    refuse_others(Path("/usr"), "")
