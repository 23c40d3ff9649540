"""How sure members are of a row, by every word that a cascade knows, against numbers worked out here."""

import numpy as np
import pytest

from hpcens.rules import accepted, certainty, least_sure
from hpcens.specs import ACCEPTED, LimitSpec

P = np.array([[[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]], [[0.5, 0.3, 0.2], [0.3, 0.5, 0.2]]], np.float32)  # member, row


def measured(name, stack=P, *, logits=False, multilabel=False, axis=-1):
    prediction = np.mean(stack, 0, np.float64).astype(np.float32)
    how = dict(logits=logits, axis=axis, multilabel=multilabel)
    return certainty(name, list(stack), prediction, (1.0,) * len(stack), **how)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def test_classes():
    p = P.astype(np.float64)
    mean = p.mean(0)
    expected = {
        "max_probability": [0.6, 0.425],
        "margin": [0.35, 0.075],
        "entropy": entropy(mean),
        "expected_entropy": entropy(p).mean(0),
        "mutual_information": entropy(mean) - entropy(p).mean(0),
        "disagreement": [0.0, 0.5],
        "variance": p.var(0),
    }
    assert expected.keys() == ACCEPTED.keys()
    for name, values in expected.items():
        assert np.abs(measured(name) - values).max() < 1e-6, name


def test_logits_are_told_by_their_probabilities():
    shares = np.exp(P.mean(0, np.float64)) / np.exp(P.mean(0, np.float64)).sum(-1, keepdims=True)
    best = np.sort(shares)
    assert np.abs(measured("max_probability", logits=True) - best[:, -1]).max() < 1e-6
    assert np.abs(measured("margin", logits=True) - (best[:, -1] - best[:, -2])).max() < 1e-6


def test_labels_are_sure_each_by_itself():
    assert np.abs(measured("max_probability", multilabel=True) - [[0.6, 0.75, 0.85], [0.65, 0.575, 0.775]]).max() < 1e-6
    assert np.abs(measured("margin", multilabel=True) - [[0.2, 0.5, 0.7], [0.3, 0.15, 0.55]]).max() < 1e-6
    assert measured("entropy", multilabel=True).shape == (2, 3)


@pytest.mark.parametrize("name", ["variance", "disagreement", "mutual_information"])
def test_one_member_is_sure_of_nothing_by_its_distance_from_itself(name):
    found = least_sure(name, measured(name, P[:1]))
    assert np.isnan(found).all() and not accepted({name: found}, {name: LimitSpec(below=9.0)}).any()


def test_a_row_of_several_is_as_sure_as_the_least_sure_of_them_and_nan_is_not():
    values = np.array([[0.1, 0.4], [0.2, np.nan], [0.3, 0.3]])
    assert np.array_equal(least_sure("entropy", values), [0.4, np.nan, 0.3], equal_nan=True)
    assert np.array_equal(least_sure("margin", values), [0.1, np.nan, 0.3], equal_nan=True)
    measures = {"entropy": least_sure("entropy", values), "margin": least_sure("margin", values)}
    limits = {"entropy": LimitSpec(below=0.4), "margin": LimitSpec(above=0.2)}
    assert accepted(measures, limits).tolist() == [False, False, True]  # a limit itself is not below it


def test_classes_may_lie_on_any_axis():
    turned = np.moveaxis(np.stack([P, P], 2), -1, 2)  # member, row, class, place
    found = measured("margin", turned, axis=1)
    assert found.shape == (2, 2) and np.abs(found - np.array([[0.35], [0.075]])).max() < 1e-6
