"""A whole run of a cascade, over MPI."""

import re

import h5py
import numpy as np

CASCADE = """
output: {datasets: [prediction, members]}
cascade:
  - {members: linear, accept: {max_probability: {above: 0.304}}}
  - {members: conv, accept: {entropy: {below: 9}}}
  - {members: recurrent}
"""


def test_later_members_score_what_is_left_and_the_work_spared_is_told(project):
    project.data().yaml(CASCADE)
    said = project.hpcens("run", "dataset.h5")
    assert "phase 3 of 3" in said and "300 rows in" in said
    with h5py.File(project.output) as file:
        prediction, present = file["prediction"][:], file["present"][:]
        linear, conv = file["members/linear"][:], file["members/conv"][:]
        assert np.isnan(file["members/recurrent"][:]).all()
    left = linear.max(1).astype(np.float64) <= 0.304
    assert 0 < left.sum() < 300
    assert (present == np.stack([np.ones(300), left, np.zeros(300)], 1)).all()
    assert prediction[~left].tobytes() == linear[~left].tobytes()
    assert np.abs(prediction - (linear.astype(np.float64) + conv) / 2)[left].max() <= 1e-6
    told = re.search(r"cascade: linear scored 300 rows; conv (\d+) of them \(.* expected\); recurrent 0 of them", said)
    assert told and int(told[1]) == left.sum()
    assert "% of the work of all members on all rows was done" in said
