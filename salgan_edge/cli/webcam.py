"""`salgan-edge webcam`: saliency of a camera, stream or video, live."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from salgan_edge.cli.execution import (
    DeviceName,
    DeviceOption,
    ProviderOptions,
    StrictOption,
    ThreadsOption,
    execution_of,
)
from salgan_edge.cli.streams import HalfLifeOption, NormaliseOption, plan_for
from salgan_edge.console import stoppable
from salgan_edge.errors import OutputError

if TYPE_CHECKING:
    from salgan_edge.video.output import LiveOutput
    from salgan_edge.video.window import DisplayCheck

__all__ = ["webcam"]

_STATUS_EVERY = 0.25


def webcam(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...", help="What to look for; several for the keys 1-9.", show_default=False
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", "-t", help="A text; repeat it for several.")
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            "-s",
            help="Camera number or device, address, video, folder of images, or - for standard input.",
        ),
    ] = "0",
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            "-b",
            help="default, small (both installed with the package), a bundle folder or a .salgan file.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompt pack of salgan-edge bake: its texts, or those given, need no text encoder.",
        ),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="No window, no display needed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per frame.")] = False,
    jsonl: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the JSON objects to a file.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Record what is shown: .mp4, .mov, .mkv, .avi or .webm."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="For stills and recordings by key.")
    ] = Path(),
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Show two prompts at once, from one image pass.")
    ] = False,
    every: Annotated[
        int, typer.Option(min=1, help="Predict every Nth frame; those between keep its map.")
    ] = 1,
    max_frames: Annotated[int | None, typer.Option(min=1, help="End after as many frames.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Size to ask a camera for, such as 640x480.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second to ask a camera for, or of a folder of images.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            help="OpenCV backend of the source: v4l2, ffmpeg, gstreamer, dshow, msmf, avfoundation."
        ),
    ] = "auto",
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Take a video as if it were a camera: frames may be dropped.")
    ] = False,
    patience: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds to wait for a camera or stream, at the start and when it is lost; default: not at all, and for ever.",
        ),
    ] = None,
    half_life: HalfLifeOption = 0.1,
    normalise: NormaliseOption = True,
    top_k: Annotated[int, typer.Option(min=1, help="Peaks of each prompt in the JSON objects.")] = 5,
    device: DeviceOption = DeviceName.auto,
    threads: ThreadsOption = None,
    strict: StrictOption = False,
    provider_option: ProviderOptions = None,
    spin: Annotated[
        bool,
        typer.Option("--spin/--no-spin", help="Let waiting threads keep their cores busy: faster, hotter."),
    ] = False,
) -> None:
    """Show where people would look in what a camera sees, when told a text.

    salgan-edge webcam "my keys"

    Keys: / types another prompt, 1-9 choose one of those given, space pauses, s saves, r records, h helps, q quits.
    """
    execution = execution_of(device.value, threads, strict, provider_option)
    wanted = _size(size)
    _check_outputs(source, record, jsonl, output)
    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415
    from salgan_edge.prompts import load_prompts  # noqa: PLC0415
    from salgan_edge.video.output import JsonLines, LiveOutput, lines_file  # noqa: PLC0415
    from salgan_edge.video.pipeline import Stream  # noqa: PLC0415
    from salgan_edge.video.sources import open_source  # noqa: PLC0415
    from salgan_edge.video.stabiliser import stabiliser_of  # noqa: PLC0415

    with stoppable(), contextlib.ExitStack() as stack:
        check = None if headless else stack.enter_context(_display_check())
        given: list[str | None] = list(dict.fromkeys([*(texts or []), *(text or [])])) or [None]
        pack = load_prompts(prompts, given)
        chosen: list[str | None] = given if pack is None else [*pack.texts]
        plan = plan_for(
            chosen,
            lambda how: SaliencyPredictor.load(bundle, prompts=pack, execution=how),
            execution,
            live=True,
            spin=spin,
        )
        frames = stack.enter_context(
            open_source(
                source,
                backend=backend,
                live=True if real_time else None,
                size=wanted,
                fps=fps,
                wait=patience or 0,
                patience=patience,
                notice=_say,
            )
        )
        streams: list[IO[str]] = [sys.stdout] if as_json else []
        if jsonl is not None:
            # Closed after the threads that fill it have ended.
            streams.append(stack.enter_context(lines_file(jsonl)))
        pipeline = stack.enter_context(
            Stream(
                frames,
                plan.predictor,
                chosen if headless else chosen[:1],
                stabiliser=stabiliser_of(half_life, normalise=normalise),
                every=every,
                workers=plan.workers,
            )
        )
        bundle_id = plan.predictor.bundle.manifest.bundle_id
        lines = JsonLines(streams, plan.predictor.device, top_k, bundle_id=bundle_id)
        live = LiveOutput(pipeline, lines, record, max_frames)
        # Named and summed up however it ends, once the recording is closed.
        stack.callback(_report, live, as_json=as_json)
        stack.enter_context(live)
        if check is None:
            _headless(live, side_by_side=side_by_side)
        else:
            _window(check, live, chosen, output, as_json=as_json, side_by_side=side_by_side)


def _headless(live: LiveOutput, *, side_by_side: bool) -> None:
    """Take results until the end; a terminal sees how it goes."""
    watched = sys.stderr.isatty()
    last = 0.0

    def status() -> None:
        nonlocal last
        now = time.monotonic()
        if watched and now - last >= _STATUS_EVERY:
            last = now
            typer.echo(f"\r{live.meter.line(live.pipeline)}\033[K", err=True, nl=False)

    try:
        live.run(range(2 if side_by_side else 1), status)
    finally:
        if last:
            typer.echo("\r\033[K", err=True, nl=False)


def _window(
    check: DisplayCheck,
    live: LiveOutput,
    texts: list[str | None],
    output: Path,
    *,
    as_json: bool,
    side_by_side: bool,
) -> None:
    from salgan_edge.video.window import Viewer, Window  # noqa: PLC0415

    check.wait()
    say = functools.partial(typer.echo, err=as_json)
    with Window("salgan-edge") as window:
        Viewer(window, live, texts, output, side_by_side=side_by_side, say=say).run()


def _report(live: LiveOutput, *, as_json: bool) -> None:
    """Name the recordings, and sum up."""
    for path in live.recorded:
        typer.echo(str(path), err=as_json)
    if live.meter.frames:
        typer.echo(live.meter.summary(live.pipeline), err=True)


def _display_check() -> DisplayCheck:
    from salgan_edge.video.window import DisplayCheck  # noqa: PLC0415

    return DisplayCheck()


def _check_outputs(source: str, record: Path | None, jsonl: Path | None, output: Path) -> None:
    """Refuse what could not be written at the end, before anything begins.

    Raises:
        typer.BadParameter: a file or folder cannot be used.
    """
    from salgan_edge.video.output import check_output  # noqa: PLC0415
    from salgan_edge.video.recording import RECORDING_SUFFIXES  # noqa: PLC0415

    if record is not None and record.suffix.lower() not in RECORDING_SUFFIXES:
        raise typer.BadParameter(
            f"{record} has no suffix of a video: {', '.join(sorted(RECORDING_SUFFIXES))} was expected",
            param_hint="--record",
        )
    for path, name in ((record, "--record"), (jsonl, "--jsonl")):
        if path is not None:
            try:
                check_output(path, source)
            except OutputError as error:
                raise typer.BadParameter(str(error), param_hint=name) from error
    if not output.is_dir():
        raise typer.BadParameter(f"{output} is no folder", param_hint="--output")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text)
    if found is None:
        raise typer.BadParameter(f"{text} is no size: such as 640x480 was expected", param_hint="--size")
    return int(found[1]), int(found[2])


def _say(line: str) -> None:
    # Over the line that tells how it goes, if there is a terminal.
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    typer.echo(f"{clear}note: {line}", err=True)
