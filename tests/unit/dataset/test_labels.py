"""Labels follow what was scored of a dataset: its files, selection and limit; or are those of the result."""

import h5py
import numpy as np
import pytest

from hpcens.dataset import LabelFiles, Source
from hpcens.errors import DataError, FingerprintMismatch
from hpcens.specs import DatasetSpec, SelectSpec

SIZES = (40, 30, 50)
ROWS = sum(SIZES)


@pytest.fixture
def files(tmp_path):
    """Rows that hold their own number, labels that hold ten times that; a mask, and row numbers in any order."""
    random, first, paths = np.random.default_rng(0), 0, []
    for index, size in enumerate(SIZES):
        paths.append(tmp_path / f"part-{index}.h5")
        with h5py.File(paths[-1], "w") as file:
            file["x"] = np.arange(first, first + size, dtype="f4")
            file["y"] = 10 * np.arange(first, first + size)
            file["mask"] = random.random(size) < 0.5
            file["rows"] = random.permutation(size)[: size // 2]
        first += size
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file["deep/y"] = 10 * np.arange(ROWS)
    return paths


def scored(paths, select, limit=None):
    """What the result of these rows says of them, and the numbers of the rows."""
    spec = DatasetSpec(input="x", select=select)
    source = Source(paths, spec, limit)
    data = {"rows": source.rows, **{key: value for key, value in source.facts().identity.items() if key == "files"}}
    numbers = source.rows_between(0, source.rows)[0]
    source.close()
    return spec, data, numbers


SELECTIONS = [None, SelectSpec(start=5, stop=90), SelectSpec(path="mask"), SelectSpec(path="rows")]


@pytest.mark.parametrize("limit", [None, 37])
@pytest.mark.parametrize("select", SELECTIONS)
@pytest.mark.parametrize("where", ["the dataset", "beside it", "named", "named in another order"])
def test_each_row_has_its_own_label(files, tmp_path, select, limit, where):
    spec, data, numbers = scored(files, select, limit)
    paths = {"the dataset": [], "beside it": [tmp_path / "labels.h5"], "named": files}.get(where, files[::-1])
    labels = LabelFiles(paths, "deep/y" if where == "beside it" else "y", files, spec, data)
    read = np.concatenate([labels.read(start, min(start + 11, len(numbers))) for start in range(0, len(numbers), 11)])
    assert (read == 10 * numbers).all() and labels.follows
    assert (labels.read(3, 9) == 10 * numbers[3:9]).all()
    labels.close()


def test_labels_may_be_those_of_the_result(files, tmp_path):
    spec, data, _ = scored(files, SelectSpec(path="mask"), 20)
    with h5py.File(tmp_path / "own.h5", "w") as file:
        file["y"] = 7 * np.arange(20)
    labels = LabelFiles([tmp_path / "own.h5"], "y", files, spec, data)
    assert not labels.follows and (labels.read(2, 5) == [14, 21, 28]).all()


def test_labels_of_another_length_are_refused_with_the_figures(files):
    spec, data, _ = scored(files, SelectSpec(path="mask"), 20)
    with pytest.raises(DataError, match=r"y has 40 labels, and there are 120 of the dataset, 20 in the result"):
        LabelFiles(files[:1], "y", files, spec, data)
    with pytest.raises(DataError, match="has no dataset 'Y'"):
        LabelFiles([], "Y", files, spec, data)


def test_a_selection_that_has_changed_since_is_refused(files):
    spec, data, _ = scored(files, SelectSpec(path="mask"))
    with h5py.File(files[1], "r+") as file:
        file["mask"][:2] = ~file["mask"][:2]
    with pytest.raises(FingerprintMismatch, match=r"part-1\.h5 selects other rows than were scored"):
        LabelFiles([], "y", files, spec, data)
