"""From the generator's grid to a photo's pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatMap = npt.NDArray[np.float32]

__all__ = ["enlarge", "refine"]

_FINER = 8
"""Cubic interpolation to this many times the grid's resolution; from there on straight lines are close enough."""


def enlarge(grid: FloatMap, width: int, height: int) -> FloatMap:
    """A map of `width` x `height` pixels.

    For the generator's maps it is that of cubic interpolation within 0.002, in half the time or less: cubic interpolation in
    floating point takes far longer for a pixel than linear interpolation does, and a grid is smooth.

    Args:
        grid: saliency (h, w), 0..1, relative to its largest value.
        width: of the map, in pixels.
        height: of the map, in pixels.

    Returns:
        Float32 (height, width), 0..1.
    """
    finer, highest = refine(grid, width, height)
    if highest > 1:
        np.multiply(finer, np.float32(1 / highest), out=finer)
    if finer.shape != (height, width):
        finer = cast("FloatMap", cv2.resize(finer, (width, height), interpolation=cv2.INTER_LINEAR))
    # Rounding can leave 1 by a few parts in ten million.
    cv2.threshold(finer, 1, 1, cv2.THRESH_TRUNC, dst=finer)
    return finer


def refine(grid: FloatMap, width: int, height: int) -> tuple[FloatMap, float]:
    """The grid at several times its resolution, or at `width` x `height` pixels where that is less.

    Cubic interpolation overshoots a little at both ends. Below 0 it is cut off; above 1 that would
    leave a plateau, whose first pixel is not its middle.

    Returns:
        Float32 values of 0 and more, and what counts as 1: their largest value, but at least 1.
    """
    size = (min(width, _FINER * grid.shape[1]), min(height, _FINER * grid.shape[0]))
    finer = cast("FloatMap", cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC))
    cv2.threshold(finer, 0, 0, cv2.THRESH_TOZERO, dst=finer)
    return finer, max(cv2.minMaxLoc(finer)[1], 1.0)
