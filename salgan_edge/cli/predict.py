"""`salgan-edge predict`: images and texts in, pictures and numbers out."""

from __future__ import annotations

import contextlib
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from salgan_edge.cli.execution import (
    DeviceName,
    DeviceOption,
    ProviderOptions,
    StrictOption,
    ThreadsOption,
    execution_of,
)
from salgan_edge.cli.messages import one_line_warnings
from salgan_edge.errors import ImageError, OutputError, SalganEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from salgan_edge.predictor import SaliencyPredictor
    from salgan_edge.prompts import PromptPack
    from salgan_edge.result import SaliencyResult

__all__ = ["predict"]


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
        Path | None,
        typer.Option("--bundle", "-b", help="Bundle folder or .salgan file; default: the embedded one."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompt pack of salgan-edge bake: run its texts, or those given, without the text encoder.",
        ),
    ] = None,
    save_map: Annotated[bool, typer.Option("--map", help="Also write the bare map.")] = False,
    map_format: Annotated[
        _MapFormat | None,
        typer.Option(help="Of the bare map: 16-bit PNG (default) or float32 .npy; implies --map."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per image and text.")
    ] = False,
    device: DeviceOption = DeviceName.auto,
    threads: ThreadsOption = None,
    strict: StrictOption = False,
    provider_option: ProviderOptions = None,
) -> None:
    """Predict where people look in images when told a text.

    salgan-edge predict img.jpg "a man in a raincoat"

    Without a text it is free viewing, or every text of --prompts. Writes the photo with the prediction laid over it.
    """
    from salgan_edge.cli.arguments import expand_images, split_arguments  # noqa: PLC0415
    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415

    execution = execution_of(device.value, threads, strict, provider_option)
    words, texts = split_arguments(arguments, text or [])
    files = expand_images(words)
    if texts == [None] and len(words) > 1 and Path(words[-1]).is_dir():
        typer.echo(f"note: {words[-1]} is a folder here; if it is the text, put it after --text", err=True)
    pack = _pack(prompts, texts)
    if pack is not None:
        texts = list(pack.texts)
    names = _Names(output, files, texts)
    with one_line_warnings():
        predictor = SaliencyPredictor.load(bundle, prompts=pack, execution=execution)
    suffix = f".{(map_format or _MapFormat.png).value}" if save_map or map_format else None
    failed = 0
    with _lines(files, bar=len(files) > 1 and not as_json) as (ordered, show):
        for file in ordered:
            try:
                with one_line_warnings():
                    results = predictor.predict(file, texts)
            except ImageError as error:
                if len(files) == 1:
                    raise
                show(f"error: {error}", True)
                failed += 1
                continue
            written = names.write(file, results, suffix)
            if as_json:
                for result, paths in zip(results, written.results, strict=True):
                    show(json.dumps(_record(file, result, paths, predictor), ensure_ascii=False), False)
            else:
                for path in (*(path for paths in written.results for path in paths.values()), *written.sheet):
                    show(str(path), False)
    if failed:
        rest = "" if failed == len(files) else "; the others were written"
        raise SalganEdgeError(f"{failed} of {len(files)} images could not be used{rest}")


def _pack(prompts: Path | None, texts: Sequence[str | None]) -> PromptPack | None:
    """The prompt pack with the given texts, or all where none is given."""
    if prompts is None:
        return None
    from salgan_edge.prompts import PromptPack  # noqa: PLC0415

    pack = PromptPack.load(prompts)
    chosen = [text for text in texts if text is not None]
    return pack.select(chosen) if chosen else pack


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
        with typer.progressbar(files, label="predicting", file=sys.stderr) as shown:
            yield shown, lambda line, err: held.append((line, err))
    finally:
        for line, err in held:
            typer.echo(line, err=err)


def _record(
    file: Path, result: SaliencyResult, paths: dict[str, Path], predictor: SaliencyPredictor
) -> dict[str, Any]:
    peaks = result.peaks(5)
    return {
        "file": str(file),
        "text": result.text,
        "width": result.map.shape[1],
        "height": result.map.shape[0],
        "peak": {"x": peaks[0].x, "y": peaks[0].y},
        "peaks": [{"x": p.x, "y": p.y, "value": round(p.value, 4)} for p in peaks],
        "milliseconds": {stage: round(time, 3) for stage, time in result.milliseconds.items()},
        **{what: str(path) for what, path in paths.items()},
        "device": predictor.device,
        **({} if predictor.placement is None else {"operators": predictor.placement}),
        "bundle": predictor.bundle.manifest.bundle_id,
    }


class _Written(NamedTuple):
    """Files of one image: overlay (and map) of each result, and the sheet if there is one."""

    results: list[dict[str, Path]]
    sheet: list[Path]


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

    def write(self, file: Path, results: Sequence[SaliencyResult], map_suffix: str | None) -> _Written:
        """Write the overlays, the maps if wanted, and a sheet of several."""
        from salgan_edge.cli.arguments import slug  # noqa: PLC0415

        written = _Written([], [])
        for result in results:
            paths = {"overlay": self._file or self._free(f"{file.stem}_{slug(result.text)}", ".png")}
            result.save(paths["overlay"])
            if map_suffix:
                overlay = paths["overlay"]
                paths["map"] = self._free(f"{overlay.stem}_map", map_suffix, overlay.parent)
                result.save_map(paths["map"])
            written.results.append(paths)
        if len(results) > 1:
            written.sheet.append(self._sheet(file, results))
        return written

    def _sheet(self, file: Path, results: Sequence[SaliencyResult]) -> Path:
        from salgan_edge import render  # noqa: PLC0415
        from salgan_edge.images import write_image  # noqa: PLC0415

        captions = [result.text or "free viewing" for result in results]
        path = self._free(f"{file.stem}_sheet", ".png")
        write_image(path, render.sheet(results[0].image, [result.overlay() for result in results], captions))
        return path

    def _free(self, stem: str, suffix: str, folder: Path | None = None) -> Path:
        """A path that no other result of this run has, and no input."""
        folder = folder or self._folder
        path, number = folder / f"{stem}{suffix}", 1
        while path.resolve() in self._taken:
            number += 1
            path = folder / f"{stem}-{number}{suffix}"
        self._taken.add(path.resolve())
        return path
