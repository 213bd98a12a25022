"""`salgan-edge evaluate`: accuracy of bundles on human gaze."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge.cli.execution import (
    DeviceName,
    DeviceOption,
    ProviderOptions,
    StrictOption,
    ThreadsOption,
    execution_of,
)
from salgan_edge.cli.extras import needs
from salgan_edge.cli.messages import one_line_warnings
from salgan_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from salgan_edge.devices import Execution
    from salgan_edge.train.data.gaze import GazeFolder, GazePair
    from salgan_edge.train.evaluation.models import BundleModel
    from salgan_edge.train.evaluation.pointing import DetectedBoxes

__all__ = ["evaluate"]


class _Split(StrEnum):
    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


class _Baseline(StrEnum):
    """The names of `salgan_edge.train.evaluation.models.Baseline`, without its imports, and none."""

    mean_map = "mean-map"
    centre = "centre"
    spectral_residual = "spectral-residual"
    none = "none"


def evaluate(
    data: Annotated[list[Path], typer.Option(help="Gaze folder, such as sjtu_tis; may be repeated.")],
    split: Annotated[_Split, typer.Option(help="Part of the photos.")] = _Split.validation,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="Bundle folder; default: the embedded one.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="[LABEL=]BUNDLE", help="Another bundle for the same table; may be repeated."),
    ] = None,
    baseline: Annotated[
        list[_Baseline] | None, typer.Option(help="Baseline for the table; may be repeated; default: all.")
    ] = None,
    objects: Annotated[
        Path | None,
        typer.Option(metavar="DETECTOR", help="Play the pointing game on the boxes of yolox_nano_coco.onnx."),
    ] = None,
    objects_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the detector's boxes in this JSON file.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score this many photos: a quick look.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write a CSV table.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture of examples, .jpg or .png.")
    ] = None,
    sheet_photos: Annotated[int, typer.Option(min=1, help="Photos of each data set on the sheet.")] = 4,
    paper_tables: Annotated[
        bool, typer.Option("--paper-tables", help="Print the paper's tables II, III and IV beside ours.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap samples, drawn by photo.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    device: DeviceOption = DeviceName.auto,
    threads: ThreadsOption = None,
    strict: StrictOption = False,
    provider_option: ProviderOptions = None,
) -> None:
    """Score bundles against where people really looked.

    salgan-edge evaluate --data ../shared/data/sjtu_tis --split test --sheet examples.jpg

    Bundles labelled salient, nonsalient and general fill the tables of the paper's group models.
    """
    if objects_cache is not None and objects is None:
        raise typer.BadParameter("needs --objects DETECTOR", param_hint="--objects-cache")
    if paper_tables and as_json:
        raise typer.BadParameter("prints text: leave out --json", param_hint="--paper-tables")
    if sheet is not None and sheet.suffix.lower() not in IMAGE_SUFFIXES:
        raise typer.BadParameter(
            f"{sheet} has no suffix of an image: .jpg or .png was expected", param_hint="--sheet"
        )
    execution = execution_of(device.value, threads, strict, provider_option)
    from salgan_edge.train.data.gaze import GazeFolder  # noqa: PLC0415
    from salgan_edge.train.evaluation import paper_tables as tables  # noqa: PLC0415
    from salgan_edge.train.evaluation.bootstrap import Bootstrap  # noqa: PLC0415
    from salgan_edge.train.evaluation.measure import evaluate_folders  # noqa: PLC0415
    from salgan_edge.train.evaluation.models import Baseline  # noqa: PLC0415
    from salgan_edge.train.evaluation.table import text_table, write_csv  # noqa: PLC0415

    folders = [GazeFolder(folder) for folder in data]
    with one_line_warnings():
        bundles = _bundles(bundle, compare or [], execution)
    boxes = _boxes(objects, objects_cache)
    chosen = baseline or [kind for kind in _Baseline if kind is not _Baseline.none]
    evaluation = evaluate_folders(
        bundles,
        folders,
        split.value,
        Bootstrap(resamples, seed),
        baselines=[Baseline(kind.value) for kind in chosen if kind is not _Baseline.none],
        boxes=boxes,
        limit=limit,
        progress=_progress,
    )
    if boxes is not None:
        boxes.save()
    if as_json:
        typer.echo(evaluation.to_json())
    else:
        typer.echo(text_table(evaluation))
    if paper_tables:
        for scores in evaluation.data:
            typer.echo("\n" + tables.paper_tables(scores))
    if csv is not None:
        write_csv(evaluation, csv)
    if sheet is not None:
        _write_sheet(sheet, bundles, folders, split.value, sheet_photos)


def _bundles(bundle: Path | None, compare: Sequence[str], execution: Execution) -> list[BundleModel]:
    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415
    from salgan_edge.train.evaluation.models import BundleModel  # noqa: PLC0415

    models: list[BundleModel] = []
    for label, place in [("", bundle), *(_labelled(value) for value in compare)]:
        predictor = SaliencyPredictor.load(place, execution=execution)
        name = label or predictor.bundle.manifest.name
        if any(model.name == name for model in models):
            if label:
                raise typer.BadParameter(f"the label {label} occurs twice", param_hint="--compare")
            name = f"{name} {predictor.bundle.manifest.bundle_id}"
        models.append(BundleModel(predictor, name))
    return models


def _labelled(value: str) -> tuple[str, Path]:
    """Label, perhaps empty, and folder of a compared bundle."""
    label, separator, place = value.partition("=")
    return (label, Path(place)) if separator and not Path(value).exists() else ("", Path(value))


def _boxes(detector: Path | None, cache: Path | None) -> DetectedBoxes | None:
    if detector is None:
        return None
    from salgan_edge.train.evaluation.pointing import DetectedBoxes  # noqa: PLC0415

    with needs("export", "onnx"):
        return DetectedBoxes(detector, cache)


def _write_sheet(
    path: Path, bundles: Sequence[BundleModel], folders: Sequence[GazeFolder], split: str, count: int
) -> None:
    import numpy as np  # noqa: PLC0415

    from salgan_edge.images import write_image  # noqa: PLC0415
    from salgan_edge.train.evaluation.pictures import example_photos, example_sheet  # noqa: PLC0415

    parts = [example_sheet(bundles, folder, example_photos(folder, split, count)) for folder in folders]
    write_image(path, np.concatenate(parts))


def _progress(groups: Sequence[list[GazePair]]) -> Iterable[list[GazePair]]:
    if not sys.stderr.isatty():
        yield from groups
        return
    with typer.progressbar(groups, label="evaluating", file=sys.stderr) as bar:
        yield from bar
