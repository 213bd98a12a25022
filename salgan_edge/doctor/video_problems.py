"""What is wrong with windows and cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from salgan_edge.doctor.problems import Problem, apt_install, pip_install, pip_uninstall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salgan_edge.doctor.cameras import Camera
    from salgan_edge.doctor.facts import Facts

__all__ = ["video_problems"]

_QT_LIBRARIES = (
    "libxkbcommon-x11-0",
    "libxcb-icccm4",
    "libxcb-image0",
    "libxcb-keysyms1",
    "libxcb-render-util0",
)
"""Debian's packages of what Qt's window plug-in loads and slim systems lack."""


def video_problems(facts: Facts) -> Iterator[Problem]:
    """Problems of windows and cameras; none of them keeps an image from being predicted."""
    vision = facts.packages.imports.get("opencv")
    if vision is not None and not vision.problem:
        yield from _window(facts)
    if facts.cameras.looked:
        for camera in facts.cameras.found:
            yield from _camera(facts, camera)


def _window(facts: Facts) -> Iterator[Problem]:
    display, gui = facts.display, facts.opencv.gui
    if display.works:
        return
    if not display.expected:
        why = "this is a session over SSH" if display.ssh else "no display is set (DISPLAY)"
        what = f"{why}: no window can be opened here; everything else can be done"
        if display.ssh and facts.system.kind == "Linux":
            commands: tuple[str, ...] = ("ssh -Y USER@THIS_MACHINE",)
        elif facts.system.container and facts.system.kind == "Linux":
            commands = ("docker run -e DISPLAY -v /tmp/.X11-unix:/tmp/.X11-unix IMAGE",)
        else:
            commands = ()
        yield Problem("note", "window", what, commands)
    elif not gui:
        headless = [name for name in facts.packages.opencv if "headless" in name]
        what = f"{', '.join(headless) or 'this OpenCV'} opens no windows: exchange it for opencv-python"
        commands = (
            pip_uninstall(facts, facts.packages.opencv or ("opencv-python-headless",)),
            pip_install(facts, "opencv-python"),
        )
        yield Problem("warning", "window", what, commands)
    elif display.works is False:
        yield Problem("warning", "window", *_window_failure(facts))


def _window_failure(facts: Facts) -> tuple[str, tuple[str, ...]]:
    display = facts.display
    told = " ".join((display.problem, *display.stderr))
    what = f"no window can be opened on {display.display or 'the screen'}: {display.problem}"
    if "could not connect to display" in told or "cannot open display" in told:
        if facts.system.container:
            return f"{what}; allow it on the host", ("xhost +SI:localuser:$USER",)
        if display.ssh:
            return what, ("ssh -Y USER@THIS_MACHINE",)
        return f"{what}; take the value that a terminal of the desktop shows", ("echo $DISPLAY",)
    if "platform plugin" in told:
        # The plug-in is in OpenCV's package; the libraries that it loads are the system's.
        return what, apt_install(facts, *_QT_LIBRARIES)
    return what, ()


def _camera(facts: Facts, camera: Camera) -> Iterator[Problem]:
    part = f"camera {camera.number}"
    title = f"camera {camera.number}{f' ({camera.name})' if camera.name else ''}"
    if not camera.allowed:
        group = camera.group or "video"
        what = f"{title}: this user may not open {camera.device}"
        if facts.system.container:
            commands: tuple[str, ...] = (f"docker run --device {camera.device} --group-add {group} IMAGE",)
        elif group == "root":
            commands = (f"sudo chgrp video {camera.device}", f"sudo chmod 660 {camera.device}")
        elif group == "video" and facts.cameras.in_video_group:
            commands = (f"sudo chmod g+rw {camera.device}",)
        else:
            what += "; log out and in again after this"
            commands = (f'sudo usermod -aG {group} "$USER"',)
        yield Problem("warning", part, what, commands)
    elif camera.works is False:
        commands = (f"fuser -v {camera.device}",) if camera.device else ()
        yield Problem("warning", part, f"{title}: {camera.problem}", commands)
