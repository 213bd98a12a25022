"""Confidence intervals by resampling photos.

All texts of a photo are drawn together: predictions and human maps of one photo depend on each
other, so pairs drawn one by one would make intervals too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from salgan_edge.train.evaluation.scores import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["Bootstrap"]

_TAILS = (2.5, 97.5)


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
