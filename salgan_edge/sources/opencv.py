"""OpenCV's readers of video: which there are, opening them quietly, and frames as RGB."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Literal, cast

import cv2

from salgan_edge.errors import SourceError
from salgan_edge.sources.addresses import scheme_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "STREAM_TIMEOUT",
    "available",
    "backend_of",
    "names_of",
    "open_address",
    "open_capture",
    "read_rgb",
    "read_rgb_at",
    "rgb",
]

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
