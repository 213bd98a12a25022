"""A window that shows pictures and takes keys, by OpenCV."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import cv2

from salgan_edge.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["DisplayCheck", "Window"]

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


class Window:
    """A window of OpenCV's.

    Args:
        title: of the window, and its name.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown = self._gone = False
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
        self._shown = True

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
        if self._shown and not self._gone:
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
