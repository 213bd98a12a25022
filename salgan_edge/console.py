"""What a command says on standard error while it works, tables for people, and how a command is stopped."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
import warnings
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

    from salgan_edge.predictor import SaliencyPredictor

    T = TypeVar("T")

__all__ = [
    "Stopped",
    "one_line_warnings",
    "progress",
    "progress_bar",
    "show_log",
    "stoppable",
    "tell_placement",
    "text_table",
]


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


def progress(items: Sequence[T], label: str) -> Iterator[T]:
    """The items, with a progress bar on standard error where that is a terminal."""
    with progress_bar(label, len(items)) as advance:
        for item in items:
            yield item
            advance()


@contextlib.contextmanager
def progress_bar(label: str, total: int | None, *, shown: bool = True) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error where that is a terminal.

    Args:
        label: what is being done.
        total: steps; None where nobody knows.
        shown: False for no bar at all.

    Yields:
        A function to call after each step.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415 - only commands that show one need it
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        # As it is: brackets in a file's name are no markup.
        task = bar.add_task(escape(label), total=total)
        yield lambda: bar.advance(task)


def text_table(columns: Sequence[tuple[str, int]], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table as lines without colours or borders, its heading first.

    Args:
        columns: heading and least width of each column; the first column is set to the left, the others to the right.
        rows: cells in the order of the columns; missing ones are empty.
    """
    from rich.console import Console  # noqa: PLC0415 - only commands that print tables need it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # A blank to the left keeps full columns apart; it is part of the width of all columns but the first, which has none.
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False)
    for number, (heading, width) in enumerate(columns):
        if number:
            table.add_column(Text(heading), justify="right", min_width=width - 1, no_wrap=True)
        else:
            table.add_column(Text(heading), min_width=width, no_wrap=True)
    for row in rows:
        # As Text, so that brackets and colons are no markup.
        table.add_row(*(Text(str(cell)) for cell in row))
    drawn = io.StringIO()
    Console(file=drawn, width=10_000, color_system=None, force_terminal=False).print(table)
    return [line.rstrip() for line in drawn.getvalue().splitlines()]


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
