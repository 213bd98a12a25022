"""What one map does: where its peak lies, how much of it lies in boxes, how far a text moved it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from salgan_edge import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from salgan_edge.gaze.phrases import Box

    FloatMap = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

__all__ = ["MARGIN", "covered", "inside", "lift", "peak", "text_effect", "variation"]

MARGIN = 0.02
"""Share of the photo's width and height by which a box is widened on each side."""

_SMALLEST_SHARE = 1e-9


def peak(values: FloatMap) -> tuple[float, float]:
    """Middle of the largest pixel, x and y in shares of width and height; of several the first in reading order.

    >>> peak(np.array([[0, 0, 0, 1], [0, 0, 0, 0]], np.float32))
    (0.875, 0.25)
    """
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return (float(column) + 0.5) / values.shape[1], (float(row) + 0.5) / values.shape[0]


def inside(point: tuple[float, float], boxes: Iterable[Box], margin: float = MARGIN) -> bool:
    """Whether a point lies in one of the boxes, each widened by `margin` on every side.

    >>> inside((0.51, 0.3), [(0.2, 0.2, 0.5, 0.4)])
    True
    """
    x, y = point
    return any(
        x0 - margin <= x <= x1 + margin and y0 - margin <= y <= y1 + margin for x0, y0, x1, y1 in boxes
    )


def covered(boxes: Iterable[Box], shape: tuple[int, ...], margin: float = 0.0) -> Floats:
    """How much of each pixel lies in the boxes, (h, w) in 0..1; where several boxes cut one pixel, the most of them.

    Args:
        boxes: in shares of width and height.
        shape: (h, w).
        margin: by which each box is widened on every side; what leaves the photo is cut.
    """
    found = np.zeros(shape, np.float64)
    for x0, y0, x1, y1 in boxes:
        columns = _overlap(x0 - margin, x1 + margin, shape[1])
        rows = _overlap(y0 - margin, y1 + margin, shape[0])
        np.maximum(found, rows[:, None] * columns, out=found)
    return found


def _overlap(start: float, end: float, count: int) -> Floats:
    """Share of each of `count` equal cells of 0..1 that lies between start and end."""
    edges = np.arange(count + 1) / count
    shares: Floats = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None) * count
    return shares


def lift(told: FloatMap, untold: FloatMap, boxes: Floats) -> float:
    """Share of the told map's mass in the boxes over that of the untold map.

    Args:
        told: non-negative map (h, w).
        untold: the same without the text.
        boxes: of `covered`, (h, w).

    Returns:
        1 where the text moves nothing; NaN where neither map has anything there.
    """
    shares = [float((_density(values) * boxes).sum()) for values in (told, untold)]
    if max(shares) <= _SMALLEST_SHARE:
        return float("nan")
    return shares[0] / max(shares[1], _SMALLEST_SHARE)


def text_effect(told: FloatMap, untold: FloatMap) -> float:
    """1 less the correlation of the two maps: 0 for the same map, 1 for unrelated ones, at most 2."""
    return 0.0 if np.array_equal(told, untold) else max(0.0, 1 - metrics.cc(told, untold))


def variation(told: FloatMap, untold: FloatMap) -> float:
    """Total variation distance of the two maps as densities, 0..1: the mass that the text moves."""
    return float(np.abs(_density(told) - _density(untold)).sum() / 2)


def _density(values: FloatMap) -> Floats:
    """A map with the sum 1; uniform where it is empty."""
    found = values.astype(np.float64)
    total = float(found.sum())
    return found / total if total > 0 else np.full(values.shape, 1 / values.size)
