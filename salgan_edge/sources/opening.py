"""From what a user writes to a source of frames."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from salgan_edge.errors import SourceError
from salgan_edge.images import IMAGE_SUFFIXES
from salgan_edge.sources.addresses import is_address, scheme_of
from salgan_edge.sources.frame import Source, ignore

if TYPE_CHECKING:
    from collections.abc import Callable

    from salgan_edge.sources.live import LiveSource

__all__ = ["VIDEO_SUFFIXES", "Kind", "is_video", "kind_of", "open_source"]

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
        patience: seconds to try a lost camera or stream again; None tries for ever.
        notice: takes one line when a source is lost or back, or images are damaged; may be called
            in another thread.

    Raises:
        SourceError: it cannot be opened, gives no frame, or an option does not fit it.
    """
    kind = kind_of(spec)
    _check_options(kind, backend=backend, live=live, size=size, fps=fps)
    if kind == "camera":
        return _camera(spec, backend, size, fps, patience, notice)
    if kind == "stream":
        return _stream(str(spec), backend, patience, notice)
    if kind == "stdin":
        from salgan_edge.sources.pipe import read_pipe  # noqa: PLC0415 - OpenCV is not needed to tell kinds apart

        return read_pipe(sys.stdin.buffer, live=bool(live), fps=fps, notice=notice)
    from salgan_edge.sources.files import ImageFiles, VideoFile, images_in  # noqa: PLC0415

    files: Source
    if kind == "video" and isinstance(spec, str) and is_address(spec) and scheme_of(spec) != "file":
        files = VideoFile(spec, backend=backend, fps=fps)
    else:
        path = _path_of(spec)
        _check_exists(path)
        if kind == "video":
            files = VideoFile(path, backend=backend, fps=fps)
        else:
            files = ImageFiles(images_in(path) if kind == "folder" else [path], name=str(path), fps=fps)
    if not live:
        return files
    from salgan_edge.sources.live import played_live  # noqa: PLC0415

    return played_live(files)


def _camera(
    spec: str | int | Path,
    backend: str,
    size: tuple[int, int] | None,
    fps: float | None,
    patience: float | None,
    notice: Callable[[str], None],
) -> LiveSource:
    from salgan_edge.sources.devices import open_camera  # noqa: PLC0415
    from salgan_edge.sources.live import LiveSource  # noqa: PLC0415

    text = str(_path_of(spec)) if not isinstance(spec, int) else str(spec)
    place = int(text) if text.isdecimal() else text
    return LiveSource(
        lambda: open_camera(place, backend=backend, size=size, fps=fps, notice=notice),
        name=f"camera {place}",
        patience=patience,
        notice=notice,
    )


def _stream(spec: str, backend: str, patience: float | None, notice: Callable[[str], None]) -> LiveSource:
    from salgan_edge.sources.addresses import without_secrets  # noqa: PLC0415
    from salgan_edge.sources.devices import open_stream  # noqa: PLC0415
    from salgan_edge.sources.live import LiveSource  # noqa: PLC0415

    if not is_address(spec) and backend.lower() == "auto":
        backend = "gstreamer"
    return LiveSource(
        lambda: open_stream(spec, backend=backend),
        name=without_secrets(spec),
        patience=patience,
        notice=notice,
    )


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
    try:
        return path.is_dir()
    except (OSError, ValueError):
        # Too long for a name, or with a zero character.
        return False


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _check_exists(path: Path) -> None:
    if not _is_there(path):
        raise SourceError(
            f"{path} does not exist: a camera's number, /dev/video*, an address (rtsp://...), a video, an image, a folder of images "
            "or - for standard input was expected"
        )
