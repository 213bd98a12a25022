"""How a command is stopped."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Stopped", "stoppable"]


class Stopped(BaseException):
    """A signal ended the command; the shell expects 128 and its number as the exit code.

    No KeyboardInterrupt, of which Typer makes the exit code 130, nor an Exception, which is handled.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        """Of the signal."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and a terminal that is closed end the block as Ctrl-C does, so that what was begun is cleaned up."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in names)}
    for number, handler in before.items():
        # What is ignored stays so: nohup.
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
