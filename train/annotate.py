"""Writes measured scores into a checkpoint, so that every bundle made of it tells them.

::

    python -m salgan_edge.train.annotate runs/edge/generator.safetensors half.safetensors --half
    salgan-edge export --checkpoint half.safetensors --output bundle
    salgan-edge evaluate --bundle bundle --data ../shared/data/sjtu_tis --split test --json > scores.json
    python -m salgan_edge.train.annotate half.safetensors released.safetensors scores.json --half
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from salgan_edge.train.checkpoint import load_generator, save_generator

from salgan_edge.evaluate.scores import Evaluation, PromptEvaluation

__all__ = ["annotate"]


def annotate(
    checkpoint: Annotated[Path, typer.Argument()],
    output: Annotated[Path, typer.Argument()],
    scores: Annotated[list[Path] | None, typer.Argument()] = None,
    size: Annotated[int | None, typer.Option()] = None,
    half: Annotated[bool, typer.Option("--half", help="Round the weights to half precision.")] = False,
) -> None:
    """Copy a checkpoint with the output of `salgan-edge evaluate --json` as its metrics.

    Args:
        checkpoint: generator.
        output: where the copy goes.
        scores: one file for each data set or table of texts, and split, that was evaluated.
        size: side of the input in pixels that was evaluated; the checkpoint's where None.
        half: store the weights in half precision, which halves the file. What is exported and
            evaluated should be made of the result.

    Raises:
        CheckpointError: `checkpoint` is missing or damaged.
        DataError: a file holds no scores, or those of another format.
    """
    model, description = load_generator(checkpoint, size)
    if half:
        model.half()
    metrics: dict[str, Any] = {}
    for file in scores or ():
        raw = json.loads(file.read_text(encoding="utf-8"))
        if "data" in raw:
            metrics |= Evaluation.summary(raw)
        for table in raw.get("prompts", ()):
            metrics |= PromptEvaluation.summary(table)
    save_generator(model, dataclasses.replace(description, metrics=metrics or description.metrics), output)


if __name__ == "__main__":
    typer.run(annotate)
