"""Files of gaze: published saliency maps, and fixations as images, MATLAB files, NumPy arrays and tables.

A reader's errors say what is wrong; the caller says with which file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from salgan_edge.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Points = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

__all__ = ["MAP_SIDE", "POINT_SUFFIXES", "read_map", "read_points", "shrunk"]

MAP_SIDE = 320
"""Longest side of a packed map in pixels."""

_IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"})
_TABLES = frozenset({".csv", ".txt"})

POINT_SUFFIXES = _IMAGES | _TABLES | {".mat", ".npy"}
"""What a file of fixations may end in."""

_LARGEST_SHARE = 0.1
"""A point image has fewer lit pixels than this share: more is a blurred map."""

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


def read_points(path: Path, size: tuple[int, int]) -> Points:
    """Fixations of one photo as x and y (n, 2) in its pixels, counted from 0.

    - An image, or a grid in a ``.npy`` or ``.mat`` file: every pixel above zero is a fixation; of a
      JPEG, whose compression leaves traces around points, every pixel above half of the largest.
      A grid of another size than the photo is scaled to it.
    - ``.npy`` of shape (n, 2), and ``.txt`` or ``.csv`` with x and y in columns of that name or the
      first two: counted from 0.
    - ``.mat``: points of shape (n, 2), or SALICON's ``gaze`` with ``fixations`` of each viewer, are
      counted from 1, as MATLAB does.

    Args:
        path: the file.
        size: width and height of the photo.

    Returns:
        Points, some of which may lie outside the photo.

    Raises:
        DataError: the file is unreadable or holds no fixations in one of these forms; the message says
            what it is, the caller which file.
        MissingDependencyError: a MATLAB file without SciPy.
    """
    suffix = path.suffix.lower()
    if suffix in _IMAGES:
        return _from_image(path, size)
    if suffix in _TABLES:
        return _whole(_table(path))
    if suffix == ".mat":
        return _from_matlab(path, size)
    try:
        array = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"no readable array: {error}") from error
    if _is_points(array, size):
        return _whole(array.astype(np.float64))
    return _from_grid(array, size)


def _from_image(path: Path, size: tuple[int, int]) -> Points:
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise DataError("no readable image")
    # The fourth channel is opacity.
    values = read if read.ndim == 2 else read[..., :3].max(axis=2)
    lossy = path.suffix.lower() in (".jpeg", ".jpg")
    return _from_grid(values > (values.max() / 2 if lossy else 0), size)


def _from_grid(grid: npt.NDArray[Any], size: tuple[int, int]) -> Points:
    """Positions of what is above zero in a grid (h, w), scaled to the photo."""
    if grid.ndim != 2 or grid.size == 0 or grid.dtype.kind not in "biuf":
        raise DataError(f"an array of shape {grid.shape}, points (n, 2) or a grid were expected")
    rows, columns = np.nonzero(grid > 0)
    if len(rows) > _LARGEST_SHARE * grid.size:
        raise DataError(f"{len(rows) / grid.size:.0%} of the pixels lit: a blurred map, points were expected")
    points = np.stack([columns, rows], axis=1)
    return _scaled(points.astype(np.float64), (grid.shape[1], grid.shape[0]), size)


def _scaled(points: Floats, frame: tuple[int, int], size: tuple[int, int]) -> Points:
    """Pixels of a frame as pixels of the photo: middles of pixels are moved."""
    if frame == size:
        return _whole(points)
    return _whole((points + 0.5) * np.array(size) / np.array(frame))


def _whole(points: Floats) -> Points:
    """Pixels that points lie in; what is not a number becomes -1, so that it counts as outside the photo."""
    whole: Points = np.floor(np.where(np.isfinite(points), points, -1).clip(-1, 2**31)).astype(np.int64)
    return whole


def _is_points(array: npt.NDArray[Any], size: tuple[int, int]) -> bool:
    return (
        array.ndim == 2
        and array.shape[1] == 2
        and array.shape != (size[1], size[0])
        and array.dtype.kind in "biuf"
    )


def _table(path: Path) -> Floats:
    """Columns x and y, separated by commas, semicolons or blanks, perhaps below a heading."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}") from error
    rows = [re.split(r"[,;\s]+", line.strip(" \t\r,;")) for line in lines if line.strip(" \t\r,;")]
    where = (0, 1)
    if rows and not _is_number(rows[0][0]):
        heading = [cell.strip('"').lower() for cell in rows.pop(0)]
        where = (heading.index("x"), heading.index("y")) if {"x", "y"} <= set(heading) else where
    try:
        points = [(float(row[where[0]]), float(row[where[1]])) for row in rows]
    except (IndexError, ValueError) as error:
        raise DataError(f"no table of x and y: {error}") from error
    return np.array(points, np.float64).reshape(-1, 2)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _from_matlab(path: Path, size: tuple[int, int]) -> Points:
    try:
        from scipy.io import loadmat  # noqa: PLC0415 - only some data sets need it
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{path} is a MATLAB file and SciPy is not installed: pip install scipy"
        ) from error
    try:
        content = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"no MATLAB file up to version 7.2: {str(error).splitlines()[0]}") from error
    frame = size
    if "resolution" in content and np.size(content["resolution"]) == 2:
        height, width = (int(side) for side in np.ravel(content.pop("resolution")))
        frame = (width, height)
    if "gaze" in content:
        # MATLAB counts from 1: the middle of the first pixel is 1.
        return _scaled(np.floor(_viewers(content["gaze"]) - 0.5), frame, size)
    arrays = [value for value in content.values() if value.ndim == 2 and value.dtype.kind in "biuf"]
    grids = [array for array in arrays if min(array.shape) > 2]
    points = [array for array in arrays if _is_points(array, size)]
    if len(grids) == 1:
        return _from_grid(grids[0], size)
    if len(points) == 1 and not grids:
        return _scaled(np.floor(points[0].astype(np.float64) - 0.5), frame, size)
    raise DataError(
        f"the variables {', '.join(content) or '(none)'}: one grid, one array of points (n, 2) or SALICON's gaze was expected"
    )


def _viewers(gaze: npt.NDArray[Any]) -> Floats:
    """Fixations of all viewers from SALICON's array of structures, as they are."""
    if gaze.dtype.names is None or "fixations" not in gaze.dtype.names:
        raise DataError("a variable gaze without the field fixations, which SALICON's has")
    parts = [np.asarray(part, np.float64) for part in gaze["fixations"].ravel()]
    seen = [part for part in parts if part.size]
    if any(part.ndim != 2 or part.shape[1] != 2 for part in seen):
        raise DataError("fixations of another shape than (n, 2)")
    return np.concatenate(seen) if seen else np.zeros((0, 2))
