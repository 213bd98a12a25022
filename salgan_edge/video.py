"""A video in, a video with the saliency laid over it out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from salgan_edge.files import writing
from salgan_edge.live import LivePipeline
from salgan_edge.recording import VideoSink
from salgan_edge.render import overlay_grid
from salgan_edge.sources.frame import FALLBACK_FPS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.live import LiveResult
    from salgan_edge.planning import Plan
    from salgan_edge.sources.frame import Source
    from salgan_edge.stabilise import Stabiliser

__all__ = ["overlay_video"]


def overlay_video(
    source: Source,
    plan: Plan,
    texts: Sequence[str | None],
    outputs: Sequence[Path],
    *,
    stabiliser: Stabiliser | None = None,
    every: int = 1,
    maps: Sequence[Path] = (),
    progress: Callable[[LiveResult], None],
) -> int:
    """Write a video for each text, of the source's length and frame rate.

    However it ends, the videos written so far are complete and can be played.

    Args:
        source: of frames, closed at the end.
        plan: predictor and number of workers.
        texts: what the viewer is told; None for free viewing.
        outputs: a video file for each text.
        stabiliser: makes the maps steady; None leaves each frame's map as it is.
        every: predict every Nth frame; those between keep its map.
        maps: a ``.npy`` file for each text, to hold the maps on the generator's grid, float32
            (frames, h, w) in 0..1; none are written if empty.
        progress: called with each result after it was written.

    Returns:
        The number of frames.

    Raises:
        SourceError: the source broke down.
        OutputError: a file cannot be written.
        PromptError: a text cannot be used.
    """
    frames = 0
    grids: list[npt.NDArray[np.float32]] = []
    with contextlib.ExitStack() as stack:
        if maps:
            stack.callback(lambda: _save_maps(maps, grids))
        pipeline = stack.enter_context(
            LivePipeline(
                source, plan.predictor, texts, stabiliser=stabiliser, every=every, workers=plan.workers
            )
        )
        sinks: list[VideoSink] = []
        for result in pipeline:
            if not sinks:
                size = (result.frame.image.shape[1], result.frame.image.shape[0])
                sinks = [
                    stack.enter_context(VideoSink(path, source.fps or FALLBACK_FPS, size)) for path in outputs
                ]
            for sink, grid in zip(sinks, result.grids, strict=True):
                sink.write(overlay_grid(result.frame.image, grid))
            if maps:
                grids.append(result.grids)
            frames += 1
            progress(result)
    return frames


def _save_maps(paths: Sequence[Path], grids: Sequence[npt.NDArray[np.float32]]) -> None:
    """Write the maps of each text."""
    if not grids:
        return
    for number, path in enumerate(paths):
        with writing(path) as temporary:
            np.save(temporary, np.stack([grid[number] for grid in grids]))
