"""What a command says on standard error while it works, and how it is stopped."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from salgan_edge.predictor import SaliencyPredictor

__all__ = ["Stopped", "one_line_warnings", "show_log", "stoppable", "tell_placement"]


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings of this package as one line each, without the place in the code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        typer.echo(f"warning: {message}", err=True)


def tell_placement(predictor: SaliencyPredictor) -> None:
    """Say so where a device leaves some of the generator's operators to another."""
    placement = predictor.placement
    if placement is not None and len(placement) > 1:
        shares = ", ".join(f"{count} on {provider}" for provider, count in placement.items())
        typer.echo(f"note: on {predictor.device}, operators of the generator: {shares}", err=True)


class _Lines(logging.Handler):
    """Shows each record as a line on standard error, wherever that goes at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        label = {logging.WARNING: "note", logging.DEBUG: "debug"}.get(record.levelno, "note")
        typer.echo(f"{label}: {record.getMessage()}", err=True)


def show_log(*, debug: bool) -> None:
    """Show what this package logs: what takes long or is lost, and everything if `debug`."""
    log = logging.getLogger("salgan_edge")
    log.setLevel(logging.DEBUG if debug else logging.WARNING)
    if not any(isinstance(handler, _Lines) for handler in log.handlers):
        log.addHandler(_Lines())
        log.propagate = False


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
