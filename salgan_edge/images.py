"""Image files as RGB arrays, and arrays as image files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from salgan_edge.errors import ImageError, OutputError
from salgan_edge.files import writing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "read_image", "write_image"]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What a folder is searched for and what makes an argument look like an image."""

MAX_PIXELS = 2**28
"""Largest image read, 268 megapixels: decoded it takes 0.8 GB."""

# OpenCV reads its limit when it is first imported; a user's own setting wins.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """An image file as RGB uint8 (H, W, 3), turned upright by its EXIF orientation.

    Grey images are repeated to three channels, 16-bit ones scaled to 8, CMYK converted, an alpha
    channel is dropped.

    Raises:
        ImageError: the file is missing, unreadable, empty, no image, truncated, or larger than
            `MAX_PIXELS`.
    """
    import cv2  # noqa: PLC0415 - 0.1 s that `--help` need not pay
    import numpy as np  # noqa: PLC0415

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist: give the path of an image") from None
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from error
    if not data:
        raise ImageError(f"{path} is empty (0 bytes): an image was expected")
    if _is_truncated(data):
        raise ImageError(f"{path} is truncated: its end is missing, copy or download it again")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise ImageError(
                f"{path} has more than {MAX_PIXELS // 10**6} megapixels: make it smaller first"
            ) from error
        raise ImageError(f"{path} cannot be decoded: {error.err}") from error
    if decoded is None:
        raise ImageError(
            f"{path} is not a readable image: a {', '.join(sorted(s[1:] for s in IMAGE_SUFFIXES))} file was expected"
        )
    rgb: npt.NDArray[np.uint8] = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
    return rgb


def write_image(path: Path, pixels: npt.NDArray[np.uint8 | np.uint16], quality: int = 92) -> None:
    """Write RGB uint8 (H, W, 3) or one grey channel (H, W), 8 or 16 bit; the suffix picks the format.

    Args:
        path: where; the file appears complete or not at all.
        pixels: what.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        OutputError: no such format, or the place cannot be written.
    """
    import cv2  # noqa: PLC0415

    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise OutputError(
            f"cannot write {path}: {path.suffix or 'no suffix'} is no image format; use .png or .jpg"
        )
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    suffix = path.suffix.lower()
    options = []
    if suffix in (".jpg", ".jpeg"):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif suffix == ".webp":
        options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    try:
        encoded, buffer = cv2.imencode(suffix, ordered, options)
    except cv2.error as error:
        raise OutputError(f"cannot write {path} as {path.suffix}: {error.err}; use .png or .jpg") from error
    if not encoded:
        raise OutputError(f"cannot write {path} as {path.suffix}; use .png or .jpg")
    with writing(path) as temporary:
        temporary.write_bytes(buffer.tobytes())


def _is_truncated(data: bytes) -> bool:
    """Whether the end of a JPEG, PNG or WebP is missing; decoders would fill it with grey.

    A JPEG's end marker follows its last start-of-scan marker: neither can occur inside a scan,
    where 0xff is always followed by 0x00 or a restart marker.
    """
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-4096:]
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False
