"""Writes measured scores into a checkpoint, so that every bundle made of it has them in its manifest.

::

    python -m tools annotate runs/edge/generator.safetensors half.safetensors --half
    salgan-edge export --checkpoint half.safetensors --output bundle
    salgan-edge evaluate --bundle bundle --data ../shared/data/sjtu_tis --split test --json > scores.json
    python -m tools annotate half.safetensors released.safetensors scores.json --half
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from salgan_edge.train.checkpoint import load_generator, save_generator

from salgan_edge.errors import InputError
from salgan_edge.evaluate.scores import Evaluation, PromptEvaluation

__all__ = ["main"]


def main(
    checkpoint: Annotated[Path, typer.Argument(help="Generator.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="Where the copy goes.", show_default=False)],
    scores: Annotated[
        list[Path] | None,
        typer.Argument(help="One file for each data set or table of texts, and split, that was evaluated."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of the input in pixels that was evaluated; default: the checkpoint's."),
    ] = None,
    half: Annotated[
        bool,
        typer.Option(
            "--half", help="Round the weights to half precision: export and evaluate what comes of it."
        ),
    ] = False,
) -> None:
    """Copy a checkpoint with the output of `salgan-edge evaluate --json` as its metrics."""
    model, description = load_generator(checkpoint, size)
    if half:
        model.half()
    metrics: dict[str, Any] = {}
    for file in scores or ():
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read {file}: {error}; give the output of salgan-edge evaluate --json"
            ) from error
        if "data" in raw:
            metrics |= Evaluation.summary(raw)
        for table in raw.get("prompts", ()):
            metrics |= PromptEvaluation.summary(table)
    save_generator(model, dataclasses.replace(description, metrics=metrics or description.metrics), output)
