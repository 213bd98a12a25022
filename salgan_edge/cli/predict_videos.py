"""Videos of `salgan-edge predict`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import typer

from salgan_edge.cli.messages import one_line_warnings, tell_placement
from salgan_edge.cli.stopping import stoppable
from salgan_edge.errors import SalganEdgeError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from salgan_edge.cli.names import OutputNames
    from salgan_edge.devices import Execution
    from salgan_edge.live import LiveResult
    from salgan_edge.predictor import SaliencyPredictor
    from salgan_edge.stabilise import Stabiliser

__all__ = ["predict_videos"]


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
    as_json: bool,
) -> None:
    """Write overlay videos, and go on after a video that cannot be read.

    Raises:
        SalganEdgeError: some of several could not be read.
    """
    from salgan_edge.live_output import JsonLines  # noqa: PLC0415
    from salgan_edge.planning import plan_stream  # noqa: PLC0415
    from salgan_edge.sources.opening import open_source  # noqa: PLC0415
    from salgan_edge.video import overlay_video  # noqa: PLC0415

    with one_line_warnings():
        plan = plan_stream(load, execution, live=False)
        plan.predictor.embed(texts)
    tell_placement(plan.predictor)
    failed = 0
    for file in files:
        try:
            source = open_source(file)
        except SourceError as error:
            if len(files) == 1:
                raise
            typer.echo(f"error: {error}", err=True)
            failed += 1
            continue
        overlays, arrays = names.videos(file, texts, maps=maps)
        lines = JsonLines([sys.stdout], plan.predictor.device, 5, file) if as_json else None
        with (
            stoppable(),
            typer.progressbar(
                length=source.count or 0,
                label=file.name,
                file=sys.stderr,
                hidden=not sys.stderr.isatty() or (as_json and sys.stdout.isatty()),
            ) as bar,
        ):

            def progress(result: LiveResult) -> None:
                if lines is not None:  # noqa: B023 - called within this turn of the loop
                    lines.write(result)  # noqa: B023
                bar.update(1)

            frames = 0
            try:
                frames = overlay_video(
                    source,
                    plan,
                    texts,
                    overlays,
                    stabiliser=stabiliser(),
                    every=every,
                    maps=arrays,
                    progress=progress,
                )
            except KeyboardInterrupt:
                _tell_what_is_there(overlays)
                raise
        if as_json:
            written = {"overlays": [str(path) for path in overlays], "maps": [str(path) for path in arrays]}
            typer.echo(json.dumps({"file": str(file), "frames": frames, **written}, ensure_ascii=False))
        else:
            for path in (*overlays, *arrays):
                typer.echo(str(path))
    if failed:
        rest = "" if failed == len(files) else "; the others were written"
        raise SalganEdgeError(f"{failed} of {len(files)} videos could not be used{rest}")


def _tell_what_is_there(overlays: Sequence[Path]) -> None:
    """Name the videos of an interrupted run, which end early and can be played."""
    for path in overlays:
        if path.exists():
            typer.echo(f"{path} holds the frames up to here", err=True)
