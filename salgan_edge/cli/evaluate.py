"""`salgan-edge evaluate`: accuracy of bundles on human gaze, and on texts with boxes."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

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
from salgan_edge.console import one_line_warnings
from salgan_edge.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from salgan_edge.devices import Execution
    from salgan_edge.evaluate.models import BundleModel
    from salgan_edge.evaluate.objects import DetectedBoxes
    from salgan_edge.evaluate.prompts import PromptEvaluation
    from salgan_edge.evaluate.resampling import Bootstrap
    from salgan_edge.evaluate.scores import Evaluation
    from salgan_edge.gaze.folder import GazeFolder
    from salgan_edge.gaze.phrases import PhraseSet

__all__ = ["evaluate"]

_Item = TypeVar("_Item")


class _Split(StrEnum):
    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


class _Baseline(StrEnum):
    """The names of `salgan_edge.evaluate.models.Baseline`, without its imports, and none."""

    mean_map = "mean-map"
    centre = "centre"
    spectral_residual = "spectral-residual"
    none = "none"


def evaluate(
    data: Annotated[
        list[Path] | None, typer.Option(help="Gaze folder, such as sjtu_tis; may be repeated.")
    ] = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="TABLE",
            help="Play the pointing game on texts with boxes: labels.csv, or a folder with phrases.csv; may be repeated.",
        ),
    ] = None,
    prompts_data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the photos' sets, where labels.csv does not lie beside them."
        ),
    ] = None,
    all_wordings: Annotated[
        bool,
        typer.Option(
            "--all-wordings", help="Ask all wordings of a row of --prompts and average, not the first."
        ),
    ] = False,
    worst: Annotated[
        int, typer.Option(min=0, help="List this many of the worst nouns of --prompts, and of the best.")
    ] = 20,
    split: Annotated[_Split, typer.Option(help="Part of the photos.")] = _Split.validation,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="default, small, a bundle folder or a .salgan file.")
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
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write a CSV table; of --prompts one line a text, beside --data's in FILE's name with -prompts.",
        ),
    ] = None,
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
    """Score bundles against where people really looked, and on whether maps go where texts point.

    salgan-edge evaluate --data ../shared/data/sjtu_tis --split test --sheet examples.jpg

    salgan-edge evaluate --prompts ../shared/data/phrases/labels.csv --split test --csv texts.csv

    Bundles labelled salient, nonsalient and general fill the tables of the paper's group models.
    """
    _check(
        (bool(data), "--data"),
        (bool(prompts), "--prompts"),
        (prompts_data is not None, "--prompts-data"),
        (all_wordings, "--all-wordings"),
        (objects is not None, "--objects"),
        (objects_cache is not None, "--objects-cache"),
        (paper_tables, "--paper-tables"),
        (as_json, "--json"),
    )
    if sheet is not None and sheet.suffix.lower() not in IMAGE_SUFFIXES:
        raise typer.BadParameter(
            f"{sheet} has no suffix of an image: .jpg or .png was expected", param_hint="--sheet"
        )
    execution = execution_of(device.value, threads, strict, provider_option)
    from salgan_edge.evaluate import paper_tables as tables  # noqa: PLC0415
    from salgan_edge.evaluate.measure import evaluate_folders  # noqa: PLC0415
    from salgan_edge.evaluate.models import Baseline  # noqa: PLC0415
    from salgan_edge.evaluate.prompt_report import text_table as prompt_table  # noqa: PLC0415
    from salgan_edge.evaluate.resampling import Bootstrap  # noqa: PLC0415
    from salgan_edge.evaluate.table import text_table  # noqa: PLC0415
    from salgan_edge.gaze.folder import GazeFolder  # noqa: PLC0415
    from salgan_edge.gaze.phrases import PhraseSet  # noqa: PLC0415

    folders = [GazeFolder(folder) for folder in data or []]
    phrases = [PhraseSet(table, prompts_data) for table in prompts or []]
    with one_line_warnings():
        bundles = _bundles(bundle, compare or [], execution)
    boxes = _boxes(objects, objects_cache)
    chosen = [kind for kind in baseline or _Baseline if kind is not _Baseline.none]
    bootstrap = Bootstrap(resamples, seed)
    evaluation = evaluate_folders(
        bundles,
        folders,
        split.value,
        bootstrap,
        baselines=[Baseline(kind.value) for kind in chosen],
        boxes=boxes,
        limit=limit,
        progress=_progress,
    )
    if boxes is not None:
        boxes.save()
    pointed = _pointed(bundles, phrases, split.value, bootstrap, limit, all_wordings=all_wordings)
    if as_json:
        whole = json.loads(evaluation.to_json())
        if prompts:
            whole["prompts"] = [found.to_dict() for found in pointed]
        typer.echo(json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        shown = [text_table(evaluation)] if data else []
        typer.echo("\n\n".join([*shown, *(prompt_table(found, worst) for found in pointed)]))
    if paper_tables:
        for scores in evaluation.data:
            typer.echo("\n" + tables.paper_tables(scores))
    if csv is not None:
        _write_csv(csv, evaluation, pointed)
    if sheet is not None:
        _write_sheet(
            sheet, bundles, folders, split.value, sheet_photos, list(zip(phrases, pointed, strict=True))
        )


def _check(*options: tuple[bool, str]) -> None:
    """Refuse options that do not go together, by whether each was given."""
    given = {option for present, option in options if present}
    if not given & {"--data", "--prompts"}:
        raise typer.BadParameter(
            "give a gaze folder with --data, a table of texts with --prompts, or both", param_hint="--data"
        )
    for option, needed in (
        ("--objects-cache", "--objects DETECTOR"),
        ("--objects", "--data FOLDER"),
        ("--paper-tables", "--data FOLDER"),
        ("--prompts-data", "--prompts TABLE"),
        ("--all-wordings", "--prompts TABLE"),
    ):
        if option in given and needed.split()[0] not in given:
            raise typer.BadParameter(f"needs {needed}", param_hint=option)
    if {"--paper-tables", "--json"} <= given:
        raise typer.BadParameter("prints text: leave out --json", param_hint="--paper-tables")


def _pointed(
    bundles: Sequence[BundleModel],
    tables: Sequence[PhraseSet],
    split: str,
    bootstrap: Bootstrap,
    limit: int | None,
    *,
    all_wordings: bool,
) -> list[PromptEvaluation]:
    """The pointing game on each table."""
    from salgan_edge.evaluate.prompts import evaluate_prompts  # noqa: PLC0415
    from salgan_edge.gaze.detector import COCO_CLASSES  # noqa: PLC0415

    with one_line_warnings():
        return [
            evaluate_prompts(
                bundles,
                phrases,
                split,
                bootstrap,
                all_wordings=all_wordings,
                common=COCO_CLASSES,
                limit=limit,
                progress=_progress,
            )
            for phrases in tables
        ]


def _write_csv(path: Path, evaluation: Evaluation, pointed: Sequence[PromptEvaluation]) -> None:
    from salgan_edge.evaluate.prompt_report import write_csv as write_prompts  # noqa: PLC0415
    from salgan_edge.evaluate.table import write_csv  # noqa: PLC0415

    if evaluation.data:
        write_csv(evaluation, path)
    if pointed:
        write_prompts(pointed, path.with_stem(f"{path.stem}-prompts") if evaluation.data else path)


def _bundles(bundle: Path | None, compare: Sequence[str], execution: Execution) -> list[BundleModel]:
    from salgan_edge.evaluate.models import BundleModel  # noqa: PLC0415
    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415

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
    from salgan_edge.evaluate.objects import DetectedBoxes  # noqa: PLC0415

    with needs("export", "onnx"):
        return DetectedBoxes(detector, cache)


def _write_sheet(
    path: Path,
    bundles: Sequence[BundleModel],
    folders: Sequence[GazeFolder],
    split: str,
    count: int,
    pointed: Sequence[tuple[PhraseSet, PromptEvaluation]],
) -> None:
    import numpy as np  # noqa: PLC0415

    from salgan_edge.evaluate.pictures import example_photos, example_sheet  # noqa: PLC0415
    from salgan_edge.evaluate.prompt_report import prompt_sheet, sheet_cases  # noqa: PLC0415
    from salgan_edge.images import write_image  # noqa: PLC0415

    parts = [example_sheet(bundles, folder, example_photos(folder, split, count)) for folder in folders]
    parts += [
        prompt_sheet(bundles, phrases, sheet_cases(found.models[0].cases, count))
        for phrases, found in pointed
    ]
    width = max(part.shape[1] for part in parts)
    write_image(path, np.concatenate([_widened(part, width) for part in parts]))


def _widened(picture: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.uint8]:
    """A picture with white to its right."""
    import numpy as np  # noqa: PLC0415

    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)


def _progress(items: Sequence[_Item]) -> Iterable[_Item]:
    if not sys.stderr.isatty():
        yield from items
        return
    with typer.progressbar(items, label="evaluating", file=sys.stderr) as bar:
        yield from bar
