"""`salgan-edge predict`: images and texts in, pictures and numbers out."""

from __future__ import annotations

import contextlib
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salgan_edge.cli.options import (
    BundleOption,
    DeviceName,
    DeviceOption,
    HalfLifeOption,
    NormaliseOption,
    PromptPackOption,
    ProviderOptions,
    StrictOption,
    ThreadsOption,
    execution_of,
)
from salgan_edge.cli.streams import plan_for, predict_videos
from salgan_edge.console import one_line_warnings, progress, tell_placement
from salgan_edge.errors import ImageError, SalganEdgeError
from salgan_edge.outputs import OutputNames
from salgan_edge.video.sources import is_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from salgan_edge.devices import Execution
    from salgan_edge.predictor import SaliencyPredictor

__all__ = ["predict"]


class _MapFormat(StrEnum):
    png = "png"
    npy = "npy"


def predict(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE... [TEXT]", help="Images, videos, folders or patterns; then what to look for."
        ),
    ],
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="A text; repeat it for several.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File (one input, one text) or folder; default: this folder."),
    ] = None,
    bundle: BundleOption = None,
    prompts: PromptPackOption = None,
    save_map: Annotated[bool, typer.Option("--map", help="Also write the bare map.")] = False,
    map_format: Annotated[
        _MapFormat | None,
        typer.Option(
            help="Of the bare map: 16-bit PNG (default) or float32 .npy; implies --map. Of a video: .npy (frames, h, w) on the generator's grid."
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object per image and text, or per frame of a video."),
    ] = False,
    half_life: HalfLifeOption = 0.1,
    normalise: NormaliseOption = True,
    every: Annotated[
        int, typer.Option(min=1, help="Of a video, predict every Nth frame; those between keep its map.")
    ] = 1,
    device: DeviceOption = DeviceName.auto,
    threads: ThreadsOption = None,
    strict: StrictOption = False,
    provider_option: ProviderOptions = None,
) -> None:
    """Predict where people look in images and videos when told a text.

    salgan-edge predict img.jpg "a man in a raincoat"

    Without a text it is free viewing, or every text of --prompt-pack. Writes the photo or video with the prediction laid
    over it.
    """
    from salgan_edge.inputs import expand_images, split_arguments  # noqa: PLC0415

    execution = execution_of(device.value, threads, strict, provider_option)
    words, texts = split_arguments(arguments, text or [])
    files = expand_images(words)
    if texts == [None] and len(words) > 1 and Path(words[-1]).is_dir():
        typer.echo(f"note: {words[-1]} is a folder here; if it is the text, put it after --text", err=True)
    if prompts is None:
        pack = None
    else:
        from salgan_edge.prompts import load_prompts  # noqa: PLC0415

        pack = load_prompts(prompts, texts)
    if pack is not None:
        texts = list(pack.texts)
    names = OutputNames(output, files, texts)
    videos = [file for file in files if is_video(file)]
    if videos and save_map and map_format is not _MapFormat.npy:
        raise typer.BadParameter(
            "maps of a video are written as .npy: add --map-format npy", param_hint="--map"
        )

    def load(how: Execution) -> SaliencyPredictor:
        from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415

        return SaliencyPredictor.load(bundle, prompts=pack, execution=how)

    images = [file for file in files if file not in videos]
    failed = 0
    if images:
        suffix = f".{(map_format or _MapFormat.png).value}" if save_map or map_format else None
        failed += _predict_images(
            images, texts, names, load, execution, suffix, alone=len(files) == 1, as_json=as_json
        )
    if videos:
        from salgan_edge.video.stabiliser import stabiliser_of  # noqa: PLC0415

        failed += predict_videos(
            videos,
            texts,
            names,
            plan_for(texts, load, execution, live=False),
            stabiliser=lambda: stabiliser_of(half_life, normalise=normalise),
            every=every,
            maps=map_format is not None,
            alone=len(files) == 1,
            as_json=as_json,
        )
    if failed:
        rest = "" if failed == len(files) else "; the others were written"
        kinds = "videos" if not images else "images" if not videos else "images and videos"
        raise SalganEdgeError(f"{failed} of {len(files)} {kinds} could not be used{rest}")


def _predict_images(
    files: list[Path],
    texts: list[str | None],
    names: OutputNames,
    load: Callable[[Execution], SaliencyPredictor],
    execution: Execution,
    map_suffix: str | None,
    *,
    alone: bool,
    as_json: bool,
) -> int:
    """Predict images, and go on after one that cannot be used; how many those were.

    Raises:
        ImageError: the only input cannot be used.
    """
    with one_line_warnings():
        predictor = load(execution)
    tell_placement(predictor)
    failed = 0
    with _lines(files, bar=len(files) > 1 and not as_json) as (ordered, show):
        for file in ordered:
            try:
                with one_line_warnings():
                    results = predictor.predict(file, texts)
            except ImageError as error:
                if alone:
                    raise
                show(f"error: {error}", True)
                failed += 1
                continue
            written = names.write(file, results, map_suffix)
            if as_json:
                for result, paths in zip(results, written.results, strict=True):
                    show(json.dumps(result.to_dict(file=file, files=paths), ensure_ascii=False), False)
            else:
                for path in (*(path for paths in written.results for path in paths.values()), *written.sheet):
                    show(str(path), False)
    return failed


@contextlib.contextmanager
def _lines(files: list[Path], *, bar: bool) -> Iterator[tuple[Iterable[Path], Callable[[str, bool], None]]]:
    """The files, and a function that shows a line (on standard error if the second argument is true).

    A person who watches sees a progress bar if `bar`, and the lines when it is done.
    """
    if not (bar and sys.stderr.isatty() and sys.stdout.isatty()):
        yield files, lambda line, err: typer.echo(line, err=err)
        return
    held: list[tuple[str, bool]] = []
    try:
        yield progress(files, "predicting"), lambda line, err: held.append((line, err))
    finally:
        for line, err in held:
            typer.echo(line, err=err)
