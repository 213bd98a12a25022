"""`salgan-edge predict`: images and texts in, pictures and numbers out."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salgan_edge.errors import ImageError, OutputError, SalganEdgeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from salgan_edge.predictor import SaliencyPredictor
    from salgan_edge.result import SaliencyResult

__all__ = ["predict"]


class _Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class _MapFormat(StrEnum):
    png = "png"
    npy = "npy"


def predict(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE... [TEXT]", help="Images, folders or patterns; then what to look for."),
    ],
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="A text; repeat it for several.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File (one image, one text) or folder; default: this folder."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="Bundle folder; default: the embedded one.")
    ] = None,
    save_map: Annotated[bool, typer.Option("--map", help="Also write the bare map.")] = False,
    map_format: Annotated[
        _MapFormat, typer.Option(help="Of the bare map: 16-bit PNG or float32 .npy.")
    ] = _MapFormat.png,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per image and text.")
    ] = False,
    device: Annotated[_Device, typer.Option(help="Where to run.")] = _Device.auto,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all allowed.")] = None,
) -> None:
    """Predict where people look in images when told a text.

    salgan-edge predict img.jpg "a man in a raincoat"

    Without a text it is free viewing. Writes the photo with the prediction laid over it.
    """
    from salgan_edge.cli.arguments import expand_images, split_arguments  # noqa: PLC0415
    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415

    words, texts = split_arguments(arguments, text or [])
    files = expand_images(words)
    names = _Names(output, files, texts)
    with _one_line_warnings():
        predictor = SaliencyPredictor.load(bundle, device=device.value, threads=threads)
    failed = 0
    for file in _progress(files):
        try:
            with _one_line_warnings():
                results = predictor.predict(file, texts)
            written = names.write(file, results, map_suffix=f".{map_format.value}" if save_map else None)
        except (ImageError, OutputError) as error:
            if len(files) == 1:
                raise
            typer.echo(f"error: {error}", err=True)
            failed += 1
            continue
        if as_json:
            for result in results:
                typer.echo(json.dumps(_record(file, result, predictor), ensure_ascii=False))
        elif len(files) == 1 or not sys.stderr.isatty():
            for path in written:
                typer.echo(path)
    if failed:
        raise SalganEdgeError(f"{failed} of {len(files)} images could not be used; the others were written")


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show warnings of this package as one line each, without the place in the code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        typer.echo(f"warning: {message}", err=True)


def _progress(files: list[Path]) -> Iterator[Path]:
    """The files, with a bar on standard error if there are several and a person watches."""
    if len(files) == 1 or not sys.stderr.isatty():
        yield from files
        return
    with typer.progressbar(files, label="predicting", file=sys.stderr) as bar:
        yield from bar


def _record(file: Path, result: SaliencyResult, predictor: SaliencyPredictor) -> dict[str, Any]:
    peaks = result.peaks(5)
    return {
        "file": str(file),
        "text": result.text,
        "width": result.map.shape[1],
        "height": result.map.shape[0],
        "peak": {"x": peaks[0].x, "y": peaks[0].y},
        "peaks": [{"x": p.x, "y": p.y, "value": round(p.value, 4)} for p in peaks],
        "milliseconds": {stage: round(time, 3) for stage, time in result.milliseconds.items()},
        "device": predictor.device,
        "bundle": predictor.bundle.manifest.bundle_id,
    }


class _Names:
    """Where the results of each image go.

    Raises:
        OutputError: one output file was named for several results, or it would replace an input.
    """

    def __init__(self, output: Path | None, files: Sequence[Path], texts: Sequence[str | None]) -> None:
        from salgan_edge.images import IMAGE_SUFFIXES  # noqa: PLC0415

        is_file = (
            output is not None and output.suffix.lower() in {*IMAGE_SUFFIXES, ".npy"} and not output.is_dir()
        )
        if is_file and (len(files) > 1 or len(texts) > 1):
            raise OutputError(
                f"{output} is one file for {len(files)} images and {len(texts)} texts: give a folder with --output"
            )
        self._file = output if is_file else None
        self._folder = Path() if output is None or is_file else output
        if self._file is not None and any(self._file.resolve() == file.resolve() for file in files):
            raise OutputError(f"{output} is an input: give another --output")
        self._taken: set[Path] = {file.resolve() for file in files}

    def write(self, file: Path, results: Sequence[SaliencyResult], map_suffix: str | None) -> list[Path]:
        """Write the overlays, the maps if wanted, and a sheet of several; the paths written."""
        from salgan_edge.cli.arguments import slug  # noqa: PLC0415

        written = []
        for result in results:
            path = self._file or self._free(f"{file.stem}_{slug(result.text)}", ".png")
            result.save(path)
            written.append(path)
            if map_suffix:
                bare = path.with_name(f"{path.stem}_map{map_suffix}")
                result.save_map(bare)
                written.append(bare)
        if len(results) > 1:
            written.append(self._sheet(file, results))
        return written

    def _sheet(self, file: Path, results: Sequence[SaliencyResult]) -> Path:
        from salgan_edge import render  # noqa: PLC0415
        from salgan_edge.images import write_image  # noqa: PLC0415

        captions = [result.text or "free viewing" for result in results]
        path = self._free(f"{file.stem}_sheet", ".png")
        write_image(path, render.sheet(results[0].image, [result.overlay() for result in results], captions))
        return path

    def _free(self, stem: str, suffix: str) -> Path:
        """A path that no other result of this run has, and no input."""
        path, number = self._folder / f"{stem}{suffix}", 1
        while path.resolve() in self._taken:
            number += 1
            path = self._folder / f"{stem}-{number}{suffix}"
        self._taken.add(path.resolve())
        return path
