"""What is seen of a training on a terminal: a bar with loss terms, validation CC and time left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["Display"]


class Display:
    """Shows a bar while its block runs, if standard error is a terminal; else nothing.

    Args:
        epochs: of the whole training.
        steps: of one epoch.
        done: steps that were taken before, in an interrupted run.
        shown: False shows nothing at all.
    """

    def __init__(self, epochs: int, steps: int, done: int, *, shown: bool) -> None:
        self._epochs, self._steps = epochs, steps
        self._bar: Progress | None = None
        if shown and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[losses]} {task.fields[scores]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                # Steps are fast and validation is slow: only whole epochs say how long it takes.
                speed_estimate_period=3600,
            )
            self._task = self._bar.add_task(
                f"epoch 1/{epochs}", total=epochs * steps, completed=done, losses="", scores=""
            )

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def step(self, epoch: int, losses: Mapping[str, float]) -> None:
        """A step of an epoch (counted from 0) was taken."""
        if self._bar is not None:
            text = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            self._bar.update(
                self._task, advance=1, description=f"epoch {epoch + 1}/{self._epochs}", losses=text
            )

    def validated(self, correlation: float | None) -> None:
        """An epoch was validated with this CC over all pairs, or not."""
        if self._bar is not None and correlation is not None:
            self._bar.update(self._task, scores=f"CC {correlation:.3f}")
