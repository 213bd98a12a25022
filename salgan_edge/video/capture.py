"""OpenCV's captures: which readers there are, and cameras and network streams opened with them."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import cv2

from salgan_edge.errors import SourceError
from salgan_edge.video.frames import ignore, scheme_of, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "STREAM_TIMEOUT",
    "DeviceCapture",
    "available",
    "backend_of",
    "cameras_here",
    "names_of",
    "open_address",
    "open_camera",
    "open_capture",
    "open_stream",
    "read_rgb",
    "read_rgb_at",
    "rgb",
]

_DEV = Path("/dev")

STREAM_TIMEOUT = 5.0
"""Seconds a network stream may say nothing, when it is opened and later, before it counts as lost."""

Purpose = Literal["camera", "stream"]

# Frames that arrive but cannot be decoded are skipped; so many in a row are a broken source.
_MOST_DAMAGED = 100


def available(purpose: Purpose) -> dict[str, int]:
    """Backends of this OpenCV for cameras, or for files and streams, in lower case, in its order of preference."""
    registry = cv2.videoio_registry
    listed = registry.getCameraBackends() if purpose == "camera" else registry.getStreamBackends()
    return {registry.getBackendName(api).lower(): api for api in listed if registry.hasBackend(api)}


def names_of(purpose: Purpose) -> str:
    """What `available` lists, for messages."""
    return ", ".join(available(purpose))


def backend_of(name: str, purpose: Purpose) -> int:
    """OpenCV's number of a backend that was asked for by name; ``auto`` lets OpenCV choose.

    Raises:
        SourceError: there is none of that name here.
    """
    wanted = name.lower()
    present = available(purpose)
    if wanted == "auto":
        # OpenCV tries exotic devices after V4L2, and all of them when a camera is missing.
        return present.get("v4l2", cv2.CAP_ANY) if purpose == "camera" else cv2.CAP_ANY
    if wanted in present:
        return present[wanted]
    registry = cv2.videoio_registry
    known = {registry.getBackendName(api).lower() for api in registry.getBackends()}
    what = "cameras" if purpose == "camera" else "videos and streams"
    found = (
        f"{name} cannot be used for {what} with this OpenCV"
        if wanted in known
        else f"{name} is no backend of this OpenCV"
    )
    raise SourceError(f"{found}: for {what} it has auto, {', '.join(present)}")


def open_capture(target: str | int, api: int, parameters: Sequence[int] = ()) -> cv2.VideoCapture:
    """A capture, opened or not, without FFmpeg's own lines on the screen where OpenCV's are off."""
    if os.environ.get("OPENCV_LOG_LEVEL", "").upper() in ("OFF", "SILENT", "0"):
        # FFmpeg writes past OpenCV's log. It reads this when it is first used; -8 is AV_LOG_QUIET.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if sys.platform == "win32":
        # Otherwise Media Foundation takes tens of seconds to open some cameras.
        os.environ.setdefault("OPENCV_VIDEOIO_MSMF_ENABLE_HW_TRANSFORMS", "0")
    # Seconds until a camera that sends nothing counts as lost.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "5")
    try:
        return (
            cv2.VideoCapture(target, api, list(parameters)) if parameters else cv2.VideoCapture(target, api)
        )
    except cv2.error:
        return cv2.VideoCapture()


def open_address(address: str, backend: str) -> tuple[cv2.VideoCapture, str]:
    """A capture of a network address, opened or not, and the backends that were tried, for messages.

    Raises:
        SourceError: there is no such backend.
    """
    api = backend_of(backend, "stream")
    if api == cv2.CAP_ANY:
        api = available("stream").get("ffmpeg", cv2.CAP_ANY)
    if api != cv2.CAP_FFMPEG:
        return open_capture(address, api), names_of("stream") if api == cv2.CAP_ANY else backend.lower()
    if scheme_of(address) in ("rtsp", "rtsps"):
        # Over UDP lost packets smear the picture.
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    limit = round(STREAM_TIMEOUT * 1000)
    parameters = (
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit,
        # Each thread of the decoder but one holds an image back.
        cv2.CAP_PROP_N_THREADS, 2,
    )  # fmt: skip
    return open_capture(address, api, parameters), "ffmpeg"


def read_rgb(capture: cv2.VideoCapture) -> Pixels | None:
    """The next frame that can be decoded as RGB (H, W, 3), None at the end."""
    read = read_rgb_at(capture)
    return None if read is None else read[0]


def read_rgb_at(capture: cv2.VideoCapture) -> tuple[Pixels, float] | None:
    """The next frame that can be decoded as RGB (H, W, 3), and `time.monotonic()` before it was.

    Returns:
        None at the end, or when the source is lost.
    """
    for _ in range(_MOST_DAMAGED):
        try:
            if not capture.grab():
                return None
            captured = time.monotonic()
            decoded, image = capture.retrieve()
        except cv2.error:
            return None
        if decoded and image is not None and image.size:
            return rgb(image), captured
    return None


def rgb(image: object) -> Pixels:
    """What OpenCV decoded, BGR (H, W, 3) or grey (H, W), as RGB (H, W, 3)."""
    pixels = cast("Pixels", image)
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    return cast("Pixels", cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB))


class DeviceCapture:
    """An open capture of OpenCV; see `salgan_edge.video.sources.Capture`."""

    def __init__(
        self, capture: cv2.VideoCapture, first: tuple[Pixels, float], timeout: float = math.inf
    ) -> None:
        """Take over an open capture.

        Args:
            capture: opened.
            first: an image that was read from it already, and when.
            timeout: seconds that a read may take before the source counts as lost.
        """
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else None
        # A recording behind an address has a length; a camera has none.
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._left = count if 0 < count < 1e9 else None
        self._capture = capture
        self._timeout = timeout
        self._first: tuple[Pixels, float] | None = first

    def read(self) -> tuple[Pixels, float] | None:
        """The next image and when it was captured; None when the device or stream was lost.

        Raises:
            EOFError: a recording has ended.
        """
        first, self._first = self._first, None
        before = time.monotonic()
        read = first or read_rgb_at(self._capture)
        if time.monotonic() - before >= self._timeout:
            # FFmpeg's decoder gives back, one by one and each after another timeout, images that it
            # still held; they are old, and the stream is dead.
            return None
        if self._left is not None:
            # The count is an estimate: a last second may be missing.
            if read is None and self._left <= (self.fps or 0):
                raise EOFError
            self._left -= 1
        return read

    def close(self) -> None:
        """Close the device or connection."""
        self._capture.release()


def open_camera(
    place: int | str,
    *,
    backend: str = "auto",
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    notice: Callable[[str], None] = ignore,
) -> DeviceCapture:
    """Open a camera and read its first image.

    Args:
        place: index, or a path such as /dev/video0.
        backend: of OpenCV.
        size: (width, height) to ask for; the camera may give another, which `notice` is told.
        fps: frames per second to ask for.
        notice: takes one line.

    Raises:
        SourceError: no such camera, no permission, in use, or no image comes.
    """
    api = backend_of(backend, "camera")
    capture = open_capture(place, api)
    tried = names_of("camera") if api == cv2.CAP_ANY else cv2.videoio_registry.getBackendName(api).lower()
    name = f"camera {place}"
    if not capture.isOpened():
        raise SourceError(f"cannot open {name} (tried {tried}): {_advice(place)}")
    if size is not None and size[0] * size[1] > 640 * 480:
        # Larger raw images do not fit through USB 2 at a useful rate; cameras without MJPEG refuse.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    if size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if fps is not None:
        capture.set(cv2.CAP_PROP_FPS, fps)
    # One waiting frame in the driver instead of four.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    first = read_rgb_at(capture)
    if first is None:
        capture.release()
        raise SourceError(f"{name} was opened (by {tried}) but gives no image: {_advice(place)}")
    height, width = first[0].shape[:2]
    if size is not None and (width, height) != tuple(size):
        notice(f"{name} gives {width} x {height} pixels, not {size[0]} x {size[1]}")
    return DeviceCapture(capture, first)


def open_stream(address: str, *, backend: str = "auto") -> DeviceCapture:
    """Open a network stream, or a GStreamer pipeline, and read its first image.

    Args:
        address: rtsp://, rtmp://, http://, udp://, srt:// and what else the backend knows.
        backend: of OpenCV; ``auto`` is FFmpeg where there is one.

    Raises:
        SourceError: it cannot be reached, or no image comes.
    """
    name = without_secrets(address)
    capture, tried = open_address(address, backend)
    if not capture.isOpened():
        raise SourceError(
            f"cannot open {name} (tried {tried}, waiting up to {STREAM_TIMEOUT:g} s): check that the address, user and password are right, "
            "that the camera is on, and that this machine can reach it"
        )
    first = read_rgb_at(capture)
    if first is None:
        capture.release()
        raise SourceError(
            f"{name} answers but sends no picture (tried {tried}): check that it is a video stream and not a web page"
        )
    # FFmpeg looks at its clock ten times a second.
    return DeviceCapture(capture, first, STREAM_TIMEOUT - 0.2)


def cameras_here() -> list[str]:
    """The video devices of a Linux machine, such as ``/dev/video0 (Integrated Camera)``; elsewhere none."""
    return [f"{path} ({label})" if label else str(path) for path, label in _video_devices()]


def _video_devices() -> list[tuple[Path, str]]:
    found = []
    paths = [path for path in _DEV.glob("video*") if re.fullmatch(r"video\d+", path.name)]
    for path in sorted(paths, key=lambda path: int(path.name[5:])):
        try:
            label = Path("/sys/class/video4linux", path.name, "name").read_text().strip()
        except OSError:
            label = ""
        found.append((path, label))
    return found


def _advice(place: int | str) -> str:
    """Why a camera may not open, as far as the machine tells."""
    if not sys.platform.startswith("linux"):
        return (
            "check that it is connected, that no other program uses it, and that the system's privacy settings allow "
            "this program the camera"
        )
    path = _DEV / f"video{place}" if isinstance(place, int) else Path(place)
    listed = cameras_here()
    if not listed:
        return "this machine has no /dev/video*; connect a camera, or hand it to the container with --device /dev/video0"
    if not path.exists():
        return f"{path} does not exist; there are {', '.join(listed)}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"no permission on {path}; add yourself to the group video with `sudo usermod -aG video $USER` and log in again"
    others = [line for line in listed if line.split(" ")[0] != str(path)]
    rest = f"; others are {', '.join(others)}" if others else ""
    return f"another program may be using it, or it is a device without pictures{rest}"
