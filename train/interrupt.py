"""Ctrl-C while training: the step is finished and the state saved, then the training stops."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["StopRequest", "TrainingInterrupted"]


class TrainingInterrupted(KeyboardInterrupt):
    """A training was interrupted; its state is saved and ``resume`` goes on with it."""


class StopRequest:
    """Takes interrupts (SIGINT) while its block runs.

    The first one sets `made`. A second one interrupts at once, except in a worker, which has a
    parent that passes the first one on and cannot tell who has had it.

    Args:
        worker: this process is one of several that train together.
        forward: pass the first interrupt on to the workers that this process started.
    """

    def __init__(self, *, worker: bool = False, forward: bool = False) -> None:
        self.made = False
        self._worker, self._forward = worker, forward

    def __enter__(self) -> Self:
        """Begin to take interrupts; in a thread, where Python allows it not, nothing changes."""
        self._taken = threading.current_thread() is threading.main_thread()
        if self._taken:
            self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give interrupts back."""
        if self._taken:
            signal.signal(signal.SIGINT, self._before)

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as `signal` calls it
        if self.made and not self._worker:
            raise KeyboardInterrupt
        self.made = True
        if self._forward:
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGINT)
