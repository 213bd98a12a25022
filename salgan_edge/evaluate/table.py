"""An evaluation as a text table for people and as CSV."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from salgan_edge.evaluate.scores import ALL, METRICS
from salgan_edge.files import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from salgan_edge.evaluate.scores import DataScores, Estimate, Evaluation, ModelScores, Pointing

__all__ = ["CSV_COLUMNS", "text_table", "write_csv"]

CSV_COLUMNS = (
    "data", "split", "model", "bundle", "condition", "metric", "mean", "low", "high", "pairs", "photos",
)  # fmt: skip


def text_table(evaluation: Evaluation) -> str:
    """The evaluation in lines of about 110 characters."""
    blocks = [_block(scores) for scores in evaluation.data]
    note = (
        f"± is half the 95 % confidence interval, from {evaluation.resamples} bootstrap samples of photos; "
        "KL is better when smaller.\n"
        "IG is in bits per fixation over the mean map. Both ends of every interval: --json or --csv."
    )
    blocks.append([note])
    return "\n\n".join("\n".join(block) for block in blocks)


def _block(scores: DataScores) -> list[str]:
    limited = "" if scores.photos == scores.photos_of_split else f" of {scores.photos_of_split}"
    lines = [
        f"{scores.data}, split {scores.split}: {scores.photos}{limited} photos, {scores.pairs} pairs",
    ]
    if scores.baseline_from != "train":
        lines.append("no training photos: the mean map is that of the evaluated photos themselves")
    for model in scores.models:
        lines += ["", *_model(model)]
    return lines


def _model(model: ModelScores) -> list[str]:
    heading = f"{model.name} (bundle {model.bundle})" if model.bundle else model.name
    lines = [heading, f"{'condition':<14}{'pairs':>6}" + "".join(f"{metric:>13}" for metric in METRICS)]
    for condition, row in model.rows.items():
        cells = "".join(f"{_cell(row.metrics[metric]):>13}" for metric in METRICS)
        lines.append(f"{condition:<14}{row.pairs:>6}{cells}")
    if model.less_first is not None:
        cells = "".join(f"{_cell(model.less_first[metric], signed=True):>13}" for metric in METRICS)
        lines.append(f"{'less the first':<20}{cells}")
    if model.guide is not None:
        lines.append(f"guide {_span(model.guide)}; a model blind to text scores 0.5")
    if model.pointing is not None:
        lines.append(_pointing(model.pointing))
    return lines


def _pointing(game: Pointing) -> str:
    return (
        f"pointing game {_span(game.hits)} of {game.cases} objects in {game.photos} photos; "
        f"without text {_span(game.free_viewing)}, at a random place {game.box_area:.3f}"
    )


def _cell(estimate: Estimate | None, *, signed: bool = False) -> str:
    if estimate is None:
        return "-"
    half = f"{(estimate.high - estimate.low) / 2:.3f}".removeprefix("0")
    return f"{estimate.mean:{'+' if signed else ''}.3f} ±{half}"


def _span(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """One line for each data set, model, condition and metric, columns `CSV_COLUMNS`.

    ``metric`` is one of `METRICS`, ``guide``, ``pointing`` or ``pointing-free-viewing``; the last
    three stand under the condition ``all``, and ``pairs`` then counts photos or cases.

    Raises:
        OutputError: the file cannot be written.
    """
    with writing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for scores in evaluation.data:
            for model in scores.models:
                for condition, metric, estimate, pairs, photos in _lines(model):
                    writer.writerow(
                        [scores.data, scores.split, model.name, model.bundle or "", condition, metric]
                        + [f"{value:.6f}" for value in (estimate.mean, estimate.low, estimate.high)]
                        + [pairs, photos]
                    )


def _lines(model: ModelScores) -> Iterator[tuple[str, str, Estimate, int, int]]:
    for condition, row in model.rows.items():
        for metric, estimate in row.metrics.items():
            if estimate is not None:
                yield condition, metric, estimate, row.pairs, row.photos
    if model.guide is not None:
        photos = model.guide_photos
        yield ALL, "guide", model.guide, photos, photos
    game = model.pointing
    if game is not None:
        yield ALL, "pointing", game.hits, game.cases, game.photos
        yield ALL, "pointing-free-viewing", game.free_viewing, game.cases, game.photos
