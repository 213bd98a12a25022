"""One frame, and what every source of frames offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["FALLBACK_FPS", "Frame", "Source", "ignore"]

FALLBACK_FPS = 25.0
"""Frames per second of what tells no rate of its own, the same as FFmpeg takes for images."""


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """An image and when it was taken."""

    image: npt.NDArray[np.uint8]
    """RGB (H, W, 3)."""
    index: int
    """Number in the source, from 0; frames that were dropped count."""
    captured: float
    """`time.monotonic()` in seconds when it was captured, or read from a file."""
    time: float
    """Seconds since the source's first frame by the source's own clock: time stamps of a video,
    the capture clock of a live source."""
    name: str | None = None
    """File name, where frames are files."""


class Source(Iterator[Frame], ABC):
    """An iterator of frames, closed by `close` or the end of a ``with`` block.

    Attributes:
        name: for messages; never holds a password.
        live: whether only the newest frame is kept; otherwise every frame is delivered.
        fps: frames per second, None where unknown.
        size: (width, height) of the first frame, None where unknown.
        count: how many frames there are by the source's own word, None where unknown.
    """

    name: str
    live: bool = False
    fps: float | None = None
    size: tuple[int, int] | None = None
    count: int | None = None

    @property
    def dropped(self) -> int:
        """How many frames were replaced by newer ones before anybody took them."""
        return 0

    @abstractmethod
    def __next__(self) -> Frame:
        """The next frame, waiting for it.

        Raises:
            SourceError: the source broke down.
            StopIteration: it has ended or was closed.
        """

    @abstractmethod
    def close(self) -> None:
        """End a waiting iteration and let go of the device or file.

        May be called several times and from another thread.
        """

    def __enter__(self) -> Self:
        """The source itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def ignore(line: str) -> None:
    """Take a notice and do nothing, the default of ``notice`` arguments."""
