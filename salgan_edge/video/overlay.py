"""A video in, a video with the saliency laid over it out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from salgan_edge.errors import OutputError
from salgan_edge.files import writing
from salgan_edge.render import overlay_grid
from salgan_edge.result import RECORD_VERSION
from salgan_edge.video.frames import FALLBACK_FPS
from salgan_edge.video.pipeline import Stream
from salgan_edge.video.recording import VideoSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.video.frames import Source
    from salgan_edge.video.pipeline import LiveResult, Plan
    from salgan_edge.video.stabiliser import Stabiliser

__all__ = ["OverlaidVideo", "overlay_video"]

_WHOLE = 0.95
"""Share of the frames that a container promises; its count is often an estimate."""


class OverlaidVideo(NamedTuple):
    """What `overlay_video` wrote."""

    name: str
    """Of the source, such as its path."""
    frames: int
    """Written to each video."""
    promised: int | None
    """Frames of the source by its own word, None where unknown."""
    overlays: tuple[Path, ...]
    maps: tuple[Path, ...]

    @property
    def whole(self) -> bool:
        """Whether the source gave about as many frames as it promised."""
        return not self.promised or self.frames >= _WHOLE * self.promised

    def to_dict(self) -> dict[str, Any]:
        """The summary's record, for JSON: the source, the number of frames, and the files written."""
        files = {"overlay": [str(path) for path in self.overlays], "map": [str(path) for path in self.maps]}
        return {
            "schema_version": RECORD_VERSION,
            "type": "summary",
            "file": self.name,
            "frames": self.frames,
            "files": {what: paths for what, paths in files.items() if paths},
        }


def overlay_video(
    source: Source,
    plan: Plan,
    texts: Sequence[str | None],
    outputs: Sequence[Path],
    *,
    stabiliser: Stabiliser | None = None,
    every: int = 1,
    maps: Sequence[Path] = (),
    progress: Callable[[LiveResult], None] = lambda _: None,
) -> OverlaidVideo:
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

    Raises:
        SourceError: the source broke down.
        OutputError: a file cannot be written.
        PromptError: a text cannot be used.
    """
    frames = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(source)
        arrays = [stack.enter_context(_MapFile(path)) for path in maps]
        pipeline = stack.enter_context(
            Stream(source, plan.predictor, texts, stabiliser=stabiliser, every=every, workers=plan.workers)
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
            for array, grid in zip(arrays, result.grids, strict=bool(arrays)):
                array.write(grid)
            frames += 1
            progress(result)
    return OverlaidVideo(source.name, frames, source.count, tuple(outputs), tuple(maps))


class _MapFile:
    """A ``.npy`` file that grows: an hour of maps does not fit the memory of a small device.

    However the block is left, the file gets its name and holds what was written; without a map nothing
    is left.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OutputError: the place cannot be written.
        """
        self._path = path
        self._place = contextlib.ExitStack()
        self._file = self._place.enter_context(writing(path)).open("wb")
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def write(self, grid: npt.NDArray[np.float32]) -> None:
        """Add a map (h, w).

        Raises:
            OutputError: the disk is full.
        """
        try:
            if not self._count:
                self._shape = grid.shape
                self._file.write(self._header())
            self._file.write(np.ascontiguousarray(grid, np.float32).astype("<f4", copy=False).data)
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error
        self._count += 1

    def _header(self) -> bytes:
        """The header of the NumPy format, version 1.0, always 128 bytes, so that the count can be set later."""
        words = repr({"descr": "<f4", "fortran_order": False, "shape": (self._count, *self._shape)})
        return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + words.encode().ljust(117) + b"\n"

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish it."""
        try:
            if self._count:
                self._file.seek(0)
                self._file.write(self._header())
            self._file.close()
        except OSError as error:
            self._count = 0
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error
        finally:
            if self._count:
                self._place.close()
            else:
                nothing = OutputError("nothing to keep")
                with contextlib.suppress(OutputError):
                    self._place.__exit__(OutputError, nothing, None)
