"""Images out of a pipe: JPEG and PNG one after the other, as ``ffmpeg -f image2pipe`` writes them."""

from __future__ import annotations

import io
import re
import time
from typing import TYPE_CHECKING, BinaryIO, cast

import cv2
import numpy as np

from salgan_edge.errors import SourceError
from salgan_edge.video.capture import rgb
from salgan_edge.video.files import is_text
from salgan_edge.video.frames import ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["PipeCapture", "images_of"]

_CHUNK = 1 << 16
_LARGEST_IMAGE = 1 << 28
_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_NEXT_IMAGE = re.compile(re.escape(_JPEG) + b"|" + re.escape(_PNG))
# Inside a scan 0xff stands before 0x00, a restart marker or another 0xff; anything else ends the scan.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_OF_APPLICATIONS = range(0xE0, 0xF0)
_COMMAND = "`ffmpeg -i INPUT -f image2pipe -c:v mjpeg -q:v 3 -`"

_CONTAINERS = (
    (re.compile(rb"....(?:ftyp|moov|mdat|free|wide)", re.DOTALL), "an MP4 or QuickTime video"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "an AVI video"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "a WebP image"),
    (re.compile(rb"\x1aE\xdf\xa3"), "a Matroska or WebM video"),
    (re.compile(rb"G.{187}G", re.DOTALL), "an MPEG transport stream"),
    (re.compile(rb"\x00\x00(?:\x00)?\x01"), "a raw H.264, H.265 or MPEG stream"),
    (re.compile(rb"YUV4MPEG2"), "raw YUV4MPEG frames"),
    (re.compile(rb"FLV\x01"), "a Flash video"),
    (re.compile(rb"OggS"), "an Ogg file"),
    (re.compile(rb"GIF8"), "a GIF image"),
    (re.compile(rb"BM....\x00\x00\x00\x00", re.DOTALL), "a BMP image"),
    (re.compile(rb"P[1-7]\s"), "a Netpbm image"),
    (re.compile(rb"\x1f\x8b"), "a gzip file"),
    (re.compile(rb"PK\x03\x04"), "a zip file"),
)


class PipeCapture:
    """The images of a pipe as a `salgan_edge.video.sources.Capture`.

    Args:
        file: open for reading bytes; not closed.
        name: for messages.
        notice: takes one line about damaged images and a cut end.

    Raises:
        SourceError: the file is a terminal.
    """

    def __init__(self, file: BinaryIO, name: str, notice: Callable[[str], None] = ignore) -> None:
        if file.isatty():
            raise SourceError(f"{name} is a terminal: pipe images into it, {_COMMAND}")
        self._images = images_of(file, name, notice)
        self._name = name
        self._notice = notice
        self._number = 0
        self._decoded = 0

    def read(self) -> tuple[Pixels, float]:
        """The next image that can be decoded.

        Raises:
            EOFError: the pipe has ended.
            SourceError: none of its images could be decoded, or it holds something else.
        """
        for data in self._images:
            captured = time.monotonic()
            self._number += 1
            image = _decode(data)
            if image is not None:
                self._decoded += 1
                return image, captured
            self._notice(f"image {self._number} from {self._name} cannot be decoded and is skipped")
        if not self._decoded:
            raise SourceError(f"{self._name} ended without one readable image: send JPEG or PNG, {_COMMAND}")
        raise EOFError

    def close(self) -> None:
        """Leave the file to whoever opened it."""


def images_of(file: BinaryIO, name: str, notice: Callable[[str], None] = ignore) -> Iterator[bytes]:
    """The encoded images of a pipe, each from its first to its last byte.

    What stands between images is skipped, and so is a damaged image up to the next beginning.

    Raises:
        SourceError: it does not begin with an image, an image has no end, or reading fails.
    """
    reading = _Reading(file, name)
    if not reading.more(len(_PNG)) and not reading.buffer:
        raise SourceError(f"{name} is empty: JPEG or PNG images were expected, {_COMMAND}")
    if _NEXT_IMAGE.match(reading.buffer) is None:
        reading.more(189)
        raise SourceError(
            f"{name} begins like {_looks_like(bytes(reading.buffer))}: JPEG or PNG images were expected, {_COMMAND}"
        )
    while reading.to_next_image():
        length = reading.length_of_jpeg() if reading.buffer.startswith(_JPEG) else reading.length_of_png()
        if length is None:
            notice(f"{name} ended in the middle of an image, which is left out")
            return
        if length < 0:
            notice(f"a damaged image from {name} is skipped")
            # Past the signature, or the search would find it again.
            reading.skip(-length)
            continue
        yield reading.take(length)


class _Reading:
    """Bytes read and not yet used.

    A length is None where the file ended too early, and negative where the structure broke after so
    many bytes.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.buffer = bytearray()
        self._name = name
        # An unbuffered read returns what is there. `BufferedReader` would wait for all it was asked
        # for, and a thread that waits inside it holds a lock that the interpreter's exit stumbles on.
        raw = getattr(file, "raw", file)
        buffered = isinstance(file, io.BufferedReader)
        self._read = cast(
            "Callable[[int], bytes | None]", raw.read if buffered else getattr(file, "read1", file.read)
        )

    def more(self, wanted: int) -> bool:
        """Read until so many bytes are there; False when the file ends before."""
        while len(self.buffer) < wanted:
            if wanted > _LARGEST_IMAGE:
                raise SourceError(
                    f"an image from {self._name} is larger than {_LARGEST_IMAGE >> 20} MiB: send smaller ones"
                )
            try:
                chunk = self._read(_CHUNK)
            except (OSError, ValueError) as error:
                raise SourceError(f"cannot read {self._name}: {error}") from error
            if chunk is None:
                raise SourceError(
                    f"{self._name} does not wait for data: open it as an ordinary, blocking pipe"
                )
            if not chunk:
                return False
            self.buffer += chunk
        return True

    def to_next_image(self) -> bool:
        """Drop what stands before the next beginning of an image; False when there is none."""
        while True:
            found = _NEXT_IMAGE.search(self.buffer)
            if found:
                del self.buffer[: found.start()]
                return True
            # The last bytes may be a part of a signature.
            del self.buffer[: max(0, len(self.buffer) - len(_PNG) + 1)]
            if not self.more(len(self.buffer) + 1):
                return False

    def skip(self, length: int) -> None:
        """Drop bytes."""
        del self.buffer[:length]

    def take(self, length: int) -> bytes:
        """Remove and return bytes."""
        taken = bytes(self.buffer[:length])
        del self.buffer[:length]
        return taken

    def length_of_png(self) -> int | None:
        """Bytes of the PNG at the beginning: chunks of length, kind, data and checksum up to IEND."""
        at = len(_PNG)
        while self.more(at + 8):
            length = int.from_bytes(self.buffer[at : at + 4], "big")
            kind = bytes(self.buffer[at + 4 : at + 8])
            if not kind.isalpha() or length > _LARGEST_IMAGE:
                # A chunk that was cut may have swallowed the next image.
                return -len(_PNG)
            at += 12 + length
            if not self.more(at):
                break
            if kind == b"IEND":
                return at
        return None

    def length_of_jpeg(self) -> int | None:
        """Bytes of the JPEG at the beginning.

        Segments are passed by their lengths, so that a thumbnail inside one does not count; only the
        scans have to be searched.
        """
        at = behind = 2
        while self.more(at + 2):
            if self.buffer[at] != 0xFF:
                return -behind
            marker = self.buffer[at + 1]
            if marker == 0xFF:
                at += 1
            elif marker == 0xD9:
                return at + 2
            elif marker in (0x00, 0xD8):
                # A beginning inside an image: the end of this one was lost.
                return -at
            elif marker in _WITHOUT_LENGTH:
                at += 2
            else:
                if not self.more(at + 4):
                    break
                # A segment that was cut may have swallowed the next image, so that the search goes on
                # in it; not in those of applications, where it would find a thumbnail.
                behind = at
                at += 2 + int.from_bytes(self.buffer[at + 2 : at + 4], "big")
                if marker in _OF_APPLICATIONS:
                    behind = at
                if marker == 0xDA and (at := self._end_of_scan(at)) < 0:
                    break
        return None

    def _end_of_scan(self, at: int) -> int:
        """Where the marker after a scan stands; -1 when the file ends before."""
        while True:
            found = _END_OF_SCAN.search(self.buffer, at)
            if found:
                return found.start()
            # A last 0xff may begin the marker.
            at = max(at, len(self.buffer) - 1)
            if not self.more(max(at, len(self.buffer)) + 1):
                return -1


def _decode(data: bytes) -> Pixels | None:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else rgb(image)


def _looks_like(head: bytes) -> str:
    """The first bytes in words."""
    for pattern, words in _CONTAINERS:
        if pattern.match(head):
            return words
    if is_text(head):
        line = head.decode(errors="ignore").strip().split("\n", 1)[0]
        return f'text ("{line[:30]}")'
    return f"unknown data ({head[:8].hex(' ')})"
