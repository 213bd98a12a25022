"""What an image file is, by its content: format, size, orientation and transparency, without decoding."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ImageHeader", "is_truncated", "read_header"]


class ImageHeader(NamedTuple):
    """What an image file's header says."""

    format: str
    """``jpeg``, ``png``, ``webp``, ``gif``, ``bmp``, ``tiff``, ``jp2``, ``pnm``, ``avif`` or ``heic``."""
    width: int
    """In pixels, as stored; 0 where the header does not say."""
    height: int
    orientation: int = 1
    """EXIF's, 1 (upright) to 8."""
    alpha: bool = False
    """Whether it may be transparent somewhere."""


def read_header(data: bytes) -> ImageHeader | None:
    """Format, size, orientation and transparency of an image file's content; nothing is decoded.

    Returns:
        None where the format is none of those known, or the header is damaged.
    """
    try:
        return _header(data)
    except (IndexError, KeyError, ValueError, struct.error):
        return None


def _header(data: bytes) -> ImageHeader | None:
    for signature, start, reader in _READERS:
        if data.startswith(signature, start):
            return reader(data)
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    orientation = 1
    for marker, start, length in _jpeg_segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            orientation = _orientation(_tiff_tags(data[start + 6 : start + length]))
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, start + 1)
            return ImageHeader("jpeg", width, height, orientation)
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, place and length of each segment of a JPEG's header."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without content
            at += 2
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        yield marker, at + 4, length - 2
        if marker == 0xDA:
            return
        at += 2 + length


def _png(data: bytes) -> ImageHeader:
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    orientation, alpha, at = 1, colour in (4, 6), 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"tRNS":
            alpha = True
        elif kind == b"eXIf":
            orientation = _orientation(_tiff_tags(data[at + 8 : at + 8 + length]))
        at += 12 + length
    return ImageHeader("png", width, height, orientation, alpha)


def _webp(data: bytes) -> ImageHeader | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, alpha=bool(bits >> 28 & 1))
    if kind != b"VP8X":
        return None
    flags = data[20]
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    orientation, at = 1, 12
    while flags & 0x08 and at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            exif = data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
            orientation = _orientation(_tiff_tags(exif))
        at += 8 + length + length % 2
    return ImageHeader("webp", width, height, orientation, bool(flags & 0x10))


def _isobmff(data: bytes) -> ImageHeader | None:
    """AVIF and HEIC, told apart by their brands; the size is the first ``ispe`` box's."""
    brands = data[8 : struct.unpack_from(">I", data)[0]]
    if b"avif" in brands or b"avis" in brands:
        name = "avif"
    elif any(brand in brands for brand in (b"heic", b"heix", b"heim", b"hevc", b"mif1")):
        name = "heic"
    else:
        return None  # a video
    at = data.find(b"ispe", 0, 65536)
    width, height = struct.unpack_from(">II", data, at + 8) if at >= 0 else (0, 0)
    return ImageHeader(name, width, height)


def _gif(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", data, 6)
    return ImageHeader("gif", width, height, alpha=True)


def _bmp(data: bytes) -> ImageHeader:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2's header
        return ImageHeader("bmp", *struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    return ImageHeader("bmp", width, abs(height))


def _tiff(data: bytes) -> ImageHeader:
    tags = _tiff_tags(data)
    extra_samples = 0x0152 in tags
    return ImageHeader("tiff", tags[0x0100], tags[0x0101], _orientation(tags), extra_samples)


def _jp2(data: bytes) -> ImageHeader:
    at = data.index(b"ihdr", 0, 4096)
    height, width = struct.unpack_from(">II", data, at + 4)
    return ImageHeader("jp2", width, height)


def _pnm(data: bytes) -> ImageHeader:
    uncommented = [line.split(b"#")[0] for line in data[2:4096].splitlines()]
    width, height = b" ".join(uncommented).split()[:2]
    return ImageHeader("pnm", int(width), int(height))


def _tiff_tags(data: bytes) -> dict[int, int]:
    """First value of each whole-number tag of a TIFF's first directory, which is also EXIF's form."""
    order = {b"II": "<", b"MM": ">"}[data[:2]] if data[:2] in (b"II", b"MM") else ""
    if not order:
        return {}
    at = struct.unpack_from(f"{order}I", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, at)[0]
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        form = {1: "B", 3: "H", 4: "I"}.get(kind)
        if form:
            size = struct.calcsize(form) * struct.unpack_from(f"{order}I", data, entry + 4)[0]
            place = entry + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, entry + 8)[0]
            tags[tag] = struct.unpack_from(f"{order}{form}", data, place)[0]
    return tags


def _orientation(tags: dict[int, int]) -> int:
    value = tags.get(0x0112, 1)
    return value if 1 <= value <= 8 else 1


_READERS: tuple[tuple[bytes | tuple[bytes, ...], int, Callable[[bytes], ImageHeader | None]], ...] = (
    (b"\xff\xd8", 0, _jpeg),
    (b"\x89PNG\r\n\x1a\n", 0, _png),
    (b"WEBP", 8, _webp),
    ((b"GIF87a", b"GIF89a"), 0, _gif),
    (b"BM", 0, _bmp),
    ((b"II*\0", b"MM\0*"), 0, _tiff),
    (b"jP  ", 4, _jp2),
    (tuple(b"P%d" % number for number in range(1, 7)), 0, _pnm),
    (b"ftyp", 4, _isobmff),
)
"""Bytes by which a format is known, where they stand, and who reads it."""


def is_truncated(data: bytes) -> bool:
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
