"""What members are taken to give, as `hpcens plan` prints it."""

from hpcens.reports.plans import taken_lines

SOFTMAX = "logits (1000) → softmax over axis 1"


def test_each_of_a_few_members_has_a_line():
    assert list(taken_lines({"lite0": SOFTMAX, "lite1": SOFTMAX})) == [
        f"output of {name} for one row: {SOFTMAX}" for name in ("lite0", "lite1")
    ]


def test_many_that_are_alike_share_one():
    taken = {f"m{i}": SOFTMAX for i in range(30)} | {"odd": "values (3)"}
    assert list(taken_lines(taken)) == [
        f"output of m0 … m29 (30) for one row: {SOFTMAX}",
        "output of odd for one row: values (3)",
    ]
