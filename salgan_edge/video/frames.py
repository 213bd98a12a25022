"""Frames: what a source of them offers, how threads hand them over, and addresses without secrets."""

from __future__ import annotations

import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "FALLBACK_FPS",
    "Frame",
    "Handover",
    "Source",
    "ignore",
    "is_address",
    "scheme_of",
    "without_secrets",
]

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


T = TypeVar("T")

# A wait without an end cannot be interrupted by Ctrl-C on Windows.
_LONGEST_WAIT = 0.5 if os.name == "nt" else None


class Handover(Generic[T]):
    """A few places between a thread that puts and one that gets.

    Lossless, `put` waits while all places are taken. With `newest`, it never waits: the oldest
    waiting item is dropped instead.

    >>> slot = Handover[str](newest=True)
    >>> slot.put("old"), slot.put("new"), slot.get(), slot.dropped
    (True, True, 'new', 1)
    """

    def __init__(self, capacity: int = 1, *, newest: bool) -> None:
        """Make it empty.

        Args:
            capacity: how many items may wait, 1 or more.
            newest: drop the oldest waiting item instead of waiting.

        Raises:
            ValueError: no capacity.
        """
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}: 1 or more was expected")
        self._capacity = capacity
        self._newest = newest
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False
        self._error: BaseException | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many items were put and never got: replaced, or left when it was closed."""
        return self._dropped

    def put(self, item: T) -> bool:
        """Hand an item over; False when it was closed or finished, and the item is not taken."""
        with self._changed:
            while not self._newest and len(self._items) >= self._capacity and not self._is_over():
                self._changed.wait(_LONGEST_WAIT)
            if self._is_over():
                return False
            if len(self._items) >= self._capacity:
                self._items.popleft()
                self._dropped += 1
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self, timeout: float | None = None) -> T:
        """The oldest waiting item.

        Args:
            timeout: longest wait in seconds; None waits without an end.

        Raises:
            EOFError: there will be no more items.
            TimeoutError: nothing came in time.
            BaseException: what `fail` was given.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._items:
                if self._error is not None and not self._closed:
                    raise self._error
                if self._is_over():
                    raise EOFError("no more items")
                wait = _LONGEST_WAIT
                if until is not None:
                    left = until - time.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"nothing came in {timeout:g} s")
                    wait = left if wait is None else min(left, wait)
                self._changed.wait(wait)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Say that no more items come; those that wait are still delivered."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Raise an error at the getter: after the waiting items, or at once where only the newest counts."""
        with self._changed:
            if self._is_over():
                return
            if self._newest:
                self._drop_all()
            self._error = error
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nobody gets any more: waiting items are dropped, putters and getters stop waiting."""
        with self._changed:
            self._closed = True
            self._drop_all()
            self._changed.notify_all()

    def __iter__(self) -> Self:
        """The items until there are no more."""
        return self

    def __next__(self) -> T:
        """The oldest waiting item; see `get`."""
        try:
            return self.get()
        except EOFError:
            raise StopIteration from None

    def _is_over(self) -> bool:
        return self._finished or self._closed

    def _drop_all(self) -> None:
        self._dropped += len(self._items)
        self._items.clear()


# Two letters or more: "C://" is a drive.
_SCHEME = re.compile(r"([a-z][a-z0-9+.\-]+)://", re.IGNORECASE)
# Cameras take passwords in queries and even in paths ("/user=admin_password=x_channel=1"). All
# up to the next separator is hidden: too much rather than too little.
_SECRET = re.compile(
    r"((?:pass(?:word|wd|phrase)?|pwd|user(?:name)?|usr|login|loginuse|loginpas|token|secret|key|auth|sig(?:nature)?|streamid)=)[^&/?#;]*",
    re.IGNORECASE,
)


def is_address(text: str) -> bool:
    """Whether a text has a scheme, as in ``rtsp://``."""
    return _SCHEME.match(text) is not None


def scheme_of(address: str) -> str:
    """``rtsp`` of ``RTSP://...``; empty without a scheme."""
    match = _SCHEME.match(address)
    return match.group(1).lower() if match else ""


def without_secrets(address: str) -> str:
    """An address fit for messages.

    >>> without_secrets("rtsp://me:secret@10.0.0.5/live?token=abc&channel=1")
    'rtsp://***@10.0.0.5/live?token=***&channel=1'
    """
    match = _SCHEME.match(address)
    start = match.end() if match else 0
    rest = address[start:]
    # The last @, because people put passwords with @ and / into addresses unescaped.
    _, at, host = rest.rpartition("@")
    shown = f"***@{host}" if at else rest
    return address[:start] + _SECRET.sub(r"\1***", shown)
