"""The real window under Xvfb, with keys sent as a person would."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from salgan_edge.images import read_image
from salgan_edge.video.files import VideoFile

TOOLS = ("Xvfb", "xdotool", "import")
pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)} (ImageMagick)"
    ),
]

LONG = 30.0  # seconds; a wait that takes so long has failed
WIDTH, HEIGHT = 480, 320
# Most of each frame, RGB.
GROUND = (60, 130, 60)


def write_video(path: Path, seconds: float, fps: float = 15) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(round(seconds * fps)):
        image = np.full((HEIGHT, WIDTH, 3), GROUND, np.uint8)
        cv2.circle(image, (40 + number * 5 % 400, 100), 30, (230, 60, 30), -1)
        cv2.putText(image, str(number), (20, 300), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3)
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("window") / "a.mp4", 60)


@pytest.fixture
def sit_down(display):
    """A person before the screen; whatever is left running at the end is ended."""
    people: list[Person] = []

    def sit(folder: Path, *arguments: object) -> Person:
        people.append(Person(display, folder, *arguments))
        people[-1].look()
        return people[-1]

    yield sit
    for person in people:
        person.process.kill()
        person.process.communicate()


@pytest.fixture(scope="module")
def display():
    """A screen of its own; Xvfb picks a free number."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as told:
        number = told.readline().strip()
    assert number
    yield f":{number}"
    server.terminate()
    server.wait(LONG)


class _Message(ctypes.Structure):
    """Xlib's XClientMessageEvent, as long as any XEvent."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("sent", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),
    )


def click_the_cross(display: str, window: int) -> None:
    """Ask a window to close as a window manager does when somebody clicks its cross."""
    x = ctypes.CDLL(ctypes.util.find_library("X11"))
    x.XOpenDisplay.restype = ctypes.c_void_p
    x.XInternAtom.restype = ctypes.c_ulong
    x.XInternAtom.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
    x.XSendEvent.argtypes = (
        ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_long, ctypes.POINTER(_Message)
    )  # fmt: skip
    x.XCloseDisplay.argtypes = (ctypes.c_void_p,)
    server = x.XOpenDisplay(display.encode())
    protocols, delete = (x.XInternAtom(server, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    message = _Message(kind=33, display=server, window=window, message=protocols, format=32)
    message.data[0] = delete
    assert x.XSendEvent(server, window, 0, 0, ctypes.byref(message))
    x.XCloseDisplay(server)


class Person:
    """Somebody before the screen, who runs the command and presses keys."""

    def __init__(self, display: str, folder: Path, *arguments: object) -> None:
        self._environment = {**os.environ, "DISPLAY": display}
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "salgan_edge", "webcam", "-o", str(folder), *map(str, arguments)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def look(self) -> None:
        """Wait until the window shows something, and give it the keyboard: there is no window manager."""
        self.window = self.wait_for(lambda: self.tool("search", "--name", "^salgan-edge$").split())[0]
        # The screen is black.
        self.wait_for(lambda: (self.screen().max(axis=2) > 50).mean() > 0.05)
        self.tool("windowfocus", self.window)
        time.sleep(0.2)

    def tool(self, *arguments: str) -> str:
        return subprocess.run(
            ["xdotool", *arguments], env=self._environment, capture_output=True, text=True, check=False
        ).stdout

    def wait_for(self, condition):
        until = time.monotonic() + LONG
        while not (found := condition()):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        return found

    def press(self, *keys: str) -> None:
        """OpenCV keeps the last key between two looks only: at human speed."""
        for key in keys:
            self.tool("key", key)
            time.sleep(0.08)

    def screen(self) -> np.ndarray:
        """RGB of the whole screen."""
        done = subprocess.run(
            ["import", "-window", "root", "png:-"], env=self._environment, capture_output=True, check=False
        )
        image = cv2.imdecode(np.frombuffer(done.stdout, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def keep(self, name: str) -> np.ndarray:
        """A screenshot, also for people where a folder was named."""
        image = self.screen()
        if folder := os.environ.get("SALGAN_EDGE_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(Path(folder) / f"{name}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return image

    def size(self) -> tuple[int, int]:
        found = re.search(r"Geometry: (\d+)x(\d+)", self.tool("getwindowgeometry", self.window))
        assert found
        return int(found[1]), int(found[2])

    def stills(self) -> list[Path]:
        """Overlays that were saved."""
        return sorted(p for p in self.folder.glob("*.png") if not p.stem.endswith(("_map", "_frame")))

    def save(self) -> str:
        """Press s; the name of the new overlay."""
        before = self.stills()
        self.press("s")
        self.wait_for(
            lambda: (
                len(self.stills()) > len(before) and len(list(self.folder.glob("*_map.png"))) > len(before)
            )
        )
        return next(path.stem.split("_", 1)[1] for path in self.stills() if path not in before)

    def end(self) -> tuple[int, str, str]:
        try:
            out, err = self.process.communicate(timeout=LONG)
        finally:
            self.process.kill()
        assert "Traceback" not in err
        return self.process.returncode, out, err


def test_a_session(sit_down, video, tmp_path):
    person = sit_down(tmp_path, "-s", video, "--real-time", "a red ball", "the sky", "a number")
    # The picture below its caption: mostly the frame's ground, and the red of the largest saliency.
    shown = person.keep("first")[36 : 36 + HEIGHT, :WIDTH].astype(int)
    assert (np.abs(shown - GROUND).max(axis=2) <= 20).mean() > 0.5
    assert 0.001 < ((shown[..., 0] > 150) & (shown[..., 1] < 100)).mean() < 0.2
    assert person.size() == (WIDTH, HEIGHT + 72)

    # Digits, and a prompt typed with a mistake.
    assert person.save() == "a-red-ball"
    person.press("2")
    assert person.save() == "the-sky"
    person.press("slash", *"catz", "BackSpace", "space", "q", "Return")
    person.keep("typed")
    time.sleep(0.3)
    assert person.save() == "cat-q"
    person.press("slash", *"dog", "Escape", "1")
    time.sleep(0.3)
    assert person.save() == "a-red-ball"

    # Paused: nothing moves, but a prompt is shown on the frame that stands.
    person.press("space")
    time.sleep(0.4)
    first = person.screen()
    time.sleep(0.3)
    assert np.array_equal(person.screen(), first)
    person.press("3")
    person.wait_for(lambda: not np.array_equal(person.screen(), first))
    assert person.save() == "a-number"
    time.sleep(3.5)  # until the message is gone
    second = person.keep("paused")
    time.sleep(0.3)
    assert np.array_equal(person.screen(), second)
    person.press("space")
    person.wait_for(lambda: not np.array_equal(person.screen(), second))

    # Two prompts, help, a recording.
    person.press("v")
    person.wait_for(lambda: person.size() == (2 * WIDTH + 4, HEIGHT + 72))
    person.press("h")
    person.wait_for(lambda: person.size()[1] > HEIGHT + 300)
    person.keep("help")
    person.press("h", "v")
    person.wait_for(lambda: person.size() == (WIDTH, HEIGHT + 72))
    person.press("r")
    time.sleep(1.5)
    person.keep("recording")
    person.press("r")
    (recording,) = person.wait_for(lambda: list(tmp_path.glob("*.mp4")))
    with VideoFile(recording) as recorded:
        assert recorded.fps == pytest.approx(15)
        count = sum(1 for _ in recorded)
    assert 10 <= count <= 45

    person.press("q")
    code, out, err = person.end()
    assert code == 0
    assert str(recording) in out.splitlines()
    assert set(map(str, person.stills())) <= set(out.splitlines())
    assert re.fullmatch(r"\d+ frames in .* dropped; median age \d+ ms", err.strip())
    still = next(path for path in tmp_path.glob("*_frame.png"))
    assert np.abs(read_image(still)[200, 240].astype(int) - GROUND).max() < 12


def test_escape_quits_and_json_stays_pure(sit_down, video, tmp_path):
    person = sit_down(tmp_path, "-s", video, "--json", "--max-frames", 500, "a red ball")
    person.save()
    person.press("Escape")
    code, out, err = person.end()
    assert code == 0
    assert all(line.startswith("{") and line.endswith("}") for line in out.splitlines())
    assert str(person.stills()[0]) in err


@pytest.mark.parametrize("pace", [["--real-time"], []])
def test_closed_window(sit_down, display, video, tmp_path, pace):
    """While pictures come: the next one must not open the window again."""
    person = sit_down(tmp_path, "-s", video, *pace, "--record", tmp_path / "r.mp4", "a red ball")
    time.sleep(0.5)
    click_the_cross(display, int(person.window))
    code, out, _ = person.end()
    assert code == 0
    assert str(tmp_path / "r.mp4") in out
    with VideoFile(tmp_path / "r.mp4") as recorded:
        assert sum(1 for _ in recorded) > 2


def test_large_frames_fit_the_screen(sit_down, tmp_path):
    image = np.full((2160, 3840, 3), GROUND, np.uint8)
    cv2.imwrite(str(tmp_path / "large.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    (tmp_path / "out").mkdir()
    person = sit_down(tmp_path / "out", "-s", tmp_path / "large.png", "a thing")
    width, height = person.size()
    assert (width, height) == (1280, 720 + 72)
    person.keep("large")
    person.press("slash", "x", "Return")
    time.sleep(0.3)
    assert person.save() == "x"
    person.press("q")
    assert person.end()[0] == 0
