"""Writes measured scores into a checkpoint, so that every bundle made of it tells them.

::

    salgan-edge export --checkpoint runs/edge/generator.safetensors --size 256 --output /tmp/bundle
    salgan-edge evaluate --bundle /tmp/bundle --data ../shared/data/sjtu_tis --json > scores.json
    python -m salgan_edge.train.annotate runs/edge/generator.safetensors released.safetensors --size 256 scores.json
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from salgan_edge.train.checkpoint import load_generator, save_generator

__all__ = ["annotate"]


def annotate(
    checkpoint: Annotated[Path, typer.Argument()],
    output: Annotated[Path, typer.Argument()],
    scores: Annotated[list[Path], typer.Argument()],
    size: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Copy a checkpoint with the output of `salgan-edge evaluate --json` as its metrics.

    Args:
        checkpoint: generator.
        output: where the copy goes.
        scores: one file for each data set and split that was evaluated.
        size: side of the input in pixels that was evaluated; the checkpoint's where None.

    Raises:
        CheckpointError: `checkpoint` is missing or damaged.
    """
    model, description = load_generator(checkpoint, size)
    metrics = {}
    for file in scores:
        measured = json.loads(file.read_text())
        name = f"{measured['data']} {measured['split']}"
        metrics[name] = {
            "photos": measured["photos"],
            "pairs": measured["pairs"],
            "guide": None if measured["guide"] is None else round(measured["guide"], 4),
            **{c: {m: round(v, 4) for m, v in row.items()} for c, row in measured["rows"].items()},
        }
    save_generator(model, dataclasses.replace(description, metrics=metrics), output)


if __name__ == "__main__":
    typer.run(annotate)
