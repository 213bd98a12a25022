"""What `predict` and `webcam` share where they predict one frame after another, and the videos of `predict`."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

import typer

from salgan_edge.console import Stopped, one_line_warnings, progress_bar, stoppable, tell_placement
from salgan_edge.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from salgan_edge.devices import Execution
    from salgan_edge.outputs import OutputNames
    from salgan_edge.predictor import SaliencyPredictor
    from salgan_edge.video.pipeline import LiveResult, Plan
    from salgan_edge.video.stabiliser import Stabiliser

__all__ = ["plan_for", "predict_videos"]


def plan_for(
    texts: Sequence[str | None],
    load: Callable[[Execution], SaliencyPredictor],
    execution: Execution,
    *,
    live: bool,
    spin: bool = False,
) -> Plan:
    """A predictor for a stream, with what there is to say about it on standard error.

    Raises:
        PromptError: a text cannot be used.
    """
    from salgan_edge.video.pipeline import leave_cores_to_frames, plan_stream  # noqa: PLC0415

    leave_cores_to_frames()
    with one_line_warnings():
        plan = plan_stream(load, execution, live=live, spin=spin)
        # Prompts that cannot be used are refused before a source or window opens.
        plan.predictor.embed(texts)
    tell_placement(plan.predictor)
    return plan


def predict_videos(
    files: Sequence[Path],
    texts: Sequence[str | None],
    names: OutputNames,
    plan: Plan,
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
    from salgan_edge.video.output import JsonLines  # noqa: PLC0415
    from salgan_edge.video.overlay import overlay_video  # noqa: PLC0415
    from salgan_edge.video.sources import open_source  # noqa: PLC0415

    failed = 0
    for file in files:
        try:
            source = open_source(file)
            overlays, arrays = names.videos(file, texts, maps=maps)
            bundle_id = plan.predictor.bundle.manifest.bundle_id
            lines = JsonLines([sys.stdout] if as_json else [], plan.predictor.device, 5, file, bundle_id)
            hidden = as_json and sys.stdout.isatty()
            with _progress_of(file.name, source.count, overlays, lines.write, hidden=hidden) as progress:
                written = overlay_video(
                    source,
                    plan,
                    texts,
                    overlays,
                    stabiliser=stabiliser(),
                    every=every,
                    maps=arrays,
                    progress=progress,
                )
        except SourceError as error:
            if alone:
                raise
            typer.echo(f"error: {error}", err=True)
            failed += 1
            continue
        if not written.whole:
            typer.echo(
                f"note: {file} ended after {written.frames} of about {written.promised} frames: is it damaged or incomplete?",
                err=True,
            )
        if as_json:
            typer.echo(json.dumps(written.to_dict(), ensure_ascii=False))
        else:
            for path in (*overlays, *arrays):
                typer.echo(str(path))
    return failed


@contextlib.contextmanager
def _progress_of(
    label: str,
    length: int | None,
    overlays: Sequence[Path],
    write: Callable[[LiveResult], None],
    *,
    hidden: bool,
) -> Iterator[Callable[[LiveResult], None]]:
    """A progress bar on a terminal unless hidden; an interruption names the videos that hold something.

    Gives a function to call with each result, which is handed on to `write`.
    """
    done = 0
    try:
        with stoppable(), progress_bar(label, length, shown=not hidden) as advance:

            def proceed(result: LiveResult) -> None:
                nonlocal done
                write(result)
                done += 1
                advance()

            yield proceed
    except (KeyboardInterrupt, Stopped):
        for path in overlays if done else ():
            typer.echo(f"{path} holds the frames up to here", err=True)
        raise
