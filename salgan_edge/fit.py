"""From a photo's pixels towards the generator's input, where that is cheaper outside the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import uint8

    Pixels = npt.NDArray[uint8]

__all__ = ["fit"]

_BELOW = 0.2
"""How far below the input's side averaging may go, as a share of it: 480 rows become 240 for 256."""
_STRAIGHT = 1.3
"""Up to so many times the input's side, straight lines between pixels lose nothing that can be measured."""


def fit(pixels: Pixels, height: int, width: int) -> Pixels:
    """A photo at the size of the generator's input, or nearer to it.

    The graph resizes with antialiasing in floating point, as training did: 0.4 ms for 320x240 pixels, a tenth of
    its time. OpenCV averages whole pixels of 8 bits and draws straight lines between what remains
    in a fraction of that. Where averaging does not come close enough to the input's size, lines
    would skip pixels, and the graph does the rest. What it does to accuracy: docs/explanation/speed.md.

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

        return cast("Pixels", cv2.resize(averaged, (width, height), interpolation=cv2.INTER_LINEAR))
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
