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
from typing import Annotated, Any

import typer
from salgan_edge.train.checkpoint import load_generator, save_generator
from salgan_edge.train.evaluation.scores import Evaluation

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
        DataError: a file holds no scores, or those of another format.
    """
    model, description = load_generator(checkpoint, size)
    metrics: dict[str, Any] = {}
    for file in scores:
        metrics |= Evaluation.summary(json.loads(file.read_text(encoding="utf-8")))
    save_generator(model, dataclasses.replace(description, metrics=metrics), output)


if __name__ == "__main__":
    typer.run(annotate)
