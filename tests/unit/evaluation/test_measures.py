"""Measures that stream: those of scikit-learn or of float64 on all rows at once; the same bits in any chunking."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from support.outputs import softmax

from hpcens.evaluation.buckets import BUCKETS, buckets_of_groups, buckets_of_rows, draws
from hpcens.evaluation.classification import Classes, Labels
from hpcens.evaluation.curves import Coverage, odds_bins
from hpcens.evaluation.evaluation import Score
from hpcens.evaluation.regression import Values

ROWS, SIZE = 5000, 6
RANDOM = np.random.default_rng(3)
TRUE = RANDOM.integers(0, SIZE, ROWS)
LOGITS = RANDOM.normal(0, 1.5, (ROWS, SIZE)) + 2.0 * (TRUE[:, None] == np.arange(SIZE))
PROBABILITIES = softmax(LOGITS)


def measured(judge, buckets):
    counts = draws(np.bincount(buckets, minlength=BUCKETS))
    return {name: Score.of_draws(values) for name, values in judge.measures(counts).items()}


def of_classes(probabilities, labels, **options):
    judge = Classes(probabilities.shape[-1], **{"dense": False, "top": 3, "least": 2.0**-52, **options})
    buckets = buckets_of_rows(0, len(labels), len(labels))
    judge.add(buckets, probabilities, labels)
    return judge, measured(judge, buckets)


def expected_calibration_error(confidence, right):
    places = np.clip((confidence * 15).astype(int), 0, 14)
    parts = [places == place for place in range(15)]
    return sum(part.mean() * abs(confidence[part].mean() - right[part].mean()) for part in parts if part.any())


def area_under_risk(confidence, wrong):
    order = np.argsort(-confidence)
    return (np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)).mean()


def test_classes_are_judged_as_scikit_learn_does():
    judge, found = of_classes(PROBABILITIES[:, None], TRUE[:, None])
    guess, one_hot = PROBABILITIES.argmax(1), np.eye(SIZE)[TRUE]
    assert found["accuracy"].value == metrics.accuracy_score(TRUE, guess)
    assert found["log_loss"].value == pytest.approx(metrics.log_loss(TRUE, PROBABILITIES), rel=1e-12)
    assert found["brier_score"].value == pytest.approx(((PROBABILITIES - one_hot) ** 2).sum(1).mean(), rel=1e-12)
    assert found["top_3_accuracy"].value == metrics.top_k_accuracy_score(TRUE, PROBABILITIES, k=3)
    fixed, curves = judge.fixed(), judge.curves()
    area = metrics.roc_auc_score(TRUE, PROBABILITIES, multi_class="ovr", average="macro")
    assert abs(fixed["roc_auc"].value - area) <= fixed["roc_auc"].error < 2e-3
    confidence, wrong = PROBABILITIES.max(1), guess != TRUE
    assert fixed["calibration_error"].value == pytest.approx(expected_calibration_error(confidence, ~wrong), rel=1e-9)
    assert abs(fixed["aurc"].value - area_under_risk(confidence, wrong)) <= fixed["aurc"].error < 1e-3
    assert curves["confusion"] == metrics.confusion_matrix(TRUE, guess).tolist()
    assert curves["coverage"][-1] == {"coverage": 1.0, "risk": pytest.approx(wrong.mean())}


def test_two_classes_are_judged_by_the_second_one():
    true, second = TRUE % 2, PROBABILITIES[:, 1]
    judge, found = of_classes(np.stack([1 - second, second], 1)[:, None], true[:, None], top=0)
    assert found["brier_score"].value == pytest.approx(metrics.brier_score_loss(true, second), rel=1e-12)
    area = metrics.roc_auc_score(true, second)
    assert abs(judge.fixed()["roc_auc"].value - area) <= judge.fixed()["roc_auc"].error < 2e-3


def test_intervals_are_those_of_the_bootstrap():
    """Of many rows too, whose buckets are drawn instead of themselves: √(p(1−p)/n) · 1.96 either side."""
    _, found = of_classes(PROBABILITIES[:, None], TRUE[:, None])
    score = found["accuracy"]
    half = 1.96 * np.sqrt(score.value * (1 - score.value) / ROWS)
    assert score.low == pytest.approx(score.value - half, abs=0.15 * half)
    assert score.high == pytest.approx(score.value + half, abs=0.15 * half)


def test_rows_of_a_group_are_drawn_together():
    """Each row written down ten times tells no more than once: with groups the interval stays as wide."""
    few, groups = np.repeat(TRUE[:400], 10), np.repeat(np.arange(400), 10)
    probabilities = np.repeat(PROBABILITIES[:400], 10, axis=0)
    widths = []
    for buckets in (buckets_of_rows(0, 4000, 4000), buckets_of_groups(groups)):
        judge = Classes(SIZE, dense=False, top=0, least=1e-9)
        judge.add(buckets, probabilities[:, None], few[:, None])
        score = measured(judge, buckets)["accuracy"]
        widths.append(score.high - score.low)
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.2)


def test_images_are_judged_by_overlap_and_without_points_that_have_no_label():
    labels = TRUE[:4800].reshape(100, 48).copy()
    labels[:, ::5] = -1
    probabilities = PROBABILITIES[:4800].reshape(100, 48, SIZE)
    _, found = of_classes(probabilities, labels, dense=True)
    known = labels >= 0
    guess = probabilities.argmax(-1)[known]
    assert found["accuracy"].value == pytest.approx(metrics.accuracy_score(labels[known], guess), rel=1e-12)
    assert found["iou"].value == pytest.approx(metrics.jaccard_score(labels[known], guess, average="macro"), rel=1e-12)
    assert found["dice"].value == pytest.approx(metrics.f1_score(labels[known], guess, average="macro"), rel=1e-12)
    assert found["iou"].low < found["iou"].value < found["iou"].high


def test_labels_that_do_not_exclude_one_another():
    true = (RANDOM.random((ROWS, SIZE)) < PROBABILITIES).astype(int)
    judge = Labels(SIZE, least=2.0**-52)
    buckets = buckets_of_rows(0, ROWS, ROWS)
    judge.add(buckets, PROBABILITIES[:, None], true[:, None])
    found, fixed = measured(judge, buckets), judge.fixed()
    guess = PROBABILITIES > 0.5
    losses = [metrics.log_loss(true[:, label], PROBABILITIES[:, label]) for label in range(SIZE)]
    assert found["accuracy"].value == pytest.approx((guess == true).mean())
    assert found["exact_match"].value == pytest.approx(metrics.accuracy_score(true, guess))
    assert found["f1_score"].value == pytest.approx(metrics.f1_score(true, guess, average="macro"))
    assert found["log_loss"].value == pytest.approx(np.mean(losses), rel=1e-9)
    area = metrics.roc_auc_score(true, PROBABILITIES, average="macro")
    assert abs(fixed["roc_auc"].value - area) <= fixed["roc_auc"].error < 2e-3
    assert judge.of_class == true.sum(0).tolist()


SCALE = -123456.0


def of_values(rows=2000, outputs=3):
    labels = SCALE + RANDOM.normal(0, 5, (rows, outputs))
    spread = RANDOM.gamma(2, 0.5, (rows, outputs))
    members = [labels + spread * RANDOM.normal(0, 1, (rows, outputs)) for _ in range(4)]
    return labels, np.mean(members, 0), members


def test_values_are_judged_as_in_float64():
    labels, mean, members = of_values()
    judge = Values(3, shift=labels[0, 0], spread=True)
    buckets = buckets_of_rows(0, len(labels), len(labels))
    judge.add(buckets, mean, labels, members)
    found = measured(judge, buckets)
    assert found["mean_absolute_error"].value == pytest.approx(metrics.mean_absolute_error(labels, mean), rel=1e-9)
    squared = metrics.mean_squared_error(labels, mean)
    assert found["root_mean_squared_error"].value == pytest.approx(np.sqrt(squared), rel=1e-9)
    assert found["r2_score"].value == pytest.approx(metrics.r2_score(labels, mean), rel=1e-9)
    pairs = np.mean([np.abs(a - b) for a in members for b in members], 0)
    crps = np.mean([np.abs(m - labels) for m in members], 0) - pairs / 2
    assert found["crps"].value == pytest.approx(crps.mean(), rel=1e-8)
    variance = np.var(members, 0)
    likelihood = 0.5 * (np.log(2 * np.pi * variance) + (mean - labels) ** 2 / variance)
    assert found["negative_log_likelihood"].value == pytest.approx(likelihood.mean(), rel=1e-8)
    assert found["spread_to_error"].value == pytest.approx(np.sqrt(variance.mean() / squared), rel=1e-8)
    surest = np.argsort(variance.reshape(-1))
    risks = np.cumsum(((mean - labels) ** 2).reshape(-1)[surest]) / np.arange(1, mean.size + 1)
    assert judge.fixed()["aurc"].value == pytest.approx(risks.mean(), rel=0.02)
    parts = judge.curves()["spread"]
    assert sum(part["points"] for part in parts) == mean.size and parts[0]["error"] < parts[-1]["error"]


def test_numbers_on_which_all_members_agree_have_no_likelihood_and_are_counted():
    judge = Values(1, shift=0.0, spread=True)
    values, others = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [3.0], [4.0]])
    judge.add(np.arange(3), values, values + 1, [values, others])
    found = measured(judge, np.arange(3))
    assert judge.without_spread == 1 and np.isfinite(found["negative_log_likelihood"].value)


def test_the_area_under_the_risk_is_exact_where_bins_tell_all_rows_apart():
    confidence = np.arange(1, 200) / 200
    wrong = np.random.default_rng(0).random(199) > confidence
    coverage = Coverage()
    coverage.add(odds_bins(confidence, 4096), wrong)
    area = coverage.area(of_errors=True)
    assert area.value == pytest.approx(area_under_risk(confidence, wrong), rel=1e-12) and area.error < 1e-12


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 1199), max_size=6, unique=True).map(sorted), st.integers(0, 2))
def test_any_chunking_gives_the_same_bits(cuts, kind):
    rows = 1200
    bounds = list(zip([0, *cuts], [*cuts, rows], strict=True))
    whole, parts = (kept(chunks, kind) for chunks in ([(0, rows)], bounds))
    assert whole == parts


VALUES = of_values(1200, 3)
SEVERAL = (RANDOM.random((1200, 1, SIZE)) < 0.3).astype(int)


def kept(chunks, kind):
    judge = (
        Classes(SIZE, dense=True, top=2, least=1e-9)
        if kind == 0
        else Labels(SIZE, least=1e-9)
        if kind == 1
        else Values(3, shift=SCALE, spread=True)
    )
    dense, labels = PROBABILITIES[:4800].reshape(1200, 4, SIZE), TRUE[:4800].reshape(1200, 4)
    filled = np.zeros(BUCKETS, int)
    for start, stop in chunks:
        part, buckets = slice(start, stop), buckets_of_rows(start, stop - start, 1200)
        filled += np.bincount(buckets, minlength=BUCKETS)
        if kind == 0:
            judge.add(buckets, dense[part], labels[part])
        elif kind == 1:
            judge.add(buckets, dense[part, :1], SEVERAL[part])
        else:
            target, mean, members = VALUES
            judge.add(buckets, mean[part], target[part], [member[part] for member in members])
    measures = {name: values.tobytes() for name, values in judge.measures(draws(filled)).items()}
    return measures, judge.fixed(), judge.curves()
