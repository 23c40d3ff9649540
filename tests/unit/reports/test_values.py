"""What a person is told of a result's values: labels, ranges, how far members agree, and of how many rows."""

import numpy as np
import pytest
from support.lossy import LossyDisk
from support.results import ROWS, directory, flip, score

from hpcens.errors import DataError
from hpcens.reports import values as values_module
from hpcens.reports.values import Sample, agreement_phrase, sample, value_lines
from hpcens.result import Finished
from hpcens.result.outputs import Output

CLASSES = ("cat", "dog", "bird")
ROWS_OF_CLASSES = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 0, 0, 0, 0, 2, 0]]


def seen(arrays, outputs=(), *, classes=CLASSES, rows=10, masked=0):
    """A sample of these arrays, all of them without classes but for those that are described."""
    described = {name: Output(name, values.shape[1:], values.dtype.str) for name, values in arrays.items()}
    described |= {output.name: output for output in outputs}
    return Sample(rows, 10, masked, described, arrays, classes)


def of_classes(name, **attributes):
    return Output(name, (3,), "<f4", attributes, class_axis=1)


def test_labels_are_counted_by_name_stored_or_not():
    stored = seen({"label": np.array([0] * 8 + [1, 2], np.int32)})
    chosen = seen({"prediction": ROWS_OF_CLASSES}, [of_classes("prediction", sums_to_one=True)], classes=())
    assert list(value_lines(stored)) == ["labels: cat 80 %, dog 10 %, bird 10 %"]
    assert list(value_lines(chosen)) == ["labels: class 0 80 %, class 1 10 %, class 2 10 %"]


def test_of_many_labels_the_most_frequent_are_named_and_rare_ones_are_not_none():
    labels = np.concatenate([np.zeros(100_000, np.int32), np.arange(1, 9, dtype=np.int32)])
    [line] = value_lines(seen({"label": labels}, classes=()))
    assert line.startswith("labels: class 0 over 99.9 %, class 1 under 0.1 %, ") and line.endswith(", 4 others")


def test_labels_that_do_not_exclude_one_another_are_shares_of_rows():
    label = Output("label", (3,), "<i4", class_axis=1)
    [line] = value_lines(seen({"label": ROWS_OF_CLASSES.astype(np.int32)}, [label]))
    assert line == "labels, in what share of the rows: cat 80 %, dog 10 %, bird 10 %"


def test_values_have_a_range_and_what_is_not_finite_is_counted():
    one = seen({"prediction": np.array([[1.0], [3.0], [np.nan], [np.inf]], np.float32)}, classes=())
    assert list(value_lines(one)) == [
        "prediction: 1 to 3, mean 2, standard deviation 1; 2 of 4 are not finite",
    ]
    two = seen({"prediction": np.array([[1, 10], [3, 30]], np.float32)}, classes=("energy",))
    assert [line.partition(": ")[0] for line in value_lines(two)] == ["prediction, energy", "prediction, value 1"]
    narrow = seen({"prediction": np.array([[-1234.5], [-1234.25]], np.float32)}, classes=())
    assert list(value_lines(narrow)) == ["prediction: -1234.5 to -1234.25, mean -1234.375, standard deviation 0.125"]
    none = seen({"prediction": np.full((2, 1), np.nan, np.float32)}, classes=())
    assert list(value_lines(none)) == ["prediction: no finite value; 2 of 2 are not finite"]


@pytest.mark.parametrize(
    ("arrays", "outputs", "line"),
    [
        (
            {"label": np.zeros(10, np.int32), "disagreement": np.full(10, 0.25, np.float32)},
            [],
            "members' agreement: 75 % of their labels are the ensemble's",
        ),
        (
            {"label": np.zeros(10, np.int32), "members/a": ROWS_OF_CLASSES, "members/b": ROWS_OF_CLASSES[:, ::-1]},
            [of_classes("members/a"), of_classes("members/b")],
            "members' agreement: 45 % of their labels are the ensemble's",
        ),
        (
            {"variance": np.full((10, 1), 4.0, np.float32)},
            [],
            "spread of the members: 2 (standard deviation, root mean square of all rows)",
        ),
        (
            {"members/a": np.zeros((10, 1), np.float32), "members/b": np.ones((10, 1), np.float32)},
            [],
            "spread of the members: 0.5 (standard deviation, root mean square of all rows)",
        ),
    ],
)
def test_agreement_is_told_by_what_is_stored(arrays, outputs, line):
    assert list(value_lines(seen(arrays, outputs)))[-1] == line


def test_one_member_agrees_with_nobody():
    one = seen({"label": np.zeros(10, np.int32), "members/a": ROWS_OF_CLASSES}, [of_classes("members/a")])
    assert not any("agreement" in line for line in value_lines(one))


def test_members_agree_only_on_rows_that_several_have_scored():
    """Story: the second of two members scores the last two rows, where its labels are others, and its values 4 off."""
    second = np.full((10, 3), np.nan, np.float32)
    second[8:] = 4 + ROWS_OF_CLASSES[8:, ::-1]
    present = np.ones((10, 2), np.uint8)
    present[:8, 1] = 0
    arrays = {"label": ROWS_OF_CLASSES.argmax(1).astype(np.int32), "members/a": ROWS_OF_CLASSES, "members/b": second}
    outputs = [of_classes("members/a"), of_classes("members/b")]
    assert agreement_phrase(seen(arrays | {"present": present}, outputs)).startswith("members' agreement: 50 % of")
    alone = {"present": np.eye(2, dtype=np.uint8)[np.arange(10) % 2]}
    assert agreement_phrase(seen(arrays | alone, outputs)) == ""
    variance = {"variance": np.where(present[:, 1:], np.float32(4), np.float32(np.nan))}
    assert "spread of the members: 2 " in agreement_phrase(seen(variance | {"present": present}))
    values = {"members/a": np.zeros((10, 1), np.float32), "members/b": np.where(present[:, 1:], 1.0, np.nan)}
    assert "spread of the members: 0.5 " in agreement_phrase(seen(values | {"present": present}))


@pytest.fixture
def result(tmp_path):
    score(directory(tmp_path), tmp_path, LossyDisk())
    return tmp_path / "out.h5"


def test_of_a_large_result_segments_from_all_over_are_read(result, monkeypatch):
    whole = sample(Finished(result))
    assert (whole.read, whole.rows) == (ROWS, ROWS) and "prediction" in whole.arrays
    monkeypatch.setattr(values_module, "_SAMPLE_BYTES", 130)
    part = sample(Finished(result))
    assert part.read == 6 and list(value_lines(part))[-1] == f"(values: of 6 rows, spread over all {ROWS})"
    assert np.array_equal(part.arrays["label"][-2:], whole.arrays["label"][-2:])  # the last segment too


def test_damaged_rows_are_not_summed_up(result):
    flip(result, "label", 0)
    with pytest.raises(DataError, match="differ from their checksum"):
        sample(Finished(result))
