"""OpenCV's video back-ends and windows."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from dataclasses import dataclass
from typing import Any

from salgan_edge.doctor.child import ask

__all__ = ["Display", "OpenCV", "describe", "gather_display", "opencv_from", "probe_window"]


@dataclass(frozen=True)
class OpenCV:
    """What the installed OpenCV was built with."""

    camera_backends: tuple[str, ...] = ()
    """That can be used, in the order in which OpenCV tries them."""
    stream_backends: tuple[str, ...] = ()
    """For video files and network streams."""
    gui: str = ""
    """``QT``, ``GTK``, ``COCOA``, ``WIN32``...; empty where it opens no windows."""
    ffmpeg: bool = False
    gstreamer: bool = False
    threads: int = 0
    parallel: str = ""


@dataclass(frozen=True)
class Display:
    """Whether a window can be opened."""

    expected: bool = False
    """A person seems to sit in front of a screen that this process can use."""
    display: str = ""
    """``DISPLAY`` or ``WAYLAND_DISPLAY``."""
    session: str = ""
    """``x11``, ``wayland``, ``tty``..."""
    ssh: bool = False
    works: bool | None = None
    """None: not tried, since no display is set or the OpenCV has no windows."""
    problem: str = ""
    stderr: tuple[str, ...] = ()
    seconds: float = 0.0


def opencv_from(details: dict[str, Any]) -> OpenCV:
    """Facts from what the import in a subprocess told."""
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in details.items()
    }
    return OpenCV(**values)


def describe(cv2: Any) -> dict[str, Any]:
    """In a subprocess: fields of `OpenCV`.

    Raises:
        ImportError: what was imported as cv2 is not whole.
    """
    import numpy as np  # noqa: PLC0415

    if not hasattr(cv2, "imdecode"):
        raise ImportError("the folder cv2 is there but empty: its files were removed or overwritten")
    pixels = np.full((16, 16, 3), 128, np.uint8)
    written, data = cv2.imencode(".png", pixels)
    if not written or not np.array_equal(cv2.imdecode(data, cv2.IMREAD_COLOR), pixels):
        raise ImportError("cv2 reads back another picture than it wrote")
    information = cv2.getBuildInformation()
    with contextlib.suppress(AttributeError):
        return {
            "camera_backends": _backends(cv2.videoio_registry, cv2.videoio_registry.getCameraBackends()),
            "stream_backends": _backends(cv2.videoio_registry, cv2.videoio_registry.getStreamBackends()),
            "gui": _gui(cv2, information),
            "ffmpeg": _built(information, "FFMPEG"),
            "gstreamer": _built(information, "GStreamer"),
            "threads": cv2.getNumThreads(),
            "parallel": _line(information, "Parallel framework"),
        }
    return {"gui": _gui(cv2, information)}


def _backends(registry: Any, numbers: Any) -> list[str]:
    """Names of those that are there: plug-ins are listed although they are not installed."""
    usable = getattr(registry, "hasBackend", lambda _: True)
    return [str(registry.getBackendName(number)) for number in numbers if usable(number)]


def _gui(cv2: Any, information: str) -> str:
    """Window system, empty for none."""
    with contextlib.suppress(Exception):
        if hasattr(cv2, "currentUIFramework"):
            # The headless package has the function, and raises or gives nothing.
            return str(cv2.currentUIFramework() or "")
    word = _line(information, "GUI").split(" ")[0]
    return "" if word in ("", "NONE") else word


def _line(information: str, name: str) -> str:
    found = re.search(rf"^\s*{re.escape(name)}:[ \t]*(.*)$", information, re.MULTILINE)
    return found[1].strip() if found else ""


def _built(information: str, name: str) -> bool:
    return _line(information, name).startswith("YES")


def gather_display(gui: str, timeout: float) -> Display:
    """Look for a display, and try a window where there is one.

    Args:
        gui: window system of OpenCV; empty for none.
        timeout: seconds.
    """
    environment = os.environ
    ssh = bool(environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"))
    if platform.system() in ("Windows", "Darwin"):
        display, expected = "", not ssh
    else:
        display = environment.get("WAYLAND_DISPLAY") or environment.get("DISPLAY") or ""
        expected = bool(display)
    facts = Display(expected, display, environment.get("XDG_SESSION_TYPE", ""), ssh)
    if not (gui and expected):
        return facts
    found = ask("window", timeout=timeout)
    return Display(
        expected,
        display,
        facts.session,
        ssh,
        works=not found.problem,
        problem=found.problem,
        stderr=found.stderr,
        seconds=round(found.seconds, 2),
    )


def probe_window() -> dict[str, Any]:
    """In a subprocess: show a small window and close it.

    Raises:
        Exception: OpenCV cannot. Qt ends the process instead.
    """
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    name = "salgan-edge doctor"
    cv2.namedWindow(name, cv2.WINDOW_AUTOSIZE)
    cv2.imshow(name, np.full((120, 240, 3), 96, np.uint8))
    for _ in range(5):
        cv2.waitKey(20)
    visible = cv2.getWindowProperty(name, cv2.WND_PROP_VISIBLE)
    cv2.destroyAllWindows()
    return {"visible": bool(visible > 0)}
