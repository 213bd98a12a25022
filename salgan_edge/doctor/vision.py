"""Cameras and windows: which OpenCV can use, whether this user may open them, and whether they work."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from salgan_edge.doctor.probe import ask

__all__ = [
    "Camera",
    "Cameras",
    "Display",
    "OpenCV",
    "describe",
    "gather_cameras",
    "gather_display",
    "opencv_from",
    "probe_camera",
    "probe_window",
]


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
    return replace(
        facts,
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


_MOST = 4
"""Cameras that are tried: each may take seconds."""
_QUERY = 0x80685600
"""VIDIOC_QUERYCAP of Linux's videodev2.h."""
_CAPTURES = 0x1 | 0x1000
"""Capabilities of a node that gives pictures, in one plane or several; others give metadata."""


@dataclass(frozen=True)
class Camera:
    """One camera."""

    number: int = 0
    """What `--camera` or OpenCV calls it."""
    device: str = ""
    """``/dev/video0``; empty where the system has no files for cameras."""
    name: str = ""
    allowed: bool = True
    """This user may open it."""
    group: str = ""
    """Group that the file belongs to."""
    tried: bool = False
    works: bool | None = None
    """It gave a frame; None where it was not tried."""
    captures: bool = True
    """False for a node that gives metadata, not pictures."""
    width: int | None = None
    height: int | None = None
    backend: str = ""
    first_frame: float | None = None
    """Milliseconds from opening to the first frame."""
    problem: str = ""
    stderr: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cameras:
    """All cameras."""

    looked: bool = False
    """False with `--no-cameras`."""
    found: tuple[Camera, ...] = ()
    in_video_group: bool | None = None
    """This user is in the group ``video``; None where there is no such group."""


def gather_cameras(timeout: float, *, usable: bool = True) -> Cameras:
    """List cameras, and take a frame of the first ones.

    Args:
        timeout: seconds for each camera.
        usable: OpenCV can be imported; where not, cameras are listed only.
    """
    # Other systems have no list: the first one is tried.
    listed = _listed() if platform.system() == "Linux" else [Camera()]
    found: list[Camera] = []
    tried = 0
    for camera in listed:
        if usable and camera.allowed and tried < _MOST:
            shown = _try(camera, timeout)
            tried += shown.captures
            found.append(shown)
        else:
            found.append(camera)
    if platform.system() != "Linux":
        found = [camera for camera in found if camera.works]
    return Cameras(looked=True, found=tuple(found), in_video_group=_in_video_group())


def _listed() -> list[Camera]:
    found = []
    for path in Path("/dev").glob("video*"):
        number = path.name.removeprefix("video")
        with contextlib.suppress(OSError):
            if number.isdecimal() and stat.S_ISCHR(path.stat().st_mode):
                found.append(
                    Camera(
                        number=int(number),
                        device=str(path),
                        name=_name(path.name),
                        allowed=os.access(path, os.R_OK | os.W_OK),
                        group=_group(path),
                    )
                )
    return sorted(found, key=lambda camera: camera.number)


def _name(node: str) -> str:
    with contextlib.suppress(OSError):
        path = Path("/sys/class/video4linux") / node / "name"
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _group(path: Path) -> str:
    with contextlib.suppress(OSError, KeyError, NotImplementedError):
        return path.group()
    return ""


def _in_video_group() -> bool | None:
    try:
        import grp  # noqa: PLC0415 - there is none on Windows

        video = grp.getgrnam("video").gr_gid
    except (ImportError, KeyError):
        return None
    return os.geteuid() == 0 or video in (*os.getgroups(), os.getegid())


def _try(camera: Camera, timeout: float) -> Camera:
    found = ask("camera", str(camera.number), timeout=timeout)
    values = found.values
    captures = bool(values.get("captures", True))
    return replace(
        camera,
        tried=captures,
        works=not found.problem if captures else None,
        captures=captures,
        width=values.get("width"),
        height=values.get("height"),
        backend=values.get("backend", ""),
        first_frame=values.get("first_frame"),
        problem=found.problem,
        stderr=found.stderr,
    )


def probe_camera(number: int) -> dict[str, Any]:
    """In a subprocess: one frame.

    Raises:
        OSError: the camera cannot be opened, or gives no frame.
    """
    linux = platform.system() == "Linux"
    if linux and not _gives_pictures(number):
        return {"captures": False}
    import cv2  # noqa: PLC0415

    started = time.perf_counter()
    capture = cv2.VideoCapture(number, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
    if not capture.isOpened():
        raise OSError("it cannot be opened: another program may use it")
    read, frame = capture.read()
    milliseconds = 1000 * (time.perf_counter() - started)
    backend = capture.getBackendName()
    capture.release()
    if not read or frame is None:
        raise OSError("it opens but gives no frame: another program may use it, or the cable is loose")
    return {
        "captures": True,
        "width": frame.shape[1],
        "height": frame.shape[0],
        "backend": backend,
        "first_frame": round(milliseconds, 1),
    }


def _gives_pictures(number: int) -> bool:
    """Whether a node of video4linux is a camera's picture, as far as it tells."""
    import fcntl  # noqa: PLC0415 - there is none on Windows

    answer = bytearray(104)
    try:
        node = os.open(f"/dev/video{number}", os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        fcntl.ioctl(node, _QUERY, answer)
    except OSError:
        return True
    finally:
        os.close(node)
    # The last of the fields that count: what this node, not the whole device, can do.
    return bool(int.from_bytes(answer[88:92], "little") & _CAPTURES)
