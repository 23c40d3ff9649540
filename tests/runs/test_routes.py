"""A whole run in which members score rows of their own."""

import h5py
import numpy as np

ROWS = """
dataset: {input: images, route: {fold: fold}}
output: {datasets: [prediction, members]}
"""


def test_members_score_their_own_rows_and_the_work_saved_is_told(project):
    project.data().yaml(ROWS)
    fold = np.random.default_rng(1).integers(0, 3, 300)
    with h5py.File(project.dataset, "a") as file:
        file["fold"] = fold
    text = (project.folder / "hpcens.yaml").read_text()
    for number, name in enumerate(("linear", "conv", "recurrent")):
        text = text.replace(
            f"factory: nets:{name.title()}", f"factory: nets:{name.title()}\n    rows: {{fold: {number}}}"
        )
    (project.folder / "hpcens.yaml").write_text(text)
    said = project.hpcens("run", "dataset.h5")
    assert "300 rows in" in said and "300 of 300 rows" in said
    assert "members score their own rows: " in said and "% of the work of all members on all rows" in said
    with h5py.File(project.output) as file:
        prediction, present = file["prediction"][:], file["present"][:]
        assert (present == (fold[:, None] == np.arange(3))).all()
        for number, name in enumerate(("linear", "conv", "recurrent")):
            member = file[f"members/{name}"][:]
            assert member[fold == number].tobytes() == prediction[fold == number].tobytes()
            assert np.isfinite(member[fold == number]).all() and np.isnan(member[fold != number]).all()
    assert "sound" in project.hpcens("verify", "dataset.predictions.h5")
