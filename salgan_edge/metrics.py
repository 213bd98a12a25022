"""Saliency metrics in numpy.

Definitions follow Bylinskii, Judd, Oliva, Torralba and Durand, "What do different evaluation
metrics tell us about saliency models?", TPAMI 2019, except where a function names another source.

A *saliency map* is non-negative float (h, w). A *fixation map* counts fixations per pixel, integer
(h, w). Both maps of one call have the same shape.

`METRICS` lists what an evaluation reports: a metric that gets a row there is in its tables, JSON and CSV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    FloatMap = npt.NDArray[np.floating]
    CountMap = npt.NDArray[np.integer]

__all__ = [
    "METRICS",
    "Gaze",
    "Metric",
    "auc_judd",
    "cc",
    "guide",
    "information_gain",
    "kl_divergence",
    "nss",
    "shuffled_auc",
    "sim",
]

_EPSILON = 1e-12
_MACHINE_EPSILON = float(np.finfo(np.float64).eps)


def cc(predicted: FloatMap, human: FloatMap) -> float:
    """Pearson's linear correlation coefficient of two saliency maps, -1..1; 0 if one is constant."""
    a = predicted.astype(np.float64) - predicted.mean(dtype=np.float64)
    b = human.astype(np.float64) - human.mean(dtype=np.float64)
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > _EPSILON else 0.0


def sim(predicted: FloatMap, human: FloatMap) -> float:
    """Similarity: the overlap of both maps as densities, 0..1 (Judd et al. 2012)."""
    return float(np.minimum(_density(predicted), _density(human)).sum())


def kl_divergence(predicted: FloatMap, human: FloatMap) -> float:
    """Kullback-Leibler divergence KL(human || predicted) of densities, in nats, 0 is best.

    The sum of q log(e + q / (p + e)) with e = 2.2e-16, as the MIT/Tübingen benchmark computes it:
    a prediction of 0 where people looked costs much, not infinitely much.
    """
    p, q = _density(predicted), _density(human)
    return float((q * np.log(_MACHINE_EPSILON + q / (p + _MACHINE_EPSILON))).sum())


def nss(predicted: FloatMap, fixations: CountMap) -> float:
    """Normalised scanpath saliency: mean of the standardised map at the fixations.

    Raises:
        ValueError: there is no fixation.
    """
    _require(fixations)
    values = predicted.astype(np.float64)
    deviation = values.std()
    if deviation < _EPSILON:
        return 0.0
    standard = (values - values.mean()) / deviation
    return float((standard * fixations).sum() / fixations.sum())


def auc_judd(predicted: FloatMap, fixations: CountMap) -> float:
    """Area under the ROC curve, fixated pixels against all others, 0..1.

    Computed as the Mann-Whitney statistic, which is the exact area: ties count half, and a pixel
    fixated by several viewers counts once. Judd's script steps through the values at fixations
    alone, joins the steps by straight lines and adds noise against ties, so with n fixations it is
    larger, by at most 1 / (2 n).

    Raises:
        ValueError: there is no fixation, or no pixel without one.
    """
    _require(fixations)
    fixated = fixations > 0
    return _area(predicted[fixated], predicted[~fixated])


def shuffled_auc(predicted: FloatMap, fixations: CountMap, other: CountMap) -> float:
    """AUC whose negatives are the places fixated in other photos, so a centre bias earns nothing.

    Every fixation of `other` is a negative, each as often as it was made; no random sampling
    (Zhang et al. 2008; the sampled version of Borji et al. 2013 has this value in the mean).

    Args:
        predicted: saliency map.
        fixations: fixations of this photo.
        other: fixations of other photos, on the same grid.

    Raises:
        ValueError: there is no fixation.
    """
    _require(fixations)
    _require(other)
    return _area(np.repeat(predicted.ravel(), fixations.ravel()), np.repeat(predicted.ravel(), other.ravel()))


def information_gain(
    predicted: FloatMap, fixations: CountMap, baseline: FloatMap, *, uniform: float = 0.0
) -> float:
    """Gain in log-likelihood per fixation over a baseline density, in bits (Kümmerer et al. 2015).

    Args:
        predicted: saliency map.
        fixations: fixations of this photo.
        baseline: saliency map without knowledge of the photo, such as the mean map.
        uniform: share of a uniform density, 0..1, that is mixed into both densities. A saliency map
            that is 0 somewhere means a small number, not that nobody ever looks there; without such
            a share one fixation at a 0 weighs about as much as thirty others.

    Raises:
        ValueError: there is no fixation, or the share is out of range.
    """
    _require(fixations)
    if not 0 <= uniform <= 1:
        raise ValueError(f"a uniform share of {uniform} was given: 0 to 1 was expected")
    floor = uniform / predicted.size + _EPSILON
    own = np.log2((1 - uniform) * _density(predicted) + floor)
    gain = own - np.log2((1 - uniform) * _density(baseline) + floor)
    return float((gain * fixations).sum() / fixations.sum())


def guide(pairs: Sequence[tuple[FloatMap, FloatMap, FloatMap, FloatMap]]) -> float:
    """Share of text pairs that guide the prediction, 0..1; a model blind to text scores 0.5.

    A pair is two texts about one photo: predictions for the first and the second, human maps for
    the first and the second. It counts 1 if the predictions correlate better with their own human
    maps than swapped, half if the two sums are equal.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("guide needs at least one pair of texts about one photo")
    won = 0.0
    for first, second, human_first, human_second in pairs:
        own = cc(first, human_first) + cc(second, human_second)
        swapped = cc(first, human_second) + cc(second, human_first)
        won += 1.0 if own > swapped else 0.5 if own == swapped else 0.0
    return won / len(pairs)


def _density(values: FloatMap) -> npt.NDArray[np.float64]:
    positive = values.astype(np.float64)
    total = positive.sum()
    if total < _EPSILON:
        return np.full(positive.shape, 1 / positive.size)
    density: npt.NDArray[np.float64] = positive / total
    return density


def _require(fixations: CountMap) -> None:
    if not np.any(fixations > 0):
        raise ValueError("a fixation map without fixations has no score: leave the pair out")


def _area(positives: npt.NDArray[np.floating], negatives: npt.NDArray[np.floating]) -> float:
    """Probability that a positive is larger than a negative, ties half."""
    if positives.size == 0 or negatives.size == 0:
        raise ValueError("an area under the curve needs positives and negatives")
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    not_above = np.searchsorted(ordered, positives, side="right")
    return float((below + not_above).sum() / (2 * positives.size * negatives.size))


@dataclass(frozen=True)
class Gaze:
    """Where people looked in one photo, on one grid (h, w): what a prediction is scored against."""

    human: FloatMap
    """Human saliency map."""
    fixations: CountMap
    """Fixations of this photo; empty where only a map was published."""
    others: CountMap
    """Fixations of other photos; empty where there are none."""
    baseline: FloatMap
    """Saliency map without knowledge of the photo, such as the mean map."""


@dataclass(frozen=True)
class Metric:
    """One metric as an evaluation reports it."""

    score: Callable[[FloatMap, Gaze], float]
    """Score of a prediction on the grid of the gaze."""
    needs: tuple[str, ...] = ()
    """Fields of `Gaze` that must hold a fixation."""
    smaller_is_better: bool = False
    note: str = ""
    """A sentence below tables."""

    def of(self, predicted: FloatMap, gaze: Gaze) -> float:
        """The score, NaN where fixations that it needs are missing."""
        if not all(np.any(getattr(gaze, name)) for name in self.needs):
            return math.nan
        return self.score(predicted, gaze)


_UNIFORM_SHARE = 0.01
"""Of the information gain that an evaluation reports."""

METRICS = {
    "CC": Metric(lambda predicted, gaze: cc(predicted, gaze.human)),
    "SIM": Metric(lambda predicted, gaze: sim(predicted, gaze.human)),
    "KL": Metric(lambda predicted, gaze: kl_divergence(predicted, gaze.human), smaller_is_better=True),
    "NSS": Metric(lambda predicted, gaze: nss(predicted, gaze.fixations), needs=("fixations",)),
    "AUC-Judd": Metric(lambda predicted, gaze: auc_judd(predicted, gaze.fixations), needs=("fixations",)),
    "sAUC": Metric(
        lambda predicted, gaze: shuffled_auc(predicted, gaze.fixations, gaze.others),
        needs=("fixations", "others"),
    ),
    "IG": Metric(
        lambda predicted, gaze: information_gain(
            predicted, gaze.fixations, gaze.baseline, uniform=_UNIFORM_SHARE
        ),
        needs=("fixations",),
        note="IG is in bits per fixation over the mean map.",
    ),
}
"""Metrics by name, in the order of columns."""
