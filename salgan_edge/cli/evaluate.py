"""`salgan-edge evaluate`: a bundle's accuracy on human gaze."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from salgan_edge.train.data.gaze import GazePair
    from salgan_edge.train.evaluate import Scores

__all__ = ["evaluate"]


class _Split(StrEnum):
    train = "train"
    validation = "validation"
    test = "test"


def evaluate(
    data: Annotated[Path, typer.Option(help="Gaze folder, such as sjtu_tis.")],
    split: Annotated[_Split, typer.Option(help="Part of the photos.")] = _Split.validation,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="Bundle folder; default: the embedded one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all allowed.")] = None,
) -> None:
    """Score a bundle against where people really looked."""
    import dataclasses  # noqa: PLC0415

    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415
    from salgan_edge.train.data.gaze import GazeFolder  # noqa: PLC0415
    from salgan_edge.train.evaluate import evaluate_bundle  # noqa: PLC0415

    folder = GazeFolder(data)
    predictor = SaliencyPredictor.load(bundle, threads=threads)
    scores = evaluate_bundle(predictor, folder, split.value, _progress)
    if as_json:
        typer.echo(
            json.dumps(
                {"bundle": predictor.bundle.manifest.bundle_id, **dataclasses.asdict(scores)}, indent=2
            )
        )
    else:
        typer.echo(_table(scores, predictor.bundle.manifest.bundle_id))


def _progress(groups: Sequence[list[GazePair]]) -> Iterable[list[GazePair]]:
    if not sys.stderr.isatty():
        yield from groups
        return
    with typer.progressbar(groups, label="evaluating", file=sys.stderr) as bar:
        yield from bar


def _table(scores: Scores, bundle_id: str) -> str:
    names = list(next(iter(scores.rows.values())))
    lines = [
        f"bundle {bundle_id} on {scores.data}, split {scores.split}: {scores.photos} photos, {scores.pairs} pairs",
        "",
        f"{'condition':<12}" + "".join(f"{name:>10}" for name in names) + f"{'mean map CC':>14}",
    ]
    for condition, row in scores.rows.items():
        figures = "".join(f"{row[name]:>10.3f}" for name in names)
        lines.append(f"{condition:<12}{figures}{scores.mean_map[condition]:>14.3f}")
    if scores.guide is not None:
        lines += ["", f"guide {scores.guide:.3f} (a model blind to text scores 0.5)"]
    return "\n".join(lines)
