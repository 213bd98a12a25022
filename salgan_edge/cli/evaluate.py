"""`salgan-edge evaluate`: accuracy of bundles on human gaze, and on texts with boxes."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from salgan_edge.cli.execution import (
    DeviceName,
    DeviceOption,
    ProviderOptions,
    StrictOption,
    ThreadsOption,
    execution_of,
)
from salgan_edge.console import one_line_warnings, progress
from salgan_edge.errors import InputError
from salgan_edge.evaluate import Baseline
from salgan_edge.images import IMAGE_SUFFIXES

__all__ = ["evaluate"]


class _Split(StrEnum):
    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


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
        list[Baseline] | None, typer.Option(help="Baseline for the table; may be repeated; default: all.")
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
    from salgan_edge.evaluate import run  # noqa: PLC0415
    from salgan_edge.evaluate.pointing import DetectedBoxes  # noqa: PLC0415
    from salgan_edge.evaluate.scores import Bootstrap  # noqa: PLC0415
    from salgan_edge.gaze.folder import GazeFolder  # noqa: PLC0415
    from salgan_edge.gaze.phrases import PhraseSet  # noqa: PLC0415
    from salgan_edge.images import write_image  # noqa: PLC0415

    folders = [GazeFolder(folder) for folder in data or []]
    tables = [PhraseSet(table, prompts_data) for table in prompts or []]
    try:
        with one_line_warnings():
            bundles = run.labelled_bundles(bundle, [_labelled(value) for value in compare or []], execution)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--compare") from error
    boxes = DetectedBoxes(objects, objects_cache) if objects is not None else None
    with one_line_warnings():
        findings = run.evaluate(
            bundles,
            folders,
            tables,
            split.value,
            Bootstrap(resamples, seed),
            baselines=baseline or list(Baseline),
            boxes=boxes,
            all_wordings=all_wordings,
            limit=limit,
            progress=lambda photos: progress(photos, "evaluating"),
        )
    if as_json:
        typer.echo(json.dumps(findings.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        typer.echo(findings.to_text(worst=worst, in_paper_form=paper_tables))
    if csv is not None:
        findings.write_csv(csv)
    if sheet is not None:
        picture = run.example_pictures(bundles, folders, tables, findings, split.value, sheet_photos)
        write_image(sheet, picture)


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


def _labelled(value: str) -> tuple[str, Path]:
    """Label, perhaps empty, and folder of a compared bundle."""
    label, separator, place = value.partition("=")
    return (label, Path(place)) if separator and not Path(value).exists() else ("", Path(value))
