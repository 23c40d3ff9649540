"""What members are taken to give, as `hpcens plan` prints it."""

from hpcens.reports.plans import taken_lines

SOFTMAX = "logits (1000) → softmax over axis 1"


def test_members_of_which_it_is_the_same_share_a_line():
    assert list(taken_lines({"lite0": SOFTMAX, "odd": "values (3)", "lite1": SOFTMAX})) == [
        f"outputs of lite0, lite1 for one row: {SOFTMAX}",
        "output of odd for one row: values (3)",
    ]
    taken = {f"m{i}": SOFTMAX for i in range(30)}
    assert list(taken_lines(taken)) == [f"outputs of m0 … m29 (30) for one row: {SOFTMAX}"]
