"""A source read by a thread of its own: the newest frame is handed over, a lost source is opened again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from salgan_edge.errors import SourceError
from salgan_edge.sources.frame import Frame, Source, ignore
from salgan_edge.sources.handover import Handover

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["Capture", "LiveSource", "played_live"]

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
# A reader may be stuck inside a driver; its thread then ends whenever the driver returns.
_LONGEST_JOIN = 1.0


class Capture(Protocol):
    """What gives images: a camera, a stream, or a simulation of one. Only one thread uses it.

    An attribute ``fps``, float or None, is taken over where there is one.
    """

    def read(self) -> tuple[Pixels, float] | None:
        """The next image, RGB (H, W, 3), and `time.monotonic()` when it was captured; waits for it.

        Returns:
            None when the source was lost and may come back.

        Raises:
            EOFError: the source has ended and will not come back.
        """

    def close(self) -> None:
        """Let go of the device."""


class LiveSource(Source):
    """Frames of a capture that runs at its own pace.

    A thread reads all the time, so nothing grows old inside OpenCV; whoever iterates gets the newest
    frame. A lost capture is opened again after pauses of 0.5 s that double up to 10 s.
    """

    def __init__(
        self,
        opener: Callable[[], Capture],
        *,
        name: str,
        fps: float | None = None,
        count: int | None = None,
        newest: bool = True,
        patience: float | None = None,
        notice: Callable[[str], None] = ignore,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the capture and read its first frame.

        Args:
            opener: opens the capture, now and after it was lost; raises `SourceError`.
            name: for messages.
            fps: frames per second; without it the capture's own.
            count: how many frames there are, where known.
            newest: keep the newest frame only; otherwise reading waits until a frame is taken.
            patience: seconds to try a lost capture again; None tries for ever.
            notice: takes one line when the capture was lost and when it is back; called in the
                reading thread.
            interrupt: called by `close`, to end a wait inside the capture.

        Raises:
            SourceError: the capture cannot be opened or gives no frame; nothing is tried again.
        """
        self.name = name
        self.live = newest
        self.count = count
        self._opener = opener
        self._patience = patience
        self._notice = notice
        self._interrupt = interrupt
        self._frames = Handover[Frame](newest=newest)
        self._closing = threading.Event()
        self._index = 0
        # Opened here and not in the thread: macOS asks for permission in the main thread only.
        capture = opener()
        try:
            first = capture.read()
        except EOFError:
            first = None
        except BaseException:
            capture.close()
            raise
        if first is None:
            capture.close()
            raise SourceError(f"{name} gives no frame: check that it works in another program")
        self.fps = fps or getattr(capture, "fps", None)
        image, self._start = first
        self.size = (image.shape[1], image.shape[0])
        self._put(first)
        # A daemon: a reader that a driver never lets go must not keep the process alive.
        self._thread = threading.Thread(target=self._run, args=(capture,), name=f"source {name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many frames were replaced by newer ones before anybody took them."""
        return self._frames.dropped

    def __next__(self) -> Frame:
        """The newest frame that was not delivered yet, waiting for one.

        Raises:
            SourceError: the source was lost for longer than the patience.
            StopIteration: it has ended or was closed.
        """
        return next(self._frames)

    def close(self) -> None:
        """Stop reading; returns within about a second even if the capture is stuck."""
        self._closing.set()
        self._interrupt()
        self._frames.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(_LONGEST_JOIN)

    def _run(self, capture: Capture | None) -> None:
        """Read until the end, in the thread; the capture is closed by the thread that reads it."""
        try:
            while capture is not None and not self._closing.is_set():
                image = capture.read()
                if image is None:
                    lost, capture = capture, None
                    lost.close()
                    found = self._find_again()
                    if found is None:
                        return
                    capture, image = found
                if not self._put(image):
                    return
        except EOFError:
            self._frames.finish()
        except Exception as error:  # noqa: BLE001 - raised again where the frames are taken
            self._frames.fail(error)
        finally:
            if capture is not None:
                capture.close()

    def _put(self, captured: tuple[Pixels, float]) -> bool:
        image, moment = captured
        frame = Frame(image, self._index, moment, self._time_of(moment))
        self._index += 1
        return self._frames.put(frame)

    def _time_of(self, moment: float) -> float:
        # The arrival of a lossless source follows whoever takes the frames, not what was filmed.
        return moment - self._start if self.live or not self.fps else self._index / self.fps

    def _find_again(self) -> tuple[Capture, tuple[Pixels, float]] | None:
        """The capture opened again and its first image; None when the source is being closed.

        Raises:
            SourceError: patience ran out.
        """
        lost = time.monotonic()
        pause = _FIRST_PAUSE
        reason = "it sent nothing more"
        words = f"lost {self.name}"
        while not self._closing.is_set():
            left = None if self._patience is None else self._patience - (time.monotonic() - lost)
            if left is not None and left <= 0:
                raise SourceError(
                    f"{self.name} was lost and did not come back within {self._patience:g} s: {reason}"
                )
            wait = pause if left is None else min(pause, left)
            self._notice(f"{words}; trying again in {wait:.3g} s")
            if self._closing.wait(wait):
                return None
            pause = min(2 * pause, _LONGEST_PAUSE)
            words = f"still no {self.name}"
            try:
                again = self._opener()
            except SourceError as error:
                reason = str(error)
                continue
            try:
                image = again.read()
            except BaseException:
                again.close()
                raise
            if image is not None:
                if not self._closing.is_set():
                    self._notice(f"{self.name} is back after {time.monotonic() - lost:.1f} s")
                return again, image
            again.close()
            reason = "it was opened but gave no frame"
        return None


class _Player:
    """Frames of a file at the pace in which they were filmed."""

    def __init__(self, frames: Source, stopped: threading.Event) -> None:
        self.fps = frames.fps
        self._frames = frames
        self._stopped = stopped
        self._start: float | None = None

    def read(self) -> tuple[Pixels, float]:
        """The next frame when its time has come."""
        frame = next(self._frames, None)
        if frame is None:
            raise EOFError
        now = time.monotonic()
        if self._start is None:
            self._start = now
        self._stopped.wait(max(0.0, self._start + frame.time - now))
        return frame.image, time.monotonic()

    def close(self) -> None:
        self._frames.close()


def played_live(frames: Source) -> LiveSource:
    """A file as if it were a camera: its frames come at their times, and only the newest is kept.

    Args:
        frames: a source of files, which the new source closes.
    """
    stopped = threading.Event()
    return LiveSource(
        lambda: _Player(frames, stopped), name=frames.name, count=frames.count, interrupt=stopped.set
    )
