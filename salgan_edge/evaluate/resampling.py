"""Confidence intervals by resampling photos: of means, medians, and areas under the ROC curve.

All texts of a photo are drawn together: predictions and human maps of one photo depend on each
other, so pairs drawn one by one would make intervals too narrow. The same seed, photos and number of
resamples give the same draws everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from salgan_edge.evaluate.scores import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["Bootstrap", "Estimate", "Interval", "median", "separation"]

_TAILS = (2.5, 97.5)

Interval = tuple[float, float, float]
"""A value with the ends of its 95 % interval by the bootstrap over photos."""


@dataclass(frozen=True)
class Bootstrap:
    """Percentile bootstrap (Efron 1979) of a mean over values that come in photos.

    The same seed, photos and number of resamples give the same draws, so two models that were
    scored on the same photos are compared draw by draw.
    """

    resamples: int = 1000
    """At least 1; 1 gives an interval of no meaning, quickly."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.resamples < 1:
            raise ValueError(f"resamples is {self.resamples}: at least 1 was expected")

    def estimate(self, values: npt.ArrayLike, photos: Sequence[str]) -> Estimate | None:
        """Mean of `values` with its 95 % interval.

        Args:
            values: one number for each pair (n,); NaN for a pair without one.
            photos: the photo of each pair.

        Returns:
            None if every value is NaN, or there is none.
        """
        numbers = np.asarray(values, np.float64)
        known = ~np.isnan(numbers)
        if not known.any():
            return None
        _, index = np.unique(np.asarray(photos)[known], return_inverse=True)
        sums = np.bincount(index, numbers[known])
        counts = np.bincount(index).astype(np.float64)
        drawn = np.random.default_rng(self.seed).multinomial(
            len(sums), np.full(len(sums), 1 / len(sums)), size=self.resamples
        )  # (resamples, photos): how often each photo was drawn
        means = (drawn @ sums) / (drawn @ counts)
        low, high = np.percentile(means, _TAILS)
        return Estimate(float(numbers[known].mean()), float(low), float(high))


def _weights(photos: Sequence[str], bootstrap: Bootstrap) -> npt.NDArray[np.int64]:
    """How often each value counts, (1 + resamples, n): once each in the first row, then as its photo is drawn."""
    names, index = np.unique(np.asarray(photos), return_inverse=True)
    chances = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(bootstrap.seed).multinomial(len(names), chances, size=bootstrap.resamples)
    return np.concatenate([np.ones((1, len(photos)), np.int64), drawn[:, index]])


def median(values: npt.ArrayLike, photos: Sequence[str], bootstrap: Bootstrap) -> Interval | None:
    """Median of values (n,) with its interval by photo; NaN is left out, None where nothing is left."""
    numbers = np.asarray(values, np.float64)
    known = ~np.isnan(numbers)
    if not known.any():
        return None
    order = np.argsort(numbers[known], kind="stable")
    ordered = numbers[known][order]
    counts = _weights(np.asarray(photos)[known].tolist(), bootstrap)[:, order].cumsum(axis=1)
    half = counts[:, -1:] / 2
    # Half of the values lie below; where a value ends at the half, the middle to the next one.
    lower, upper = (counts >= half).argmax(axis=1), (counts > half).argmax(axis=1)
    return _interval((ordered[lower] + ordered[upper]) / 2)


def separation(
    present: Sequence[float],
    absent: Sequence[float],
    photos_present: Sequence[str],
    photos_absent: Sequence[str],
    bootstrap: Bootstrap,
) -> Interval:
    """Area under the ROC curve by which a measure tells present from absent texts, with its interval by photo.

    It is the chance that a present text has more of the measure than an absent one, ties counting
    half (Mann and Whitney). Both sides need at least one value.
    """
    values = np.asarray([*present, *absent], np.float64)
    order = np.argsort(values, kind="stable")
    weights = _weights([*photos_present, *photos_absent], bootstrap)[:, order]
    positive = order < len(present)
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    above = np.add.reduceat(weights * positive, starts, axis=1).astype(np.float64)
    below = np.add.reduceat(weights * ~positive, starts, axis=1).astype(np.float64)
    won = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
    pairs = above.sum(axis=1) * below.sum(axis=1)
    # A draw of photos without a text of one side says nothing.
    return _interval(won[pairs > 0] / pairs[pairs > 0])


def _interval(draws: Floats) -> Interval:
    """The value, which stands first, and the 95 % interval of the others."""
    low, high = np.percentile(draws[1:] if len(draws) > 1 else draws, _TAILS)
    return float(draws[0]), float(low), float(high)
