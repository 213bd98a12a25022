"""Images in and out: whatever holds a picture as an RGB array, and arrays as image files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from salgan_edge.errors import ImageError, OutputError
from salgan_edge.files import writing
from salgan_edge.image_header import is_truncated, read_header

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

    class _Array(Protocol):
        """What numpy reads without a copy, such as a Pillow image."""

        __array_interface__: dict[str, Any]

    class _Tensor(Protocol):
        """What other array libraries give, such as a torch tensor on the CPU."""

        def __dlpack__(self) -> Any: ...

    ImageLike = (
        str
        | os.PathLike[str]
        | bytes
        | bytearray
        | memoryview
        | IO[bytes]
        | npt.NDArray[Any]
        | _Array
        | _Tensor
    )

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "encode_image",
    "load_image",
    "read_image",
    "write_image",
]

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".jp2", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""What a folder is searched for and what makes an argument look like an image."""

MAX_PIXELS = 2**28
"""Largest image read, 268 megapixels: decoded it takes 0.8 GB."""

_MAX_BYTES = 2**30
"""Most that is read of a pipe or device, which may never end."""
_WHITE = (255, 255, 255)
_GIVE = "a path, bytes, a file object, a Pillow image or an array (H, W), (H, W, 3) or (H, W, 4) was expected"


# Reading


def load_image(image: ImageLike, *, bgr: bool = False, background: tuple[int, int, int] = _WHITE) -> Pixels:
    """Any picture as RGB uint8 (H, W, 3).

    >>> import numpy as np
    >>> from salgan_edge import load_image
    >>> load_image(np.array([[0.0, 1.0]]))[0].tolist()
    [[0, 0, 0], [255, 255, 255]]

    Args:
        image: path of a file; a file's content as bytes, or a binary file object; a Pillow image; or an
            array: anything with numpy's array interface, or with DLPack on the CPU (a torch tensor).
            Arrays are grey (H, W) or (H, W, 1), RGB (H, W, 3) or RGBA (H, W, 4), of type uint8, uint16
            (0..65535) or float (0..1).
        bgr: an array's colours are in OpenCV's order, BGR or BGRA.
        background: colour (red, green, blue), 0..255, that shows through where the image is transparent.

    Returns:
        Upright by its EXIF orientation. An RGB uint8 array is returned as it is, without a copy where it
        is contiguous.

    Raises:
        ImageError: it is missing, empty, damaged, too large, or no image.
    """
    import numpy as np  # noqa: PLC0415 - 0.1 s that `--help` need not pay

    if isinstance(image, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(image, "read"):
        return read_image(cast("Any", image), background=background)
    if hasattr(image, "convert") and hasattr(image, "getexif"):
        array, bgr = _from_pillow(image), False
    elif isinstance(image, np.ndarray):
        array = image
    elif hasattr(image, "__array_interface__"):
        array = np.asarray(image)
    elif hasattr(image, "__dlpack__"):
        array = _from_dlpack(image)
    elif isinstance(image, (list, tuple)):
        raise ImageError(
            f"a {type(image).__name__} was given as image: one image was expected, several go to predict_batch"
        )
    else:
        raise ImageError(f"a {type(image).__name__} was given as image: {_GIVE}")
    return _rgb(array, bgr=bgr, background=background)


def read_image(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes],
    *,
    background: tuple[int, int, int] = _WHITE,
) -> Pixels:
    """An image file as RGB uint8 (H, W, 3), turned upright by its EXIF orientation.

    Grey images are repeated to three channels, 16-bit ones scaled to 8, CMYK converted, transparent
    ones laid on a background.

    Args:
        source: path, a file's content, or a file object opened for reading bytes.
        background: (red, green, blue), 0..255, where the image is transparent.

    Raises:
        ImageError: the file is missing, unreadable, empty, no image, truncated, or larger than
            `MAX_PIXELS`.
    """
    import cv2  # noqa: PLC0415 - 0.1 s that `--help` need not pay
    import numpy as np  # noqa: PLC0415

    name, data = _content(source)
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): an image was expected")
    header = read_header(data)
    if header is not None and header.width * header.height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {header.width}x{header.height} pixels, more than {MAX_PIXELS // 10**6} megapixels: make it smaller first"
        )
    if is_truncated(data):
        raise ImageError(f"{name} is truncated: its end is missing, copy or download it again")
    buffer = np.frombuffer(data, np.uint8)
    try:
        if header is not None and header.alpha:
            decoded = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            if decoded is not None and decoded.ndim == 3 and decoded.shape[2] == 4:
                if header.format == "tiff" and decoded.dtype == np.uint8:
                    # OpenCV turns these itself, and has multiplied their colours by the opacity.
                    alpha = np.maximum(decoded[..., 3:].astype(np.uint16), 1)
                    decoded[..., :3] = np.minimum(
                        (decoded[..., :3] * np.uint16(255) + alpha // 2) // alpha, 255
                    )
                    return _rgb(decoded, bgr=True, background=background)
                return _upright(_rgb(decoded, bgr=True, background=background), header.orientation)
        decoded = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise ImageError(f"{name} is larger than OpenCV reads: make it smaller first") from error
        raise ImageError(f"{name} cannot be decoded: {error.err}") from error
    if decoded is None:
        known = ", ".join(sorted(s[1:] for s in IMAGE_SUFFIXES))
        found = "" if header is None else f" that can be decoded here ({header.format})"
        raise ImageError(f"{name} is not a readable image{found}: a {known} file was expected")
    return cast("Pixels", cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _content(source: Any) -> tuple[str, bytes]:
    """What messages call a source, and all of its bytes."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the image given as bytes", bytes(source)
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        data = source.read()
        if not isinstance(data, (bytes, bytearray)):
            raise ImageError(
                f"a file object that gives {type(data).__name__} was given: open it in binary mode, 'rb'"
            )
        return name if isinstance(name, str) else "the image given as a file", bytes(data)
    path = Path(source)
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return str(path), path.read_bytes()
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist: give the path of an image") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > _MAX_BYTES:
        raise ImageError(f"{path} gives more than {_MAX_BYTES // 2**20} MiB: an image was expected")
    return str(path), data


def _from_pillow(image: Any) -> npt.NDArray[Any]:
    """A Pillow image as an array, upright: palettes, CMYK and masks do not survive its array interface."""
    import numpy as np  # noqa: PLC0415

    image.load()  # turns a TIFF, and takes its mark away
    orientation = image.getexif().get(0x0112, 1)
    if image.mode.startswith("I;16"):
        array = np.asarray(image)
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        array = np.asarray(image.convert("RGBA"))
    elif image.mode in ("I", "F"):
        raise ImageError(
            f"a Pillow image of mode {image.mode} was given, whose range is not known: convert it to L or RGB"
        )
    else:
        array = np.asarray(image.convert("RGB"))
    return _upright(array, orientation if isinstance(orientation, int) else 1)


def _from_dlpack(image: Any) -> npt.NDArray[Any]:
    import numpy as np  # noqa: PLC0415

    detach = getattr(image, "detach", None)
    try:
        return np.from_dlpack(detach() if callable(detach) else image)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ImageError(
            f"a {type(image).__name__} was given that numpy cannot read ({str(error).splitlines()[0]}): copy it to the CPU first"
        ) from error


def _rgb(array: npt.NDArray[Any], *, bgr: bool, background: tuple[int, int, int]) -> Pixels:
    """An array of any of the accepted kinds as RGB uint8 (H, W, 3)."""
    import numpy as np  # noqa: PLC0415

    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = "; channels go last: transpose it, (C, H, W) to (H, W, C)" if first else ""
        raise ImageError(
            f"an array {array.dtype} {array.shape} was given: (H, W), (H, W, 3) or (H, W, 4) was expected{hint}"
        )
    if 0 in array.shape:
        raise ImageError(f"the image has no pixels: its shape is {array.shape}")
    array = _bytes_of(array)
    channels = array.shape[2]
    if channels == 1:
        return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))
    if channels == 4:
        colours = array[..., 2::-1] if bgr else array[..., :3]
        alpha = array[..., 3:].astype(np.uint16)
        behind = np.asarray(background, np.uint16)
        # (c a + b (255 - a)) / 255, rounded
        laid = (colours * alpha + behind * (255 - alpha) + 127) // 255
        return cast("Pixels", laid.astype(np.uint8))
    return np.ascontiguousarray(array[..., ::-1] if bgr else array)


def _bytes_of(array: npt.NDArray[Any]) -> Pixels:
    """Levels of an array as uint8.

    Raises:
        ImageError: another type, or floats outside 0..1.
    """
    import numpy as np  # noqa: PLC0415

    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return cast("Pixels", ((array.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if np.issubdtype(array.dtype, np.floating):
        lowest, highest = float(array.min()), float(array.max())
        if not (lowest >= -1e-3 and highest <= 1 + 1e-3):
            raise ImageError(
                f"a {array.dtype} array with values from {lowest:g} to {highest:g} was given: floats in 0..1, or uint8, were expected"
            )
        return cast("Pixels", np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8))
    raise ImageError(
        f"an array {array.dtype} {array.shape} was given: uint8, uint16 or floats in 0..1 were expected"
    )


def _upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Pixels (H, W, ...) as their EXIF orientation, 1 to 8, wants them shown."""
    import numpy as np  # noqa: PLC0415

    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


# Writing


def write_image(path: Path, pixels: npt.NDArray[np.uint8 | np.uint16], quality: int = 92) -> None:
    """Write RGB uint8 (H, W, 3) or one grey channel (H, W), 8 or 16 bit; the suffix picks the format.

    Args:
        path: where; the file appears complete or not at all.
        pixels: what.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        OutputError: no such format, or the place cannot be written.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise OutputError(
            f"cannot write {path}: {path.suffix or 'no suffix'} is no image format; use .png or .jpg"
        )
    try:
        content = encode_image(pixels, path.suffix, quality)
    except OutputError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
    with writing(path) as temporary:
        temporary.write_bytes(content)


def encode_image(pixels: npt.NDArray[np.uint8 | np.uint16], suffix: str, quality: int = 92) -> bytes:
    """The content of an image file; `write_image` says what is taken.

    Args:
        pixels: RGB uint8 (H, W, 3), or grey (H, W), 8 or 16 bit.
        suffix: of the format, such as ``.png``.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        OutputError: no such format, or one that cannot hold these pixels.
    """
    import cv2  # noqa: PLC0415

    suffix = suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise OutputError(f"{suffix or 'no suffix'} is no image format: .png or .jpg was expected")
    options = {".webp": [cv2.IMWRITE_WEBP_QUALITY, quality]}.get(suffix, [])
    if suffix in (".jpg", ".jpeg"):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    try:
        encoded, buffer = cv2.imencode(suffix, ordered, options)
    except cv2.error as error:
        raise OutputError(f"{suffix} does not hold it ({error.err}): use .png or .jpg") from error
    if not encoded:
        raise OutputError(f"{suffix} does not hold it: use .png or .jpg")
    return buffer.tobytes()
