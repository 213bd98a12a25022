"""Metrics against values worked out by hand, against brute force, and against pysaliency."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from salgan_edge import metrics
from tools.golden import CASES, case


def array(*rows):
    return np.array(rows, np.float64)


def counts(*row):
    return np.array([row])


@pytest.mark.parametrize(
    ("function", "arguments", "value"),
    [
        # a = (-1.5, -.5, .5, 1.5), b = (-1, 0, 0, 1): sum of products 3, lengths sqrt(5) and sqrt(2).
        (metrics.cc, [array([1, 2], [3, 4]), array([0, 1], [1, 2])], 3 / math.sqrt(10)),
        (metrics.cc, [array([1, 2], [3, 4]), array([4, 3], [2, 1])], -1),
        (metrics.cc, [array([1, 1], [1, 1]), array([4, 3], [2, 1])], 0),
        # Densities (.25, .75) and (.5, .5): the smaller ones add up to .75.
        (metrics.sim, [array([1, 3]), array([2, 2])], 0.75),
        (metrics.sim, [array([1, 0]), array([0, 5])], 0),
        (metrics.kl_divergence, [array([1, 3]), array([2, 2])], 0.5 * math.log(2) + 0.5 * math.log(2 / 3)),
        (metrics.kl_divergence, [array([1, 3]), array([1, 3])], 0),
        # Mean 2, deviation sqrt(4 / 3): the fixated values 4, 2 and 2 stand at sqrt(3), 0, 0.
        (metrics.nss, [array([0, 2, 4], [2, 2, 2]), np.array([[0, 0, 1], [2, 0, 0]])], math.sqrt(3) / 3),
        (metrics.nss, [np.ones((1, 2)), counts(1, 0)], 0),
        # Fixated: 3 and 1. Others: 0, 2, 1. 3 beats all three; 1 beats 0, ties with 1, loses to 2.
        (metrics.auc_judd, [array([3, 0, 2, 1, 1]), counts(1, 0, 0, 4, 0)], (3 + 1.5) / 6),
        # Positives 3, 3, 1; negatives 2, 1: wins 2 + 2 + 0.5 of 6.
        (metrics.shuffled_auc, [array([3, 2, 1]), counts(2, 0, 1), counts(0, 1, 1)], 4.5 / 6),
        # Density .75 at the fixation against .25: log2(3) bits.
        (metrics.information_gain, [array([3, 1]), counts(1, 0), array([1, 3])], math.log2(3)),
    ],
)
def test_values_by_hand(function, arguments, value):
    assert function(*arguments) == pytest.approx(value, abs=1e-9)


def test_auc_judd_is_the_area_under_the_curve():
    random = np.random.default_rng(1)
    saliency = random.integers(0, 6, (8, 8)).astype(float)
    fixations = (random.random((8, 8)) < 0.2).astype(int)
    hits, alarms = [0.0], [0.0]
    for threshold in sorted(set(saliency.ravel()), reverse=True):
        hits.append(float((saliency[fixations > 0] >= threshold).mean()))
        alarms.append(float((saliency[fixations == 0] >= threshold).mean()))
    assert metrics.auc_judd(saliency, fixations) == pytest.approx(np.trapezoid(hits, alarms))


def test_shuffled_auc_gives_centre_bias_no_credit():
    centre = np.zeros((5, 5))
    centre[2, 2] = 1
    everyone = (centre > 0).astype(int) * 10
    assert metrics.auc_judd(centre, everyone) == 1
    assert metrics.shuffled_auc(centre, everyone, everyone) == pytest.approx(0.5)


def test_guide():
    left, right = array([1, 0, 0]), array([0, 0, 1])
    assert metrics.guide([(left, right, left, right)]) == 1
    assert metrics.guide([(right, left, left, right)]) == 0
    assert metrics.guide([(left, left, left, right)]) == 0.5
    assert metrics.guide([(left, right, left, right), (right, left, left, right)]) == 0.5
    with pytest.raises(ValueError, match="at least one pair"):
        metrics.guide([])


@pytest.mark.parametrize("function", [metrics.nss, metrics.auc_judd])
def test_no_fixation(function):
    with pytest.raises(ValueError, match="without fixations"):
        function(np.ones((2, 2)), np.zeros((2, 2), int))


def test_information_gain_with_a_uniform_share():
    # Half of each density becomes uniform: (.75 + .5) / 2 against (.25 + .5) / 2.
    share = {"uniform": 0.5}
    value = metrics.information_gain(array([3, 1]), np.array([[1, 0]]), array([1, 3]), **share)
    assert value == pytest.approx(math.log2(0.625 / 0.375), abs=1e-6)
    # A 0 at a fixation is bounded by the share: a hundredth of 1/2 against the baseline's 1/2.
    value = metrics.information_gain(array([1, 0]), np.array([[0, 1]]), array([1, 1]), uniform=0.01)
    assert value == pytest.approx(math.log2(0.01), abs=1e-6)
    with pytest.raises(ValueError, match="0 to 1 was expected"):
        metrics.information_gain(array([1, 0]), np.array([[0, 1]]), array([1, 1]), uniform=2)


def gaze(fixations=(1, 0), others=(0, 2)):
    return metrics.Gaze(array([1, 3]), counts(*fixations), counts(*others), array([1, 1]))


def test_the_registry_is_the_functions():
    predicted, looked = array([3, 1]), gaze()
    told = {name: metric.of(predicted, looked) for name, metric in metrics.METRICS.items()}
    assert told == {
        "CC": metrics.cc(predicted, looked.human),
        "SIM": metrics.sim(predicted, looked.human),
        "KL": metrics.kl_divergence(predicted, looked.human),
        "NSS": metrics.nss(predicted, looked.fixations),
        "AUC-Judd": metrics.auc_judd(predicted, looked.fixations),
        "sAUC": metrics.shuffled_auc(predicted, looked.fixations, looked.others),
        "IG": metrics.information_gain(predicted, looked.fixations, looked.baseline, uniform=0.01),
    }


@pytest.mark.parametrize(
    ("looked", "missing"),
    [(gaze(fixations=(0, 0)), {"NSS", "AUC-Judd", "sAUC", "IG"}), (gaze(others=(0, 0)), {"sAUC"})],
)
def test_metrics_without_what_they_need(looked, missing):
    found = {name for name, metric in metrics.METRICS.items() if math.isnan(metric.of(array([3, 1]), looked))}
    assert found == missing


# pysaliency as an oracle; the values were written by tools/golden.py.


@pytest.fixture(scope="module")
def oracle():
    return json.loads((Path(__file__).parent / "golden" / "pysaliency.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_metrics_are_pysaliencys(oracle, name):
    made, told = case(name), oracle[name]
    assert sum(part.sum() for part in made) == pytest.approx(told["sum"]), "numpy makes other numbers now"
    assert metrics.cc(made.predicted, made.human) == pytest.approx(told["CC"], abs=1e-12)
    assert metrics.sim(made.predicted, made.human) == pytest.approx(told["SIM"], abs=1e-12)
    # Its epsilon has five digits, ours all; this shows where a prediction is 0.
    assert metrics.kl_divergence(made.predicted, made.human) == pytest.approx(told["KL"], abs=1e-5)
    assert metrics.nss(made.predicted, made.fixations) == pytest.approx(told["NSS"], abs=1e-12)
    # With its negatives given, the shuffled area has no free choice: every fixation counts.
    shuffled = metrics.shuffled_auc(made.predicted, made.fixations, made.other)
    assert shuffled == pytest.approx(told["sAUC"], abs=1e-12)
    if "IG" in told:  # minus infinity where a prediction without share is 0 at a fixation
        gain = metrics.information_gain(made.predicted, made.fixations, made.baseline)
        assert gain == pytest.approx(told["IG"], abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_auc_judd_is_pysaliencys(oracle, name):
    """Its area over all thresholds is ours, but that it counts repeated fixations."""
    made, told = case(name), oracle[name]
    exact = metrics.auc_judd(made.predicted, made.fixations)
    unfixated = (made.fixations == 0).astype(int)
    assert metrics.shuffled_auc(made.predicted, made.fixations, unfixated) == pytest.approx(told["AUC"])
    repeated = made.fixations.max() > 1
    assert exact == pytest.approx(told["AUC"], abs=5e-3 if repeated else 1e-12)
    if not repeated and name not in ("few levels", "zeros"):
        # Thresholds at the fixations alone, joined by straight lines, as in Judd's script.
        assert 0 <= told["AUC-Judd"] - exact <= 1 / (2 * made.fixations.sum())
