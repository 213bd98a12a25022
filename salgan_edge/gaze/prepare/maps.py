"""Published saliency maps: blurred fixations as grey images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from salgan_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["MAP_SIDE", "read_map", "shrunk"]

MAP_SIDE = 320
"""Longest side of a packed map in pixels."""

_COLOUR = 24
"""Grey images saved as colour JPEG differ by less between channels."""


def read_map(path: Path) -> npt.NDArray[np.float32]:
    """A grey map (h, w) in 0..255; 8-bit values stay as they are, others are scaled to a peak of 255.

    Raises:
        DataError: the file is unreadable, empty, a picture in colours (a heat map's order of colours
            is not the order of their lightness), or has two values only (points, not yet blurred); the
            message says what it is, the caller which file.
    """
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise DataError("no readable image")
    eight_bit = read.dtype == np.uint8
    if read.ndim == 3:
        # The fourth channel is opacity.
        colours = read[..., :3].astype(np.float32)
        if float((colours.max(axis=2) - colours.min(axis=2)).max()) > _COLOUR * float(colours.max()) / 255:
            raise DataError("a map in colours, grey was expected")
        read = colours.mean(axis=2)
    values: npt.NDArray[np.float32] = np.nan_to_num(read.astype(np.float32)).clip(0, None)
    peak = float(values.max())
    if peak <= 0:
        raise DataError("no value above zero")
    if np.count_nonzero(values) < values.size and np.all((values == 0) | (values == peak)):
        raise DataError("two values only: fixations, not a blurred map")
    return values if eight_bit else (values * np.float32(255 / peak)).astype(np.float32)


def shrunk(values: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """An image (h, w) or (h, w, 3) whose longest side is at most `side`; smaller ones stay as they are."""
    height, width = values.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return values
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA))
