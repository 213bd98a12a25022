"""The course of a training: one row per epoch, as JSON Lines, TensorBoard log and PNG (the paper's figure 5)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tensorboardX import SummaryWriter

from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["History", "plot_curves"]

Row = dict[str, Any]


class History:
    """Keeps ``metrics.jsonl``, ``tensorboard/`` and ``curves.png`` in a run's folder.

    A row has ``epoch`` (from 1), ``seconds``, ``learning_rate``, ``loss`` (terms by name,
    ``generator`` and ``discriminator`` are the sums) and ``validation`` (``loss`` and CC by
    condition; empty without validation).

    Args:
        folder: of the run.
        epochs: how many were finished; rows of later ones are dropped, as left by an interruption.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self._folder = folder
        self._file = folder / "metrics.jsonl"
        self.rows: list[Row] = []
        if epochs and self._file.exists():
            rows = [json.loads(line) for line in self._file.read_text().splitlines()]
            self.rows = [row for row in rows if row["epoch"] <= epochs]
        self._board = SummaryWriter(
            str(folder / "tensorboard"), purge_step=epochs + 1 if epochs else None, write_to_disk=True
        )

    def add(self, row: Row) -> None:
        """Record an epoch."""
        self.rows.append(row)
        with writing(self._file) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        for group in ("loss", "validation"):
            for name, value in row[group].items():
                self._board.add_scalar(f"{group}/{name}", value, row["epoch"])
        self._board.add_scalar("learning_rate", row["learning_rate"], row["epoch"])
        self._board.flush()
        plot_curves(self.rows, self._folder / "curves.png")

    def close(self) -> None:
        """Close the TensorBoard log."""
        self._board.close()


def plot_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw losses of generator, discriminator and validation, and validation CC, over the epochs.

    Args:
        rows: see `History`; at least one.
        path: PNG file.
    """
    panels = [("generator loss", "loss", "generator"), ("discriminator loss", "loss", "discriminator"),
              ("validation loss", "validation", "loss"), ("validation CC", "validation", "all")]  # fmt: skip
    panels = [panel for panel in panels if any(panel[2] in row[panel[1]] for row in rows)]
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, group, name) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        points = [(row["epoch"], row[group][name]) for row in rows if name in row[group]]
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else None)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(rows[0]["epoch"] - 0.5, rows[-1]["epoch"] + 0.5)
        axes.grid(visible=True, alpha=0.3)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
