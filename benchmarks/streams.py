"""Sources of frames for benchmarks: pictures that move, from memory or as if from a camera."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from salgan_edge import samples
from salgan_edge.video.frames import Frame, Source
from salgan_edge.video.sources import LiveSource

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["MemorySource", "Timer", "moving_frames", "simulated_camera", "write_video"]


def moving_frames(width: int, height: int, count: int = 30) -> list[Pixels]:
    """A sample photo seen by a camera that circles, RGB uint8 (height, width, 3)."""
    photo = cv2.resize(samples.load("coffee"), (width * 5 // 4, height * 5 // 4))
    frames: list[Pixels] = []
    for number in range(count):
        angle = 2 * np.pi * number / count
        x, y = (
            round(side / 8 * (1 + turn))
            for side, turn in zip((width, height), (np.cos(angle), np.sin(angle)), strict=True)
        )
        frames.append(np.ascontiguousarray(photo[y : y + height, x : x + width], np.uint8))
    return frames


def write_video(path: Path, frames: list[Pixels], count: int) -> None:
    """Write frames over and over, `count` in all, as motion JPEG, which cameras send too."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (width, height))
    for number in range(count):
        writer.write(cv2.cvtColor(frames[number % len(frames)], cv2.COLOR_RGB2BGR))
    writer.release()


class MemorySource(Source):
    """Frames over and over, as fast as they are taken, for some seconds.

    Args:
        frames: RGB uint8 (H, W, 3).
        seconds: from the first frame on.
    """

    def __init__(self, frames: list[Pixels], seconds: float) -> None:
        self.name = "memory"
        self.fps = 30.0
        self._frames, self._seconds = frames, seconds
        self._number = 0
        self._end = float("inf")

    def __next__(self) -> Frame:
        """The next frame."""
        now = time.monotonic()
        if self._number == 0:
            self._end = now + self._seconds
        if now >= self._end:
            raise StopIteration
        number = self._number
        self._number += 1
        return Frame(self._frames[number % len(self._frames)], number, now, number / 30)

    def close(self) -> None:
        """End."""
        self._end = 0.0


class Timer:
    """A camera's clock: waits until each next frame is due."""

    def __init__(self, fps: float) -> None:
        """Start at the first frame."""
        self._period = 1 / fps
        self._next = time.monotonic()

    def wait(self) -> None:
        """Wait for the next frame; one that is late does not hurry the others."""
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(self._next, now) + self._period


class _Camera:
    """Gives frames at a fixed rate."""

    def __init__(self, frames: list[Pixels], fps: float) -> None:
        self.fps = fps
        self._frames, self._timer = frames, Timer(fps)
        self._number = 0

    def read(self) -> tuple[Pixels, float]:
        self._timer.wait()
        image = self._frames[self._number % len(self._frames)]
        self._number += 1
        return image.copy(), time.monotonic()

    def close(self) -> None:
        pass


def simulated_camera(frames: list[Pixels], fps: float) -> LiveSource:
    """A live source that delivers frames at a fixed rate, through the real reading thread."""
    return LiveSource(lambda: _Camera(frames, fps), name="simulated camera", fps=fps)
