"""What a command line names: the files of the dataset."""

import pytest

from hpcens.config.job import dataset_files
from hpcens.errors import DataError, UsageError


class TestFiles:
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path, monkeypatch):
        for name in ("part-10.h5", "part-2.h5", "part-1.h5", "b.h5", "a.h5", "odd[1].h5", "b.predictions.h5"):
            (tmp_path / name).touch()
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize(
        ("given", "files"),
        [
            (["b.h5", "a.h5"], ["b.h5", "a.h5"]),
            (["part-*.h5"], ["part-1.h5", "part-2.h5", "part-10.h5"]),
            (["b.h5", "part-?.h5", "a.h5"], ["b.h5", "part-1.h5", "part-2.h5", "a.h5"]),
            (["odd[1].h5"], ["odd[1].h5"]),
            (["b*.h5", "b.predictions.h5"], ["b.h5", "b.predictions.h5"]),
            (["missing.h5"], ["missing.h5"]),
        ],
    )
    def test_come_in_the_order_given_and_patterns_as_people_count(self, tmp_path, given, files):
        assert dataset_files(given) == tuple(tmp_path / name for name in files)

    def test_a_pattern_that_matches_nothing(self):
        with pytest.raises(DataError, match="no file matches part-x"):
            dataset_files(["a.h5", "part-x*.h5"])

    def test_a_file_named_twice(self):
        with pytest.raises(UsageError, match=r"named more than once: .*part-2.h5"):
            dataset_files(["part-*.h5", "part-2.h5"])
