"""Maps of a stream that neither flicker nor pulse."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from salgan_edge.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatMaps = npt.NDArray[np.float32]

__all__ = ["Stabiliser", "stabiliser_of"]

_SCALE_FALLS = 1.5
"""Seconds in which the density that is shown as 1 goes half the way down to a new value."""
_SCALE_RISES = 0.2
"""Likewise up. Slower, and a map that was flat (a covered lens) would stay glaring for seconds."""
_GAP = 5.0
"""Seconds after which earlier maps no longer count."""


class Stabiliser:
    """Turns the generator's grids of a stream into maps to show.

    The generator divides each map by its own maximum. Noise of a single cell, the largest, so
    brightens and darkens the whole picture. Here grids become densities again (sum 1), are averaged
    over time with weights that halve every `half_life` seconds, whatever the frame rate, and are
    divided by a percentile that itself follows slowly.

    The defaults, measured on still photos with sensor noise and JPEG compression at 30 frames a second:
    cells change by a seventh, total brightness by less than a fiftieth of what they do without. An
    object that jumps is the largest 0.13 s later (0.1 s at 10 frames a second). A half-life of 0.2 s
    halves the change of cells again, but takes 0.23 to 0.3 s to follow. Percentiles of 98 and less
    cut off ever more cells at 1 and flicker more; 100 is as steady as 99.5, and darker where one cell
    stands out.

    >>> stabiliser = Stabiliser()
    >>> stabiliser(np.ones((1, 2, 2), np.float32), time=0.0)[0, 0, 0]
    np.float32(1.0)

    Not safe to share between threads.
    """

    def __init__(self, half_life: float | None = 0.1, percentile: float | None = 99.5) -> None:
        """Start with nothing seen.

        Args:
            half_life: seconds in which a change of the scene is half visible, above 0; None for no
                averaging over time.
            percentile: of the cells of a map, above 0 to 100, what is shown as 1; None divides each
                map by its own maximum.

        Raises:
            InputError: a setting is out of its range.
        """
        if half_life is not None and not 0 < half_life < math.inf:
            raise InputError(
                f"half-life {half_life} s: seconds above 0 were expected, or None for no averaging over time"
            )
        if percentile is not None and not 0 < percentile <= 100:
            raise InputError(
                f"percentile {percentile}: above 0 to 100 was expected, or None for each map's own maximum"
            )
        self.half_life = half_life
        self.percentile = percentile
        self._density: FloatMaps | None = None
        self._scale: npt.NDArray[np.float64] | None = None
        self._time = -math.inf

    @property
    def density(self) -> FloatMaps | None:
        """The averaged densities, float32 (N, h, w), before they are scaled and cut off at 1; None before the first.

        The largest cells of the maps to show are often all 1: where a map is largest is read here.
        """
        return self._density

    def reset(self) -> None:
        """Forget what was seen: the prompts or the source are others now."""
        self._density = None
        self._scale = None
        self._time = -math.inf

    def __call__(self, grids: FloatMaps, time: float) -> FloatMaps:
        """Maps to show for the newest grids.

        Another number or size of grids, a time before the last one and a gap of more than 5 seconds
        start afresh.

        Args:
            grids: the generator's output for N prompts, (N, h, w), 0 or larger. Cells that are no
                finite number count as 0.
            time: of the frame, in seconds on any clock.

        Returns:
            Float32 (N, h, w), 0..1.

        Raises:
            InputError: `grids` is no (N, h, w), or `time` is no finite number.
        """
        if grids.ndim != 3 or 0 in grids.shape:
            raise InputError(f"grids of shape {grids.shape} were given: (N, h, w) was expected")
        if not math.isfinite(time):
            raise InputError(f"time {time} was given: a finite number of seconds was expected")
        elapsed = time - self._time
        if self._density is not None and (self._density.shape != grids.shape or not 0 <= elapsed <= _GAP):
            self.reset()
        density = _density(grids)
        if self._density is not None and self.half_life is not None:
            density = self._density + np.float32(_share(elapsed, self.half_life)) * (density - self._density)
        scale = self._scaled(density, elapsed)
        self._density, self._time = density, time
        # A map of zeros has no scale; it stays what it is.
        factor = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
        shown: FloatMaps = np.clip(density * factor[:, None, None].astype(np.float32), 0, 1)
        return shown

    def _scaled(self, density: FloatMaps, elapsed: float) -> npt.NDArray[np.float64]:
        """The density that is shown as 1, (N,)."""
        if self.percentile is None:
            return np.asarray(density.max((1, 2)), np.float64)
        cells = density.reshape(len(density), -1)
        newest = np.asarray(np.percentile(cells, self.percentile, axis=1), np.float64)
        if self._scale is not None:
            share = np.where(
                newest > self._scale, _share(elapsed, _SCALE_RISES), _share(elapsed, _SCALE_FALLS)
            )
            newest = self._scale + share * (newest - self._scale)
        self._scale = newest
        return newest


def stabiliser_of(half_life: float, *, normalise: bool) -> Stabiliser | None:
    """What two settings ask for; None where each map stays as it is.

    Args:
        half_life: seconds, see `Stabiliser`; 0 for no averaging over time.
        normalise: scale maps by a running percentile; otherwise each by its own maximum.

    Raises:
        InputError: the half-life is out of its range.
    """
    if not half_life and not normalise:
        return None
    return Stabiliser(half_life or None) if normalise else Stabiliser(half_life or None, None)


def _density(grids: FloatMaps) -> FloatMaps:
    """Grids (N, h, w) with a sum of 1 each; zeros stay zeros."""
    values = np.where(np.isfinite(grids) & (grids > 0), grids, np.float32(0))
    # Divided by the maximum first: the sum of huge values would overflow.
    highest = values.max((1, 2), keepdims=True)
    values = np.divide(values, highest, out=np.zeros(values.shape, np.float32), where=highest > 0)
    total = values.sum((1, 2), keepdims=True)
    density: FloatMaps = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    return density


def _share(elapsed: float, half_life: float) -> float:
    """The newest value's weight: what came before halves every half-life."""
    return 1 - math.exp2(-elapsed / half_life)
