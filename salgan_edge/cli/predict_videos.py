"""Videos of `salgan-edge predict`."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import sys
from typing import TYPE_CHECKING

import typer

from salgan_edge.cli.stopping import Stopped, stoppable
from salgan_edge.console import one_line_warnings, tell_placement
from salgan_edge.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from salgan_edge.devices import Execution
    from salgan_edge.live import LiveResult
    from salgan_edge.live_output import JsonLines
    from salgan_edge.outputs import OutputNames
    from salgan_edge.predictor import SaliencyPredictor
    from salgan_edge.stabilise import Stabiliser

__all__ = ["predict_videos"]

_WHOLE = 0.95
"""Share of the frames that a container promises; its count is often an estimate."""


def predict_videos(
    files: Sequence[Path],
    texts: Sequence[str | None],
    names: OutputNames,
    load: Callable[[Execution], SaliencyPredictor],
    execution: Execution,
    *,
    stabiliser: Callable[[], Stabiliser | None],
    every: int,
    maps: bool,
    alone: bool,
    as_json: bool,
) -> int:
    """Write overlay videos, and go on after one that cannot be read; how many those were.

    Raises:
        SourceError: the only input cannot be read.
    """
    from salgan_edge.live_output import JsonLines  # noqa: PLC0415
    from salgan_edge.planning import leave_cores_to_frames, plan_stream  # noqa: PLC0415
    from salgan_edge.sources.opening import open_source  # noqa: PLC0415
    from salgan_edge.video import overlay_video  # noqa: PLC0415

    leave_cores_to_frames()
    with one_line_warnings():
        plan = plan_stream(load, execution, live=False)
        plan.predictor.embed(texts)
    tell_placement(plan.predictor)
    failed = 0
    for file in files:
        try:
            source = open_source(file)
            overlays, arrays = names.videos(file, texts, maps=maps)
            lines = JsonLines([sys.stdout], plan.predictor.device, 5, file) if as_json else None
            count = source.count
            with _interruptible(
                file.name, count, overlays, hidden=as_json and sys.stdout.isatty()
            ) as advance:
                frames = overlay_video(
                    source,
                    plan,
                    texts,
                    overlays,
                    stabiliser=stabiliser(),
                    every=every,
                    maps=arrays,
                    progress=functools.partial(_progress, lines, advance),
                )
        except SourceError as error:
            if alone:
                raise
            typer.echo(f"error: {error}", err=True)
            failed += 1
            continue
        if count and frames < _WHOLE * count:
            typer.echo(
                f"note: {file} ended after {frames} of about {count} frames: is it damaged or incomplete?",
                err=True,
            )
        if as_json:
            written = {"overlays": [str(path) for path in overlays], "maps": [str(path) for path in arrays]}
            typer.echo(json.dumps({"file": str(file), "frames": frames, **written}, ensure_ascii=False))
        else:
            for path in (*overlays, *arrays):
                typer.echo(str(path))
    return failed


def _progress(lines: JsonLines | None, advance: Callable[[], None], result: LiveResult) -> None:
    if lines is not None:
        lines.write(result)
    advance()


@contextlib.contextmanager
def _interruptible(
    label: str, length: int | None, overlays: Sequence[Path], *, hidden: bool
) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal unless hidden; an interruption names the videos that hold something.

    Gives a function that advances it by a frame.
    """
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if bar is not None:
            bar.update(1)

    bar = None
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(stoppable())
            if sys.stderr.isatty() and not hidden:
                # Without a length it shows only that something happens.
                frames = None if length else itertools.repeat(None)
                bar = stack.enter_context(
                    typer.progressbar(frames, length=length, label=label, file=sys.stderr)
                )
            yield advance
    except (KeyboardInterrupt, Stopped):
        for path in overlays if done else ():
            typer.echo(f"{path} holds the frames up to here", err=True)
        raise
