"""Video files of what is shown."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import threading
from typing import TYPE_CHECKING, Self, cast

import cv2
import numpy as np

from salgan_edge.errors import InputError, OutputError
from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["RECORDING_SUFFIXES", "VideoSink"]

# What the OpenCV packages of all platforms can write. H.264 is missing from them for its patents.
# MPEG-4 part 2 takes 1 ms for 640x480, VP8 12 ms, VP9 50 ms; browsers play only the last two.
_CODECS = {".avi": "MJPG", ".mkv": "mp4v", ".mov": "mp4v", ".mp4": "mp4v", ".webm": "VP80"}
RECORDING_SUFFIXES = frozenset(_CODECS)
"""Suffixes of the videos that can be written."""

_SMALLEST_SIDE = 16
_LEAST_FREE = 8 * 2**20
"""Bytes kept free on the disk: a file needs some more to be finished."""
_TOLERANCE = 0.9
"""Frames that a recording may be ahead of or behind the clock before one is left out or repeated.

With half a frame, a camera at the recording's own rate whose first frame was a little late would
have every other frame left out or repeated.
"""
_stderr_lock = threading.Lock()


class VideoSink:
    """Writes RGB frames to a video at a constant frame rate; the suffix picks the format.

    ``.mp4`` and ``.mov`` hold MPEG-4, ``.mkv`` too, ``.avi`` motion JPEG, ``.webm`` VP8, which browsers play.

    >>> with VideoSink(Path("overlay.mp4"), 29.97, (640, 480)) as sink:  # doctest: +SKIP
    ...     sink.write(frame)

    Frames go to a hidden file beside the target, ``.overlay-*.mp4``, which gets its name when the block
    is left. Leaving by an exception (Ctrl-C, an error in between) finishes the file too. After a power
    loss or ``kill -9`` the hidden file is left: Matroska, WebM and AVI are playable then, but for the
    last half megabyte, which was not written yet; MP4 and QuickTime are not, for their index comes
    last (FFmpeg could write fragmented MP4, but OpenCV does not hand it the option).
    Not safe to share between threads.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """Open the file.

        Args:
            path: of the video.
            fps: frames per second, 0.5 to 1000; kept to 0.001.
            size: (width, height) in pixels. Codecs want even sizes: an odd one loses its last column
                or row. Sides below 16 are enlarged to 16.

        Raises:
            InputError: no such frame rate or size.
            OutputError: unknown suffix, a size that the codec refuses, or a place that cannot be written.
        """
        suffix = path.suffix.lower()
        if suffix not in _CODECS:
            raise OutputError(
                f"cannot write {path}: {path.suffix or 'no suffix'} is no video format; use {', '.join(sorted(_CODECS))}"
            )
        # FFmpeg needs minutes for an absurd frame rate.
        if not 0.5 <= fps <= 1000:
            raise InputError(f"frame rate {fps}: 0.5 to 1000 frames per second were expected")
        if min(size) < 1:
            raise InputError(f"size {size[0]}x{size[1]}: a width and a height above 0 were expected")
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; choose another --output")
        self.path = path
        self.fps = round(fps, 3)
        width, height = (max(_SMALLEST_SIDE, side // 2 * 2) for side in size)
        self.size = (width, height)
        """(width, height) of the video in pixels."""
        self.frames = 0
        """Frames written, with repeated ones."""
        self.skipped = 0
        """Frames left out to keep to the clock."""
        self._closed = False
        self._started: float | None = None
        self._last_time = -math.inf
        self._last = np.empty((height, width, 3), np.uint8)
        self._place = contextlib.ExitStack()
        self._temporary = self._place.enter_context(writing(path))
        try:
            self._check_space()
            self._writer = self._open(suffix)
        except BaseException as error:
            self._discard(error)
            raise

    def write(self, image: Pixels, time: float | None = None) -> None:
        """Add a frame.

        Args:
            image: RGB uint8 (H, W, 3); another size than the video's is stretched to it.
            time: of the frame in seconds, on any clock, for sources without a steady frame rate: the
                frame before is repeated or this one left out, so that the video plays at real
                speed. A time before the last one starts a new clock. None is the next frame.

        Raises:
            InputError: no RGB uint8 image, or `time` is no finite number.
            OutputError: the disk is full, or the video is closed.
        """
        if self._closed:
            raise OutputError(f"{self.path} is closed: open another video")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(
                f"an array {image.dtype} {image.shape} was given: RGB uint8 (H, W, 3) was expected"
            )
        if time is not None and not self._is_due(time):
            self.skipped += 1
            return
        width, height = self.size
        excess = image.shape[0] - height, image.shape[1] - width
        if min(excess) >= 0 and max(excess) <= 1:
            image = image[:height, :width]
        else:
            smaller = image.shape[0] * image.shape[1] > height * width
            how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
            image = cast("Pixels", cv2.resize(image, self.size, interpolation=how))
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=self._last)
        self._put()

    def close(self) -> None:
        """Finish the file and put it in place; without a frame nothing is left. Again: nothing happens.

        Raises:
            OutputError: the file is not whole, for the disk is full. What can be played of it is put in
                place all the same.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._writer.release()
            found = self._readable()
        except BaseException as error:
            self._discard(error)
            raise
        if not found:
            self._discard(InputError("nothing to keep"))
            if self.frames:
                raise OutputError(f"cannot write {self.path}: the file is damaged; is the disk full?")
            return
        self._place.close()
        # Containers tell their duration; a frame may be lost to rounding.
        if found < self.frames - 1:
            raise OutputError(
                f"{self.path} has {found} of {self.frames} frames: the rest could not be written; is the disk full?"
            )

    def __enter__(self) -> Self:
        """The sink itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the file; an error that is under way stays the one that is raised."""
        try:
            self.close()
        except OutputError as problem:
            if error is None:
                raise
            error.add_note(str(problem))

    def _is_due(self, time: float) -> bool:
        """Whether a frame of this time is to be written, after repeating the last one as often as needed."""
        if not math.isfinite(time):
            raise InputError(f"time {time} was given: a finite number of seconds was expected")
        if self._started is None or time < self._last_time:
            self._started = time - self.frames / self.fps
        self._last_time = time
        due = (time - self._started) * self.fps
        if due < self.frames - _TOLERANCE:
            return False
        while self.frames and due > self.frames + _TOLERANCE:
            self._put()
        return True

    def _put(self) -> None:
        """Write the last frame (again)."""
        if self.frames % max(1, round(self.fps)) == 0:
            self._check_space()
        # OpenCV 5 says whether that went well, older versions say nothing.
        if cast("bool | None", self._writer.write(self._last)) is False:
            raise OutputError(f"cannot write {self.path}: frame {self.frames} was refused; is the disk full?")
        self.frames += 1

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._temporary.parent).free
        if free < _LEAST_FREE:
            raise OutputError(
                f"cannot write {self.path}: the disk is full ({free / 2**20:.1f} MB are free); make room or choose another disk"
            )

    def _open(self, suffix: str) -> cv2.VideoWriter:
        codec = _CODECS[suffix]
        # A name with a colon would be taken for a protocol by FFmpeg if it were not absolute.
        name = str(self._temporary.absolute())
        with _silent():
            try:
                # Only FFmpeg: of a name with %d others would make a series of images.
                writer = cv2.VideoWriter(
                    name, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), self.fps, self.size
                )
                opened = writer.isOpened()
            except cv2.error:
                opened = False
        if not opened:
            raise OutputError(
                f"cannot write {self.path}: OpenCV cannot open a {suffix} video of {self.size[0]}x{self.size[1]} pixels; "
                "choose a smaller size or .avi"
            )
        return writer

    def _readable(self) -> int:
        """Frames that the finished file has by its own account, 0 where none can be read."""
        if not self.frames:
            return 0
        with _silent():
            reader = cv2.VideoCapture(str(self._temporary.absolute()), cv2.CAP_FFMPEG)
            try:
                if not reader.read()[0]:
                    return 0
                count = reader.get(cv2.CAP_PROP_FRAME_COUNT)
                # A file that was cut off does not know its length.
                return int(count) if 0 < count < math.inf else 1
            finally:
                reader.release()

    def _discard(self, error: BaseException) -> None:
        """Remove the hidden file; an error makes `writing` do that."""
        self._closed = True
        with contextlib.suppress(type(error)):
            self._place.__exit__(type(error), error, error.__traceback__)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what FFmpeg and OpenCV print: they write to the process's standard error, past Python.

    Some of it is no error (WebM's codec tag), and what is one is raised as an exception here.
    """
    with _stderr_lock, contextlib.ExitStack() as stack:
        try:
            sys.stderr.flush()
            kept = os.dup(2)
            stack.callback(os.close, kept)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
            stack.callback(os.dup2, kept, 2)
        except (OSError, AttributeError):
            # A program without standard error (pythonw) has nothing to silence.
            pass
        yield
