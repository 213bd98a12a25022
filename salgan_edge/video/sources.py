"""From what a user writes to a source of frames, read by a thread of its own where it is live."""

from __future__ import annotations

import re
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

from salgan_edge.errors import SourceError
from salgan_edge.images import IMAGE_SUFFIXES
from salgan_edge.video.frames import Frame, Handover, Source, ignore, is_address, scheme_of, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "VIDEO_SUFFIXES",
    "Capture",
    "Kind",
    "LiveSource",
    "is_video",
    "kind_of",
    "open_source",
    "played_live",
    "read_pipe",
]

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm",
        ".wmv",
    }
)  # fmt: skip
"""What makes an argument look like a video; other files are tried as videos too."""

Kind = Literal["camera", "stream", "stdin", "folder", "image", "video"]

# Addresses of these are recordings to be read from the first to the last frame.
_RECORDINGS = VIDEO_SUFFIXES - {".ts", ".flv"}

# Seconds between attempts to open a source: one that is not there yet, and one that was lost.
_OPENING_PAUSE = 2.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
# A reader may be stuck inside a driver; its thread then ends whenever the driver returns.
_LONGEST_JOIN = 1.0


def is_video(path: Path | str) -> bool:
    """Whether the name looks like that of a video file."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def kind_of(spec: str | int | Path) -> Kind:
    """What a source is, by its name and what is found there; nothing is opened.

    A text of digits is always a camera; a file of such a name is written ``./0`` or given as a
    `Path`. ``-`` is standard input. A text with a scheme is a stream, except that ``file://`` is a
    path and an ``http(s)://`` address ending like a video is a video. `` ! `` in a text makes it a
    GStreamer pipeline, which is a stream. A path that does not exist is a video or an image by its
    suffix.
    """
    named = None if isinstance(spec, Path) else _kind_by_name(str(spec))
    if named is not None:
        return named
    path = _path_of(spec)
    if re.fullmatch(r"/dev/(video\d+|v4l/.+)", str(path)):
        return "camera"
    if _is_folder(path):
        return "folder"
    return "image" if path.suffix.lower() in IMAGE_SUFFIXES else "video"


def _kind_by_name(text: str) -> Kind | None:
    """What a text is that is no path."""
    if text == "-":
        return "stdin"
    if re.fullmatch(r"\d+", text, re.ASCII):
        return "camera"
    if is_address(text) and scheme_of(text) != "file":
        path = re.split(r"[?#]", text, maxsplit=1)[0]
        recorded = scheme_of(text) in ("http", "https") and Path(path).suffix.lower() in _RECORDINGS
        return "video" if recorded else "stream"
    return "stream" if " ! " in text and not _is_there(Path(text)) else None


def open_source(
    spec: str | int | Path,
    *,
    backend: str = "auto",
    live: bool | None = None,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    wait: float = 0.0,
    patience: float | None = None,
    notice: Callable[[str], None] = ignore,
) -> Source:
    """Open a source of frames; the first frame has been read when this returns.

    Args:
        spec: a camera's number or path, an address, a video, an image, a folder of images, or ``-``
            for JPEG and PNG images on standard input; see `kind_of`.
        backend: OpenCV backend of cameras, streams and videos, such as v4l2, ffmpeg, gstreamer,
            dshow, msmf or avfoundation.
        live: keep only the newest frame. None: for cameras and streams. True plays a video, or a
            folder of images, in real time, and drops images from standard input. False is
            refused for cameras and streams.
        size: (width, height) to ask a camera for.
        fps: frames per second to ask a camera for; for files and standard input what to assume.
        wait: seconds to try again to open a camera or stream that is not there yet.
        patience: seconds to try a lost camera or stream again; None tries for ever.
        notice: takes one line when a source is not there yet, is lost or back, or images are damaged;
            may be called in another thread.

    Raises:
        SourceError: it cannot be opened, gives no frame, or an option does not fit it.
    """
    kind = kind_of(spec)
    _check_options(kind, backend=backend, live=live, size=size, fps=fps)
    # OpenCV is not needed to tell kinds apart: what needs it is imported below.
    if kind in ("camera", "stream"):
        from salgan_edge.video.capture import open_camera, open_stream  # noqa: PLC0415

        opener: Callable[[], Capture]
        if kind == "camera":
            path = str(_path_of(spec))
            place = int(path) if path.isdecimal() else path
            name = f"camera {place}"
            opener = partial(open_camera, place, backend=backend, size=size, fps=fps, notice=notice)
        else:
            address = str(spec)
            name = without_secrets(address)
            if not is_address(address) and backend.lower() == "auto":
                backend = "gstreamer"
            opener = partial(open_stream, address, backend=backend)
        return _when_there(
            partial(LiveSource, opener, name=name, patience=patience, notice=notice), wait, notice
        )
    if kind == "stdin":
        return read_pipe(sys.stdin.buffer, live=bool(live), fps=fps, notice=notice)
    files = _open_files(spec, kind, backend, fps)
    return played_live(files) if live else files


def read_pipe(
    file: BinaryIO,
    *,
    name: str = "standard input",
    live: bool = False,
    fps: float | None = None,
    notice: Callable[[str], None] = ignore,
) -> LiveSource:
    """A source of the JPEG and PNG images in a pipe, decoded in a thread of its own.

    Args:
        file: open for reading bytes; not closed.
        name: for messages.
        live: keep the newest image only instead of delivering each.
        fps: images per second, for `Frame.time` when not live; without it the time of arrival counts.
        notice: takes one line about damaged images and a cut end.

    Raises:
        SourceError: no image comes, or something else than images.
    """
    from salgan_edge.video.pipe import PipeCapture  # noqa: PLC0415

    return LiveSource(lambda: PipeCapture(file, name, notice), name=name, fps=fps, newest=live, notice=notice)


def _when_there(opening: Callable[[], LiveSource], wait: float, notice: Callable[[str], None]) -> LiveSource:
    """Open a source, again and again for `wait` seconds where it is not there yet.

    Raises:
        SourceError: it cannot be opened.
    """
    end = time.monotonic() + wait
    while True:
        try:
            return opening()
        except SourceError as error:
            left = end - time.monotonic()
            if left <= 0:
                raise
            notice(f"{error}; trying again for {left:.0f} s")
            time.sleep(min(_OPENING_PAUSE, left))


def _open_files(spec: str | int | Path, kind: Kind, backend: str, fps: float | None) -> Source:
    """A video, an image or a folder of images, every frame."""
    from salgan_edge.video.files import ImageFiles, VideoFile, images_in  # noqa: PLC0415

    if isinstance(spec, str) and is_address(spec) and scheme_of(spec) != "file":
        return VideoFile(spec, backend=backend, fps=fps)
    path = _path_of(spec)
    if not _is_there(path):
        raise SourceError(
            f"{path} does not exist: a camera's number, /dev/video*, an address (rtsp://...), a video, an image, a folder of images "
            "or - for standard input was expected"
        )
    if kind == "video":
        return VideoFile(path, backend=backend, fps=fps)
    return ImageFiles(images_in(path) if kind == "folder" else [path], name=str(path), fps=fps)


def _check_options(
    kind: Kind, *, backend: str, live: bool | None, size: tuple[int, int] | None, fps: float | None
) -> None:
    """Refuse an option that would do nothing."""
    if size is not None and kind != "camera":
        raise SourceError(
            "a size can be asked of cameras only: leave it out, frames are resized for the model anyway"
        )
    if fps is not None and (not fps > 0 or fps > 1000):
        raise SourceError(f"{fps:g} frames per second are not possible: give a number above 0, up to 1000")
    if kind in ("camera", "stream"):
        if live is False:
            raise SourceError("a camera or stream does not wait: it can be read as a live source only")
        if fps is not None and kind == "stream":
            raise SourceError("a stream has its own rate: leave the frames per second out")
        return
    if backend.lower() != "auto" and kind != "video":
        raise SourceError(f"backend {backend} is for cameras, streams and videos: leave it out for images")
    if live and kind in ("folder", "image") and fps is None:
        raise SourceError("images have no rate of their own: give the frames per second to play them live")


def _path_of(spec: str | int | Path) -> Path:
    if isinstance(spec, str) and scheme_of(spec) == "file":
        from urllib.parse import urlsplit  # noqa: PLC0415
        from urllib.request import url2pathname  # noqa: PLC0415

        return Path(url2pathname(urlsplit(spec).path))
    return Path(spec) if not isinstance(spec, int) else Path(str(spec))


def _is_folder(path: Path) -> bool:
    return _is_there(path) and path.is_dir()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # Too long for a name, or with a zero character.
        return False


class Capture(Protocol):
    """What gives images: a camera, a stream, or a simulation of one. Only one thread uses it.

    An attribute ``fps``, float or None, is taken over where there is one.
    """

    def read(self) -> tuple[Pixels, float] | None:
        """The next image, RGB (H, W, 3), and `time.monotonic()` when it was captured; waits for it.

        Returns:
            None when the source was lost and may come back.

        Raises:
            EOFError: the source has ended and will not come back.
        """

    def close(self) -> None:
        """Let go of the device."""


class LiveSource(Source):
    """Frames of a capture that runs at its own pace.

    A thread reads all the time, so nothing grows old inside OpenCV; whoever iterates gets the newest
    frame. A lost capture is opened again after pauses of 0.5 s that double up to 10 s.
    """

    def __init__(
        self,
        opener: Callable[[], Capture],
        *,
        name: str,
        fps: float | None = None,
        count: int | None = None,
        newest: bool = True,
        patience: float | None = None,
        notice: Callable[[str], None] = ignore,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the capture and read its first frame.

        Args:
            opener: opens the capture, now and after it was lost; raises `SourceError`.
            name: for messages.
            fps: frames per second; without it the capture's own.
            count: how many frames there are, where known.
            newest: keep the newest frame only; otherwise reading waits until a frame is taken.
            patience: seconds to try a lost capture again; None tries for ever.
            notice: takes one line when the capture was lost and when it is back; called in the
                reading thread.
            interrupt: called by `close`, to end a wait inside the capture.

        Raises:
            SourceError: the capture cannot be opened or gives no frame; nothing is tried again.
        """
        self.name = name
        self.live = newest
        self.count = count
        self._opener = opener
        self._patience = patience
        self._notice = notice
        self._interrupt = interrupt
        self._frames = Handover[Frame](newest=newest)
        self._closing = threading.Event()
        self._index = 0
        # Opened here and not in the thread: macOS asks for permission in the main thread only.
        capture = opener()
        try:
            first = capture.read()
        except EOFError:
            first = None
        except BaseException:
            capture.close()
            raise
        if first is None:
            capture.close()
            raise SourceError(f"{name} gives no frame: check that it works in another program")
        self.fps = fps or getattr(capture, "fps", None)
        image, self._start = first
        self.size = (image.shape[1], image.shape[0])
        self._put(first)
        # A daemon: a reader that a driver never lets go must not keep the process alive.
        self._thread = threading.Thread(target=self._run, args=(capture,), name=f"source {name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many frames were replaced by newer ones before anybody took them."""
        return self._frames.dropped

    def __next__(self) -> Frame:
        """The newest frame that was not delivered yet, waiting for one.

        Raises:
            SourceError: the source was lost for longer than the patience.
            StopIteration: it has ended or was closed.
        """
        return next(self._frames)

    def close(self) -> None:
        """Stop reading; returns within about a second even if the capture is stuck."""
        self._closing.set()
        self._interrupt()
        self._frames.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(_LONGEST_JOIN)

    def _run(self, capture: Capture | None) -> None:
        """Read until the end, in the thread; the capture is closed by the thread that reads it."""
        try:
            while capture is not None and not self._closing.is_set():
                image = capture.read()
                if image is None:
                    lost, capture = capture, None
                    lost.close()
                    found = self._find_again()
                    if found is None:
                        return
                    capture, image = found
                if not self._put(image):
                    return
        except EOFError:
            self._frames.finish()
        except Exception as error:  # noqa: BLE001 - raised again where the frames are taken
            self._frames.fail(error)
        finally:
            if capture is not None:
                capture.close()

    def _put(self, captured: tuple[Pixels, float]) -> bool:
        image, moment = captured
        frame = Frame(image, self._index, moment, self._time_of(moment))
        self._index += 1
        return self._frames.put(frame)

    def _time_of(self, moment: float) -> float:
        # The arrival of a lossless source follows whoever takes the frames, not what was filmed.
        return moment - self._start if self.live or not self.fps else self._index / self.fps

    def _find_again(self) -> tuple[Capture, tuple[Pixels, float]] | None:
        """The capture opened again and its first image; None when the source is being closed.

        Raises:
            SourceError: patience ran out.
        """
        lost = time.monotonic()
        pause = _FIRST_PAUSE
        reason = "it sent nothing more"
        words = f"lost {self.name}"
        while not self._closing.is_set():
            left = None if self._patience is None else self._patience - (time.monotonic() - lost)
            if left is not None and left <= 0:
                raise SourceError(
                    f"{self.name} was lost and did not come back within {self._patience:g} s: {reason}"
                )
            wait = pause if left is None else min(pause, left)
            self._notice(f"{words}; trying again in {wait:.3g} s")
            if self._closing.wait(wait):
                return None
            pause = min(2 * pause, _LONGEST_PAUSE)
            words = f"still no {self.name}"
            try:
                again = self._opener()
            except SourceError as error:
                reason = str(error)
                continue
            try:
                image = again.read()
            except BaseException:
                again.close()
                raise
            if image is not None:
                if not self._closing.is_set():
                    self._notice(f"{self.name} is back after {time.monotonic() - lost:.1f} s")
                return again, image
            again.close()
            reason = "it was opened but gave no frame"
        return None


class _Player:
    """Frames of a file at the pace in which they were filmed."""

    def __init__(self, frames: Source, stopped: threading.Event) -> None:
        self.fps = frames.fps
        self._frames = frames
        self._stopped = stopped
        self._start: float | None = None

    def read(self) -> tuple[Pixels, float]:
        """The next frame when its time has come."""
        frame = next(self._frames, None)
        if frame is None:
            raise EOFError
        now = time.monotonic()
        if self._start is None:
            self._start = now
        self._stopped.wait(max(0.0, self._start + frame.time - now))
        return frame.image, time.monotonic()

    def close(self) -> None:
        self._frames.close()


def played_live(frames: Source) -> LiveSource:
    """A file as if it were a camera: its frames come at their times, and only the newest is kept.

    Args:
        frames: a source of files, which the new source closes.
    """
    stopped = threading.Event()
    return LiveSource(
        lambda: _Player(frames, stopped), name=frames.name, count=frames.count, interrupt=stopped.set
    )
