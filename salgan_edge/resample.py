"""Towards the generator's input, where that is cheaper outside the graph, and from its grid back to a photo's pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    FloatMap = npt.NDArray[np.float32]

__all__ = ["PREPARATION", "enlarge", "fit", "refine"]

PREPARATION = "fit-1"
"""Name of what `fit` does to a photo before the graph, as manifests have it. Another name whenever its pixels change: golden
outputs were made with it, and `verify` fails where they no longer come out."""


_BELOW = 0.2
"""How far below the input's side averaging may go, as a share of it: 480 rows become 240 for 256."""
_STRAIGHT = 1.3
"""Up to so many times the input's side, straight lines between pixels lose nothing that can be measured."""
_FINER = 8
"""Cubic interpolation to this many times the grid's resolution; from there on straight lines are close enough."""


def fit(pixels: Pixels, height: int, width: int) -> Pixels:
    """A photo at the size of the generator's input, or nearer to it.

    The graph resizes with antialiasing in floating point, as training did: 0.4 ms for 320x240 pixels, a tenth of
    its time. OpenCV averages whole pixels of 8 bits and draws straight lines between what remains
    in a fraction of that. Where averaging does not come close enough to the input's size, lines
    would skip pixels, and the graph does the rest. What it does to accuracy: docs/explanation/speed.md.
    Both are bit for bit the same on every machine.

    Args:
        pixels: RGB (H, W, 3).
        height: of the input, in pixels.
        width: of the input, in pixels.

    Returns:
        RGB (h, w, 3), the photo itself where nothing is done. Where whole factors leave pixels over at the right
        and below, fewer than one factor, they are dropped: at most about half a pixel of the input.
    """
    rows, columns = pixels.shape[0] / height, pixels.shape[1] / width
    down, across = max(1, int(rows + _BELOW)), max(1, int(columns + _BELOW))
    if max(rows / down, columns / across) <= _STRAIGHT:
        averaged = _averaged(pixels, down, across)
        if averaged.shape[:2] == (height, width):
            return averaged
        import cv2  # noqa: PLC0415 - not needed for photos of the input's size

        return cast("Pixels", cv2.resize(averaged, (width, height), interpolation=cv2.INTER_LINEAR_EXACT))
    factor = min(down, across)
    return _averaged(pixels, factor, factor)


def _averaged(pixels: Pixels, down: int, across: int) -> Pixels:
    """Means of blocks of `down` x `across` pixels; what is left over at the right and below is dropped."""
    if down == across == 1:
        return pixels
    import cv2  # noqa: PLC0415 - needed for larger photos only

    rows, columns = pixels.shape[0] // down, pixels.shape[1] // across
    whole = pixels[: rows * down, : columns * across]
    return cast("Pixels", cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA))


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
    import cv2  # noqa: PLC0415 - as above

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
    import cv2  # noqa: PLC0415 - as above

    size = (min(width, _FINER * grid.shape[1]), min(height, _FINER * grid.shape[0]))
    finer = cast("FloatMap", cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC))
    cv2.threshold(finer, 0, 0, cv2.THRESH_TOZERO, dst=finer)
    return finer, max(cv2.minMaxLoc(finer)[1], 1.0)
