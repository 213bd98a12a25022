"""Stand-ins of the pipeline's neighbours: a predictor, a source of numbered pictures, a camera."""

from __future__ import annotations

import threading
import time
import warnings

import numpy as np
from pictures import LONG

from salgan_edge.errors import PromptError
from salgan_edge.predictor import PromptWarning
from salgan_edge.video.frames import Frame, Source
from salgan_edge.video.pipeline import LiveResult, Stream
from salgan_edge.video.sources import LiveSource


def picture(number: int, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    """RGB of a (width, height) that carries a number."""
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    image[0, 0] = (number >> 16, number >> 8 & 255, number & 255)
    return image


def number_of(image: np.ndarray) -> int:
    high, middle, low = (int(value) for value in image[0, 0])
    return high << 16 | middle << 8 | low


class Standin:
    """A predictor whose inference waits to be let go, and that counts what it is asked for."""

    device = "cpu"

    def __init__(self, *, held: bool = False, seconds: float = 0.0) -> None:
        self.embedded: list[tuple[str | None, ...]] = []
        self.encoded: list[str] = []
        self.embedding_threads: set[str] = set()
        self.begun: list[int] = []
        self.moments: list[float] = []
        self.seconds = seconds
        self.failing: dict[int, Exception] = {}
        self._held = held
        self._free: set[int] = set()
        self._changed = threading.Condition()

    def embed(self, texts):
        self.embedding_threads.add(threading.current_thread().name)
        if "bad" in texts:
            raise PromptError("bad text")
        if "long" in texts:
            warnings.warn("this text was cut", PromptWarning, stacklevel=2)
        self.embedded.append(tuple(texts))
        self.encoded += [text for text in texts if text not in self.encoded]
        return np.array([[float(self.encoded.index(text))] for text in texts], np.float32)

    def grids(self, image, vectors):
        number = number_of(image)
        with self._changed:
            self.begun.append(number)
            self.moments.append(time.monotonic())
            self._changed.notify_all()
            if self._held:
                assert self._changed.wait_for(lambda: number in self._free, LONG)
        if self.seconds:
            time.sleep(self.seconds)
        if number in self.failing:
            raise self.failing[number]
        return np.stack([np.full((3, 4), (float(v[0]) + 1) / 100, np.float32) for v in vectors])

    def free(self, *numbers: int) -> None:
        with self._changed:
            self._free.update(numbers)
            self._changed.notify_all()

    def wait_for(self, *numbers: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(numbers) <= set(self.begun), LONG), self.begun


class Pictures(Source):
    """A lossless source of so many pictures."""

    name = "pictures"
    fps = 10.0

    def __init__(self, count: int, error: Exception | None = None, size=lambda _: (32, 24)) -> None:
        self.taken = 0
        self.closed = 0
        self._count, self._error, self._size = count, error, size

    def __next__(self) -> Frame:
        if self.closed:
            raise StopIteration
        if self.taken == self._count:
            if self._error is not None:
                raise self._error
            raise StopIteration
        number = self.taken
        self.taken += 1
        return Frame(picture(number, self._size(number)), number, time.monotonic(), number / 10)

    def close(self) -> None:
        self.closed += 1


class Camera:
    """A capture that gives a picture when told to."""

    fps = 30.0

    def __init__(self) -> None:
        self.given = 0
        self.read_so_far = 0
        self._over = False
        self._changed = threading.Condition()
        self.give(1)

    def give(self, count: int) -> None:
        """Give pictures one after the other, each read before the next."""
        for _ in range(count):
            with self._changed:
                self.given += 1
                self._changed.notify_all()

    def settle(self) -> None:
        """Wait until everything given was handed over: the reader asks for more."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.read_so_far == self.given + 1, LONG)

    def end(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def read(self):
        with self._changed:
            self.read_so_far += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.given >= self.read_so_far or self._over)
            if self.given < self.read_so_far:
                raise EOFError
            return picture(self.read_so_far - 1), time.monotonic()

    def close(self) -> None:
        self.end()

    def source(self) -> LiveSource:
        return LiveSource(lambda: self, name="camera", interrupt=self.end)


def fetch(pipeline: Stream) -> LiveResult:
    """The next result; a failure instead of a wait without an end."""
    result = pipeline.get(LONG)
    assert result is not None
    return result


def result_of(grid, image=None, texts=("a",), **changes) -> LiveResult:
    grids = np.stack([grid] * len(texts))
    image = picture(0, (64, 48)) if image is None else image
    frame = changes.pop("frame", Frame(image, 0, time.monotonic(), 0.0))
    return LiveResult(frame, tuple(texts), grids, grids, changes.pop("predicted", True), {"generator": 1.0})
