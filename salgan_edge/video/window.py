"""A stream in a window of OpenCV's: the overlay, what it is doing, and keys."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Self

import cv2
import numpy as np

from salgan_edge.errors import OutputError, PromptError
from salgan_edge.predictor import PromptWarning
from salgan_edge.render import text_lines
from salgan_edge.video.output import compose_shown, save_still

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.video.output import LiveOutput
    from salgan_edge.video.pipeline import LiveResult

    Pixels = npt.NDArray[np.uint8]

__all__ = ["KEYS", "DisplayCheck", "Viewer", "Window"]

_SECONDS = 20.0
_TRY = "import cv2; cv2.namedWindow('display check'); cv2.waitKey(1); cv2.destroyAllWindows()"
_LARGEST = (1600, 1000)
"""Width and height in pixels that a window opens with at most: pictures of 4K would not fit the screen."""
_SPECIAL = {8: "backspace", 127: "backspace", 10: "enter", 13: "enter", 27: "escape"}


class DisplayCheck:
    """Whether a window can be opened, tried in a process of its own while other things load.

    Qt, which OpenCV's wheels draw with, ends the whole process where it finds no display.
    """

    def __init__(self) -> None:
        """Begin to try."""
        self._process = subprocess.Popen(  # noqa: S603 - this Python and a constant
            [sys.executable, "-c", _TRY],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def wait(self) -> None:
        """Wait for the outcome.

        Raises:
            OutputError: no window can be opened here.
        """
        try:
            _, said = self._process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            self.cancel()
            raise OutputError(f"no window could be opened within {_SECONDS:.0f} s: use --headless") from None
        if self._process.returncode == 0:
            return
        if "The function is not implemented" in said:
            reason = "this OpenCV has no windows (opencv-python-headless): install opencv-python"
        elif sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
            reason = "there is no display (DISPLAY is not set)"
        else:
            reason = f"the display cannot be used ({(said.strip().splitlines() or ['no reason given'])[0]})"
        raise OutputError(f"cannot open a window: {reason}; or use --headless")

    def cancel(self) -> None:
        """End the trial."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        """The check itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the trial."""
        self.cancel()


class Window:
    """A window of OpenCV's.

    Args:
        title: of the window, and its name.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._visible = self._gone = False
        self._size = (0, 0)
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)

    def show(self, picture: npt.NDArray[np.uint8]) -> None:
        """Show RGB uint8 (H, W, 3); the first one, or one of another shape, sets the window's size.

        Nothing is shown once the user has closed it: OpenCV would open another.
        """
        if self.closed:
            return
        size = (picture.shape[1], picture.shape[0])
        if size != self._size:
            scale = min(1.0, _LARGEST[0] / size[0], _LARGEST[1] / size[1])
            cv2.resizeWindow(self._title, *(max(1, round(side * scale)) for side in size))
            self._size = size
        cv2.imshow(self._title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._visible = True

    def key(self, wait: float = 0.0) -> str | None:
        """The key that was pressed, None if there is none.

        Handles the window's events too, so call it often.

        Args:
            wait: longest wait in seconds.

        Returns:
            A character, or ``enter``, ``escape``, ``backspace``.
        """
        code = (
            cv2.waitKeyEx(max(1, round(1000 * wait)))
            if wait or not hasattr(cv2, "pollKey")
            else cv2.pollKey()
        )
        if code < 0:
            return None
        # GTK puts Shift and the like above, Windows the keys that are no characters.
        code &= 0xFFFF
        if code in _SPECIAL:
            return _SPECIAL[code]
        # On Linux these are codes of X, which are characters up to 255 only.
        last = 0xFF if sys.platform.startswith("linux") else 0xFEFF
        return chr(code) if 32 <= code <= last and chr(code).isprintable() else None

    @property
    def closed(self) -> bool:
        """Whether the user has closed it."""
        if self._visible and not self._gone:
            try:
                self._gone = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
            except cv2.error:
                self._gone = True
        return self._gone

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(cv2.error):
            cv2.destroyWindow(self._title)

    def __enter__(self) -> Self:
        """The window itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


KEYS = {
    "/": "type a prompt (Enter takes it, Escape leaves it)",
    "1-9": "the prompts given at the start; 0 free viewing",
    "v": "the prompt and the next side by side, or alone",
    "space": "pause",
    "s": "save frame, overlay and map",
    "r": "record, or stop recording",
    "h": "help",
    "q": "quit (or Escape)",
}
"""What the keys do."""

_SHOW_EVERY = 1 / 60
"""Seconds between pictures in the window; no screen shows more."""
_STATUS_EVERY = 0.2
_MESSAGE_SECONDS = 3.0
_IDLE = 0.003
_LONGEST_WAIT = 0.05
"""Seconds between looks at whether the window was closed."""
_SILENCE = 2.0
"""Seconds without a frame that are worth a word."""
_TYPED = 60
"""Characters of a prompt that are shown while it is typed: the last ones."""


class Viewer:
    """Shows a pipeline's results in a window until the user or the source ends it.

    Args:
        window: to show in.
        output: takes each result, whether it is shown or not.
        texts: prompts of the number keys; the first is shown first.
        folder: where stills and recordings go.
        side_by_side: begin with two prompts.
        say: takes one line for the terminal.
    """

    def __init__(
        self,
        window: Window,
        output: LiveOutput,
        texts: Sequence[str | None],
        folder: Path,
        *,
        side_by_side: bool = False,
        say: Callable[[str], None],
    ) -> None:
        self._window, self._output, self._pipeline = window, output, output.pipeline
        self._texts = list(texts)
        self._folder, self._say = folder, say
        self._current: str | None = self._texts[0]
        self._both = side_by_side
        self._typed: str | None = None
        self._paused = self._help = self._ended = False
        self.shown: LiveResult | None = None
        """The result to see, None before the first."""
        self._picture: Pixels | None = None
        self._coming: tuple[LiveResult, Pixels | None] | None = None
        self._shown_at = self._taken_at = self._status_at = self._begun = 0.0
        self._status = ""
        self._message, self._message_until = "", 0.0
        self._stills = self._recordings = 0
        self._drawn: tuple[Pixels | None, list[str]] = (None, [])
        self._apply(self._current, self._both)

    def run(self) -> None:
        """Show until the end.

        Raises:
            SourceError: the source broke down.
            DeviceError: the device did.
            OutputError: a file cannot be written.
        """
        self._begun = self._taken_at = time.monotonic()
        while not (self._ended or self._window.closed or self._output.full):
            wait = _IDLE if self._paused else self._next()
            key = self._window.key(wait)
            while key is not None and not self._ended:
                self._press(key)
                key = self._window.key()
            self._draw()

    def _next(self) -> float:
        """Take a result if there is one and it is time; seconds to wait before the next."""
        if self._coming is not None:
            # A file plays no faster than it was taken.
            left = self._begun + self._coming[0].frame.time - time.monotonic()
            if left > 0:
                return min(left, _LONGEST_WAIT)
            self._show(*self._coming)
            self._coming = None
        try:
            result = self._pipeline.get(0)
        except EOFError:
            # A single image stays until it was looked at.
            self._paused = self._output.meter.frames == 1
            self._ended = not self._paused
            if self._paused:
                self._predict_again()
            return 0.0
        if result is None:
            # Waiting for a key, which ends the wait: OpenCV forgets one when the next comes.
            return _IDLE
        live = self._pipeline.source.live
        self._taken_at = time.monotonic()
        due = self._taken_at - self._shown_at >= _SHOW_EVERY or not live
        picture = self._output.take(result, range(len(result.texts)), draw=due)
        if self._output.problem is not None:
            self._tell(self._output.problem)
            self._output.problem = None
        if live:
            self._show(result, picture if due else None)
        else:
            self._coming = (result, picture)
        return 0.0

    def _show(self, result: LiveResult, picture: Pixels | None) -> None:
        """Make a result the one to see, and its picture if one was made."""
        wanted = self._pipeline.texts
        if self.shown is not None and self.shown.texts == wanted != result.texts:
            # The new prompt was shown on a paused frame; results of the old one were still under way.
            return
        self.shown = result
        if picture is not None:
            self._picture, self._shown_at = picture, time.monotonic()

    def _apply(self, current: str | None, both: bool) -> None:
        """Give the chosen prompts to the pipeline; those of a paused frame are predicted anew.

        Where they cannot be used, those before stay.
        """
        partner = self._partner(current)
        chosen = [current, *partner] if both else [current]
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", PromptWarning)
                self._pipeline.set_texts(chosen)
        except PromptError as error:
            self._tell(str(error))
            return
        for warning in caught:
            self._tell(str(warning.message))
        self._current, self._both = current, both and bool(partner)
        if self._paused:
            self._predict_again()

    def _predict_again(self) -> None:
        """Predict the frame that is shown for the present prompts, if it is shown for others."""
        if self.shown is not None and self.shown.texts != self._pipeline.texts:
            self.shown = self._pipeline.predict(self.shown.frame)
            self._picture = compose_shown(self.shown, range(len(self.shown.texts)))

    def _press(self, key: str) -> None:
        if self._typed is not None:
            self._type(key)
        elif key in ("q", "escape"):
            self._ended = True
        elif key == "/":
            self._typed = ""
        elif key == " ":
            self._pause()
        elif key == "s":
            self._save()
        elif key == "r":
            self._toggle_recording()
        elif key == "h":
            self._help = not self._help
        elif key == "v":
            self._toggle_both()
        elif key.isascii() and key.isdigit():
            self._choose(int(key))

    def _type(self, key: str) -> None:
        assert self._typed is not None
        if key == "escape":
            self._typed = None
        elif key == "backspace":
            self._typed = self._typed[:-1]
        elif key == "enter":
            typed, self._typed = self._typed.strip() or None, None
            self._apply(typed, self._both)
        elif len(key) == 1:
            self._typed += key

    def _choose(self, number: int) -> None:
        if number == 0:
            self._apply(None, self._both)
        elif number <= len(self._texts):
            self._apply(self._texts[number - 1], self._both)
        else:
            are = "are" if len(self._texts) > 1 else "is"
            plural = "s" if len(self._texts) > 1 else ""
            self._tell(f"there {are} {len(self._texts)} prompt{plural}; / types another")

    def _toggle_both(self) -> None:
        if self._partner(self._current):
            self._apply(self._current, not self._both)
        else:
            self._tell("there is one prompt; / types another")

    def _partner(self, current: str | None) -> list[str | None]:
        """The prompt shown beside another: the next of those given; none if there is no other."""
        position = self._texts.index(current) if current in self._texts else -1
        after = self._texts[position + 1 :] + self._texts[: position + 1]
        return [text for text in after if text != current][:1]

    def _pause(self) -> None:
        self._paused = not self._paused
        self._pipeline.pause(self._paused)
        if not self._paused and self.shown is not None:
            # A file goes on where it stopped.
            self._begun = time.monotonic() - self.shown.frame.time

    def _save(self) -> None:
        if self.shown is None:
            return
        self._stills += 1
        stem = f"{_stamp()}-{self._stills}"
        try:
            written = save_still(self.shown, range(len(self.shown.texts)), self._folder, stem)
        except OutputError as error:
            self._tell(str(error))
            return
        for path in written:
            self._say(str(path))
        self._tell(f"saved {written[0].name} and {len(written) - 1} more")

    def _toggle_recording(self) -> None:
        if self._output.recording is None:
            self._recordings += 1
            self._output.record(self._folder / f"{_stamp()}-{self._recordings}.mp4", may_fail=True)
            return
        before = len(self._output.recorded)
        try:
            self._output.record(None)
        except OutputError as error:
            self._tell(str(error))
            return
        written = self._output.recorded[before:]
        self._tell(f"recorded {written[0].name}" if written else "nothing was recorded")

    def _tell(self, message: str) -> None:
        """Show a line for a few seconds."""
        self._message, self._message_until = message, time.monotonic() + _MESSAGE_SECONDS

    def _draw(self) -> None:
        if self._picture is None:
            return
        lines = [self.line]
        if self._help:
            lines = [f"{key}: {what}" for key, what in KEYS.items()] + lines
        if self._picture is self._drawn[0] and lines == self._drawn[1]:
            return
        self._drawn = (self._picture, lines)
        bar = text_lines(lines, self._picture.shape[1])
        self._window.show(np.concatenate([self._picture, bar]))

    @property
    def line(self) -> str:
        """What stands below the picture: what is typed, a message, or how it is going."""
        if self._typed is not None:
            dots = "..." if len(self._typed) > _TYPED else ""
            return f"look for: {dots}{self._typed[-_TYPED:]}_"
        now = time.monotonic()
        if self._message and now < self._message_until:
            return self._message
        # A camera goes on while the picture stands: its dropped frames do not matter then.
        if not self._status or (now - self._status_at >= _STATUS_EVERY and not self._paused):
            meter = self._output.meter
            self._status_at = now
            parts = [f"{meter.fps:.0f} fps", f"age {1000 * meter.age:.0f} ms"]
            if now - self._taken_at > _SILENCE:
                parts = [f"no frame for {now - self._taken_at:.0f} s"]
            parts += [f"dropped {self._pipeline.dropped}"] if self._pipeline.source.live else []
            parts += [self._pipeline.device, "h help"]
            self._status = "   ".join(parts)
        marks = ["paused"] * self._paused + ["recording"] * bool(self._output.recording)
        return "   ".join([*marks, self._status])


def _stamp() -> str:
    return datetime.now().astimezone().strftime("salgan-edge-%Y%m%d-%H%M%S")
