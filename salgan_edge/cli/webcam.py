"""`salgan-edge webcam`: saliency of a camera, stream or video, live."""

from __future__ import annotations

import contextlib
import functools
import os
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
from salgan_edge.cli.stopping import stoppable
from salgan_edge.cli.streams import HalfLifeOption, NormaliseOption, stabiliser_of
from salgan_edge.console import one_line_warnings, tell_placement
from salgan_edge.errors import OutputError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from salgan_edge.devices import Execution
    from salgan_edge.live_output import LiveOutput
    from salgan_edge.planning import Plan
    from salgan_edge.sources.frame import Source
    from salgan_edge.window import DisplayCheck

__all__ = ["webcam"]

_STATUS_EVERY = 0.25
_OPENING_PAUSE = 2.0


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
    check = None if headless else _display_check()
    try:
        with stoppable(), contextlib.ExitStack() as stack:
            from salgan_edge.sources.opening import kind_of, open_source  # noqa: PLC0415

            plan, chosen = _load(bundle, prompts, [*(texts or []), *(text or [])], execution, spin=spin)
            frames = stack.enter_context(
                _patiently(
                    lambda: open_source(
                        source,
                        backend=backend,
                        live=True if real_time else None,
                        size=wanted,
                        fps=fps,
                        patience=patience,
                        notice=_say,
                    ),
                    patience if kind_of(source) in ("camera", "stream") else None,
                )
            )
            from salgan_edge.live import LivePipeline  # noqa: PLC0415
            from salgan_edge.live_output import JsonLines, LiveOutput  # noqa: PLC0415

            # The lines' file is closed after the threads that fill it have ended.
            streams = stack.enter_context(_streams(jsonl, as_json=as_json))
            pipeline = stack.enter_context(
                LivePipeline(
                    frames,
                    plan.predictor,
                    chosen if headless else chosen[:1],
                    stabiliser=stabiliser_of(half_life, normalise),
                    every=every,
                    workers=plan.workers,
                )
            )
            lines = JsonLines(streams, plan.predictor.device, top_k) if streams else None
            live = LiveOutput(pipeline, lines, record, max_frames)
            try:
                if check is None:
                    _headless(live, side_by_side=side_by_side)
                else:
                    say = functools.partial(typer.echo, err=as_json)
                    _window(
                        check, live, chosen, output, plan.predictor.device, say, side_by_side=side_by_side
                    )
            finally:
                try:
                    live.close()
                finally:
                    _report(live, as_json=as_json)
    finally:
        if check is not None:
            check.cancel()


def _patiently(opening: Callable[[], Source], patience: float | None) -> Source:
    """Open a source; one that is not there yet is tried again for `patience` seconds, where given.

    Raises:
        SourceError: it cannot be opened.
    """
    end = time.monotonic() + (patience or 0)
    while True:
        try:
            return opening()
        except SourceError as error:
            left = end - time.monotonic()
            if left <= 0:
                raise
            _say(f"{error}; trying again for {left:.0f} s")
            time.sleep(min(_OPENING_PAUSE, left))


def _load(
    bundle: Path | None, prompts: Path | None, texts: list[str], execution: Execution, *, spin: bool
) -> tuple[Plan, list[str | None]]:
    """A predictor for a live source, and the prompts."""
    from salgan_edge.planning import leave_cores_to_frames, plan_stream  # noqa: PLC0415
    from salgan_edge.predictor import SaliencyPredictor  # noqa: PLC0415

    given: list[str | None] = list(dict.fromkeys(texts)) or [None]
    from salgan_edge.prompts import load_prompts  # noqa: PLC0415

    pack = load_prompts(prompts, given)
    chosen: list[str | None] = given if pack is None else [*pack.texts]

    def load(how: Execution) -> SaliencyPredictor:
        return SaliencyPredictor.load(bundle, prompts=pack, execution=how)

    leave_cores_to_frames()
    with one_line_warnings():
        plan = plan_stream(load, execution, live=True, spin=spin)
        # Prompts that cannot be used are refused before a window opens.
        plan.predictor.embed(chosen)
    tell_placement(plan.predictor)
    return plan, chosen


def _headless(live: LiveOutput, *, side_by_side: bool) -> None:
    """Take results until the end; a terminal sees how it goes."""
    shown = range(2 if side_by_side else 1)
    watched = sys.stderr.isatty()
    last = 0.0
    try:
        for result in live.pipeline:
            live.take(result, [n for n in shown if n < len(result.texts)], draw=False)
            now = time.monotonic()
            if watched and now - last >= _STATUS_EVERY:
                last = now
                typer.echo(f"\r{live.meter.line(live.pipeline)}\033[K", err=True, nl=False)
            if live.full:
                return
    finally:
        if watched and last:
            typer.echo("\r\033[K", err=True, nl=False)


def _window(
    check: DisplayCheck,
    live: LiveOutput,
    texts: list[str | None],
    output: Path,
    device: str,
    say: Callable[[str], None],
    *,
    side_by_side: bool,
) -> None:
    from salgan_edge.viewer import Viewer  # noqa: PLC0415
    from salgan_edge.window import Window  # noqa: PLC0415

    check.wait()
    with Window("salgan-edge") as window:
        Viewer(window, live, texts, output, device, side_by_side=side_by_side, say=say).run()


def _report(live: LiveOutput, *, as_json: bool) -> None:
    """Name the recordings, and sum up."""
    for path in live.recorded:
        typer.echo(str(path), err=as_json)
    if live.meter.frames:
        typer.echo(live.meter.summary(live.pipeline), err=True)


def _display_check() -> DisplayCheck:
    from salgan_edge.window import DisplayCheck  # noqa: PLC0415

    return DisplayCheck()


@contextlib.contextmanager
def _streams(jsonl: Path | None, *, as_json: bool) -> Iterator[list[IO[str]]]:
    """Open files for JSON lines."""
    streams: list[IO[str]] = [sys.stdout] if as_json else []
    if jsonl is None:
        yield streams
        return
    try:
        file = jsonl.open("w", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{jsonl} cannot be written: {error.strerror or error}") from error
    try:
        yield [*streams, file]
    except BaseException:
        # A line that could not be written cannot be written now either.
        with contextlib.suppress(OSError):
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise OutputError(f"{jsonl} cannot be written: {error.strerror or error}") from error


def _check_outputs(source: str, record: Path | None, jsonl: Path | None, output: Path) -> None:
    """Refuse what could not be written at the end, before anything begins."""
    from salgan_edge.recording import VIDEO_SUFFIXES  # noqa: PLC0415

    if record is not None and record.suffix.lower() not in VIDEO_SUFFIXES:
        raise typer.BadParameter(
            f"{record} has no suffix of a video: {', '.join(sorted(VIDEO_SUFFIXES))} was expected",
            param_hint="--record",
        )
    for path, name in ((record, "--record"), (jsonl, "--jsonl")):
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"the folder {path.parent} does not exist", param_hint=name)
        if path is not None and path.is_dir():
            raise typer.BadParameter(f"{path} is a folder", param_hint=name)
        if path is not None and path.exists() and os.path.realpath(path) == os.path.realpath(source):
            raise typer.BadParameter(f"{path} is the source: name another file", param_hint=name)
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
