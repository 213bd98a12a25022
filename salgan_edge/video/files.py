"""Frames from files: images in order, and videos; every frame, read when it is asked for."""

from __future__ import annotations

import math
import threading
import time
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import cv2

from salgan_edge.errors import ImageError, SourceError
from salgan_edge.files import natural_order
from salgan_edge.images import IMAGE_SUFFIXES, read_image
from salgan_edge.video.capture import backend_of, names_of, open_address, open_capture, read_rgb
from salgan_edge.video.frames import FALLBACK_FPS, Frame, Source, without_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

__all__ = ["ImageFiles", "VideoFile", "images_in"]

# The command line's usual cameras and films stay below; some containers claim 90,000.
_HIGHEST_FPS = 1000.0
_MOST_FRAMES = 1e9


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, not deeper, in natural order.

    Raises:
        SourceError: it cannot be listed or holds none.
    """
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    except OSError as error:
        raise SourceError(f"cannot list {folder}: {error.strerror or error}") from error
    if not found:
        raise SourceError(
            f"{folder} holds no images: files ending in {', '.join(sorted(IMAGE_SUFFIXES))} were expected"
        )
    return sorted(found, key=natural_order)


class ImageFiles(Source):
    """Image files one after the other."""

    def __init__(self, paths: Sequence[Path], *, name: str, fps: float | None = None) -> None:
        """Read the first image.

        Args:
            paths: files in order, at least one.
            name: for messages, such as the folder.
            fps: images per second, for `Frame.time`; without it 25 are assumed.

        Raises:
            SourceError: there is no file, or the first cannot be read.
        """
        if not paths:
            raise SourceError(f"{name} holds no images: at least one was expected")
        self.name = name
        self.fps = fps
        self.count = len(paths)
        self._paths = list(paths)
        self._next = 0
        self._closed = False
        self._first: Frame | None = self._read()
        height, width = self._first.image.shape[:2]
        self.size = (width, height)

    def __next__(self) -> Frame:
        """The next image.

        Raises:
            SourceError: it cannot be read; the message names it.
            StopIteration: that was the last one, or the source was closed.
        """
        if self._closed:
            raise StopIteration
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._next >= len(self._paths):
            raise StopIteration
        return self._read()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True

    def _read(self) -> Frame:
        index = self._next
        path = self._paths[index]
        self._next += 1
        try:
            image = read_image(path)
        except ImageError as error:
            raise SourceError(str(error)) from error
        return Frame(image, index, time.monotonic(), index / (self.fps or FALLBACK_FPS), path.name)


class VideoFile(Source):
    """A video: every frame in order, turned upright, timed by the container's time stamps."""

    def __init__(self, place: Path | str, *, backend: str = "auto", fps: float | None = None) -> None:
        """Open it and read the first frame.

        Args:
            place: a file, or an address of one.
            backend: OpenCV backend that reads it.
            fps: frames per second to assume instead of the container's word and time stamps.

        Raises:
            SourceError: it does not exist, or holds no readable frame.
        """
        self._is_remote = isinstance(place, str)
        self.name = without_secrets(place) if isinstance(place, str) else str(place)
        self._lock = threading.Lock()
        self._closed = False
        if isinstance(place, str):
            self._capture, tried = open_address(place, backend)
        else:
            _check_file(place)
            # FFmpeg would take "a:b.mp4" for an address of the kind "a".
            place = str(place.absolute())
            self._capture = open_capture(place, backend_of(backend, "stream"))
            tried = names_of("stream") if backend.lower() == "auto" else backend.lower()
        if not self._capture.isOpened():
            raise SourceError(
                f"{self.name} cannot be opened as a video (tried {tried}): it is damaged, incomplete, out of reach, or of a kind this OpenCV "
                "does not read; convert it with `ffmpeg -i INPUT -c:v libx264 copy.mp4`"
            )
        told = self._capture.get(cv2.CAP_PROP_FPS)
        believed = math.isfinite(told) and 0 < told <= _HIGHEST_FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # FFmpeg works the count out of the duration and the rate, where the container has none.
        self.count = int(count) if believed and 0 < count < _MOST_FRAMES else None
        self._stamped = fps is None
        self.fps: float = fps or (told if believed else _measured_fps(place))
        self._index = 0
        self._time = 0.0
        self._start = 0.0
        first = read_rgb(self._capture)
        if first is None:
            self.close()
            raise SourceError(
                f"{self.name} was opened but holds no readable frame: play it elsewhere to see whether it is whole"
            )
        self.size = (first.shape[1], first.shape[0])
        self._first: Frame | None = self._frame(first)

    def __next__(self) -> Frame:
        """The next frame; a damaged end counts as the end.

        Raises:
            SourceError: the connection to a video elsewhere broke off.
            StopIteration: the video has ended or was closed.
        """
        with self._lock:
            if self._closed:
                raise StopIteration
            first, self._first = self._first, None
            if first is not None:
                return first
            image = read_rgb(self._capture)
            if image is not None:
                return self._frame(image)
            if self._is_remote and self.count and self._index < self.count - self.fps:
                raise SourceError(
                    f"{self.name} broke off after {self._index} of {self.count} frames: download it and open the file"
                )
            raise StopIteration

    def close(self) -> None:
        """Close the file, after the frame that is being read."""
        with self._lock:
            self._closed = True
            self._capture.release()

    def _frame(self, image: npt.NDArray[np.uint8]) -> Frame:
        captured = time.monotonic()
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self._stamped else self._index / self.fps
        if self._index == 0:
            self._start = stamp if math.isfinite(stamp) else 0.0
            moment = 0.0
        else:
            moment = stamp - self._start
            # Some containers have no time stamps, or repeat them; time never stands still.
            if not math.isfinite(moment) or moment <= self._time:
                moment = self._time + 1 / self.fps
        frame = Frame(image, self._index, captured, moment)
        self._index += 1
        self._time = moment
        return frame


def _measured_fps(place: str) -> float:
    """Frames per second from the time stamps of the first frames, where its own rate cannot be used."""
    capture = open_capture(place, cv2.CAP_ANY)
    stamps: list[float] = []
    while len(stamps) < 20 and capture.grab():
        stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    capture.release()
    steps = [later - earlier for earlier, later in pairwise(stamps) if later > earlier]
    measured = 1000 / median(steps) if steps else FALLBACK_FPS
    return measured if measured <= _HIGHEST_FPS else FALLBACK_FPS


def _check_file(path: Path) -> None:
    """Refuse what FFmpeg would misunderstand; it even draws a text file as a film."""
    if path.is_dir():
        raise SourceError(f"{path} is a folder: a video file was expected")
    if not path.exists():
        raise SourceError(f"{path} does not exist: give the path of a video")
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from error
    if not head:
        raise SourceError(f"{path} is empty (0 bytes): a video was expected")
    if path.suffix.lower() not in (".m3u8", ".sdp", ".y4m") and is_text(head):
        raise SourceError(f"{path} is a text file: a video was expected")


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 text; a character may be cut at the end."""
    for cut in range(4):
        try:
            text = head[: len(head) - cut].decode()
        except UnicodeDecodeError:
            continue
        return bool(text) and all(
            character.isprintable() or character in "\t\n\r\f\ufeff" for character in text
        )
    return False
