"""What becomes of a stream's results besides a window: JSON lines, a recording, a summary."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, Self

import cv2
import numpy as np

from salgan_edge.errors import OutputError
from salgan_edge.files import slug
from salgan_edge.images import write_image
from salgan_edge.render import captioned_overlay, overlay_grid
from salgan_edge.result import Peak, SaliencyResult, TextEffect, record
from salgan_edge.video.frames import FALLBACK_FPS
from salgan_edge.video.recording import VideoSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from salgan_edge.video.pipeline import LiveResult, Stream

    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "JsonLines",
    "LiveOutput",
    "Meter",
    "Rate",
    "check_output",
    "compose",
    "compose_shown",
    "grid_peaks",
    "lines_file",
    "save_still",
]

_PEAK_SIDE = 256
"""Longer side in pixels that a grid is enlarged to for its peaks: finer than the grid by far."""
_GAP = 4
_CUT = 2.0
"""Seconds without a frame (a pause, a lost camera) after which a recording goes on as if there had been none."""
_SHOWN = (1280, 720)
"""Width and height in pixels of a frame that is drawn for a window at most: 4K would not fit the screen, and take long."""
_LIVE_FPS = (30.0, 60.0)
"""Frame rates of a live recording, least and most: what a stream says of itself is often untrue, and frames that come
faster than the recording's rate are lost to it."""


def grid_peaks(grid: npt.NDArray[np.float32], size: tuple[int, int], count: int) -> list[Peak]:
    """The largest local maxima of a grid (h, w), in pixels of a frame of `size` (width, height).

    As `SaliencyResult.peaks`, found on a map of about 256 pixels.
    """
    width, height = size
    rows, columns = grid.shape
    # The short side of a panorama would be coarser than the grid, and miss the maximum.
    scale = min(1.0, max(_PEAK_SIDE / max(size), 2 * rows / height, 2 * columns / width))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    blank = np.empty((small[1], small[0], 0), np.uint8)
    found = SaliencyResult.from_grid(blank, None, grid).peaks(count)
    return [
        Peak(
            min(int((peak.x + 0.5) * width / small[0]), width - 1),
            min(int((peak.y + 0.5) * height / small[1]), height - 1),
            peak.value,
        )
        for peak in found
    ]


def compose(result: LiveResult, chosen: Sequence[int], captions: bool = True) -> Pixels:
    """The frame with its maps laid over it, RGB uint8; several prompts side by side.

    Args:
        result: of one frame.
        chosen: which prompts.
        captions: write the prompt above each picture.
    """
    panels: list[Pixels] = []
    for number in chosen:
        image, grid = result.frame.image, result.grids[number]
        if captions:
            picture = captioned_overlay(image, grid, result.texts[number] or "free viewing")
        else:
            picture = overlay_grid(image, grid)
        if panels:
            panels.append(np.full((picture.shape[0], _GAP, 3), 255, np.uint8))
        panels.append(picture)
    if len(panels) == 1:
        return panels[0]
    joined: Pixels = cv2.hconcat(panels)  # type: ignore[assignment]
    return joined


class Rate:
    """Events per second over the last seconds.

    >>> rate = Rate()
    >>> for second in (0.0, 0.1, 0.2): rate.add(second)
    >>> rate.per_second
    10.0
    """

    def __init__(self, window: float = 2.0) -> None:
        """Over `window` seconds."""
        self._window = window
        self._times: deque[float] = deque()

    def add(self, moment: float) -> None:
        """Note an event, at a time in seconds."""
        self._times.append(moment)
        while moment - self._times[0] > self._window:
            self._times.popleft()

    @property
    def per_second(self) -> float:
        """How many a second; 0 before there are two."""
        if len(self._times) < 2 or self._times[-1] == self._times[0]:
            return 0.0
        return round((len(self._times) - 1) / (self._times[-1] - self._times[0]), 6)


@dataclass
class Meter:
    """How a stream is doing."""

    frames: int = 0
    """Results that were shown or written."""
    age: float = 0.0
    """Age in seconds of the last frame when it was done."""

    def __post_init__(self) -> None:
        """Start the clock."""
        self.started = time.monotonic()
        self._rate = Rate()
        self._ages: list[float] = []

    def add(self, result: LiveResult, done: float) -> None:
        """Note a result that was done at a time of `time.monotonic`."""
        self.frames += 1
        self.age = done - result.frame.captured
        self._rate.add(done)
        # Enough for a median; a stream may run for days.
        self._ages.append(self.age)
        if len(self._ages) > 2000:
            del self._ages[:1000]

    @property
    def fps(self) -> float:
        """Results a second over the last two seconds."""
        return self._rate.per_second

    def line(self, pipeline: Stream) -> str:
        """One line on how it is going."""
        dropped = f"   dropped {pipeline.dropped}" if pipeline.source.live else ""
        return f"{self.frames} frames   {self.fps:.0f} fps   age {1000 * self.age:.0f} ms{dropped}"

    def summary(self, pipeline: Stream) -> str:
        """One line on the whole stream."""
        seconds = time.monotonic() - self.started
        rate = self.frames / seconds if seconds else 0.0
        median = float(np.median(self._ages)) if self._ages else 0.0
        dropped = f", {pipeline.dropped} dropped" if pipeline.source.live else ""
        plural = "" if self.frames == 1 else "s"
        return (
            f"{self.frames} frame{plural} in {seconds:.1f} s, {rate:.1f} fps{dropped}; "
            f"median age {1000 * median:.0f} ms"
        )


class JsonLines:
    """Writes one JSON object a line for each predicted frame and text: `salgan_edge.result.record`.

    Args:
        streams: open text files; each line is flushed, so that a reader gets it at once.
        device: where the generator runs.
        top_k: how many peaks of each prompt.
        file: that the frames are from, None for none.
        bundle_id: of the bundle that predicts.
    """

    def __init__(
        self,
        streams: Sequence[IO[str]],
        device: str,
        top_k: int,
        file: Path | None = None,
        bundle_id: str | None = None,
    ) -> None:
        self._streams, self._device, self._top_k = streams, device, top_k
        self._file, self._bundle_id = file, bundle_id

    def write(
        self,
        result: LiveResult,
        milliseconds: dict[str, float] | None = None,
        state: dict[str, float] | None = None,
    ) -> None:
        """Write a result.

        Args:
            result: of one frame.
            milliseconds: time of further stages.
            state: of a live source: the frame's age when it was done, frames dropped so far.

        Raises:
            OutputError: a file cannot be written.
        """
        if not result.predicted or not self._streams:
            return
        records = self._records(result, milliseconds or {}, state or {})
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        for stream in self._streams:
            try:
                stream.write(lines)
                stream.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise OutputError(f"{stream.name} cannot be written: {error.strerror or error}") from error

    def _records(
        self, result: LiveResult, milliseconds: dict[str, float], state: dict[str, float]
    ) -> Iterator[dict[str, Any]]:
        frame = result.frame
        size = (frame.image.shape[1], frame.image.shape[0])
        name = {} if frame.name is None else {"name": frame.name}
        free = result.relative[result.texts.index(None)] if None in result.texts else None
        for text, grid in zip(result.texts, result.relative, strict=True):
            started = time.perf_counter()
            peaks = grid_peaks(grid, size, self._top_k)
            elapsed = {**result.milliseconds, **milliseconds, "peaks": 1000 * (time.perf_counter() - started)}
            yield record(
                "frame",
                text,
                size,
                peaks,
                file=self._file,
                frame={"index": frame.index, **name, "time": round(frame.time, 4), **state},
                text_effect=None if free is None or text is None else TextEffect.of(grid, free),
                milliseconds=elapsed,
                device=self._device,
                bundle_id=self._bundle_id,
            )


@contextlib.contextmanager
def lines_file(path: Path) -> Iterator[IO[str]]:
    """A file for `JsonLines`, open for writing; what was written stays, however the block ends.

    Raises:
        OutputError: it cannot be opened, or not be finished.
    """
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield file
    except BaseException:
        # A line that could not be written cannot be written now either.
        with contextlib.suppress(OSError):
            file.close()
        raise
    try:
        file.close()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def check_output(path: Path, source: str | Path | None = None) -> None:
    """Refuse a file that could not be written once a stream runs, before it begins.

    Args:
        path: of the file.
        source: that the frames come from, which must not be replaced; None for none.

    Raises:
        OutputError: its folder does not exist, it is a folder, or the source.
    """
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist")
    if path.is_dir():
        raise OutputError(f"{path} is a folder")
    if source is not None and path.exists() and os.path.realpath(path) == os.path.realpath(source):
        raise OutputError(f"{path} is the source: name another file")


def save_still(result: LiveResult, chosen: Sequence[int], folder: Path, stem: str) -> list[Path]:
    """Write a frame as it came, and the overlay and bare map of the chosen prompts.

    Raises:
        OutputError: the folder cannot be written.
    """
    written = [folder / f"{stem}_frame.png"]
    write_image(written[0], result.frame.image)
    for number in chosen:
        saliency = SaliencyResult.from_grid(result.frame.image, result.texts[number], result.grids[number])
        name = f"{stem}_{slug(result.texts[number])}"
        if folder / f"{name}.png" in written:
            name += f"-{number + 1}"
        saliency.save(folder / f"{name}.png")
        saliency.save_map(folder / f"{name}_map.png")
        written += [folder / f"{name}.png", folder / f"{name}_map.png"]
    return written


class LiveOutput:
    """Where the results of a stream go, whether there is a window or not.

    Args:
        pipeline: of the results.
        lines: JSON lines, None for none.
        record: video to write from the first frame on, None for none.
        max_frames: end after as many results, None for no end.
    """

    def __init__(
        self,
        pipeline: Stream,
        lines: JsonLines | None = None,
        record: Path | None = None,
        max_frames: int | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.meter = Meter()
        self.recording: Path | None = record
        """The video that is being written, None for none."""
        self.recorded: list[Path] = []
        """Videos that can be played."""
        self.problem: str | None = None
        """Why the last recording that may fail ended."""
        self._may_fail = False
        self._lines, self._max_frames = lines, max_frames
        self._sink: VideoSink | None = None
        self._size = (0, 0)
        self._cut = self._last_time = 0.0

    def take(self, result: LiveResult, chosen: Sequence[int], *, draw: bool) -> Pixels | None:
        """Write a result wherever it goes.

        Args:
            result: the next one.
            chosen: which prompts a picture shows.
            draw: make a picture even where nothing is recorded.

        Returns:
            The picture with its captions, of a size for a window where `draw`; None where none was made.

        Raises:
            OutputError: a file cannot be written.
        """
        started = time.perf_counter()
        recorded = compose(result, chosen) if self.recording else None
        picture = recorded
        if draw and (recorded is None or _shrinking(result, chosen) < 1):
            picture = compose_shown(result, chosen)
        elapsed = {} if picture is None else {"draw": 1000 * (time.perf_counter() - started)}
        if recorded is not None:
            started = time.perf_counter()
            try:
                self._record(recorded, result)
            except OutputError as error:
                if not self._may_fail:
                    raise
                self.problem = str(error)
                with contextlib.suppress(OutputError):
                    self.record(None)
            elapsed["record"] = 1000 * (time.perf_counter() - started)
        done = time.monotonic()
        self.meter.add(result, done)
        if self._lines is not None:
            age = 1000 * (done - result.frame.captured)
            self._lines.write(result, elapsed, {"age_ms": round(age, 2), "dropped": self.pipeline.dropped})
        return picture

    def run(self, shown: Sequence[int], done: Callable[[], None] = lambda: None) -> None:
        """Take results without a window, until the source ends or as many were taken as were wanted.

        Args:
            shown: which prompts a recording shows; those that a result has not are left out.
            done: called after each result.

        Raises:
            SourceError: the source broke down.
            DeviceError: the device did.
            OutputError: a file cannot be written.
        """
        for result in self.pipeline:
            self.take(result, [number for number in shown if number < len(result.texts)], draw=False)
            done()
            if self.full:
                return

    @property
    def full(self) -> bool:
        """Whether as many frames have been taken as were wanted."""
        return self._max_frames is not None and self.meter.frames >= self._max_frames

    def record(self, path: Path | None, *, may_fail: bool = False) -> None:
        """Begin a recording, or end the present one where None.

        Args:
            path: of the video; the file is opened with the next result.
            may_fail: the stream goes on if it cannot be written, and `problem` says why.

        Raises:
            OutputError: the recording cannot be finished.
        """
        sink, self._sink, self.recording = self._sink, None, path
        self._may_fail = may_fail
        if sink is None:
            return
        try:
            sink.close()
        finally:
            # What can be played of it is there, also if it is not whole.
            if sink.frames and sink.path.exists():
                self.recorded.append(sink.path)

    def close(self) -> None:
        """End the recording."""
        self.record(None)

    def __enter__(self) -> Self:
        """The output itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _record(self, picture: Pixels, result: LiveResult) -> None:
        source, moment = self.pipeline.source, result.frame.time
        if self._sink is None:
            assert self.recording is not None
            self._size = (picture.shape[1], picture.shape[0])
            fps = source.fps or FALLBACK_FPS
            # A camera may promise more than is shown; what is missing is repeated, at a cost.
            self._sink = VideoSink(
                self.recording, float(np.clip(fps, *_LIVE_FPS)) if source.live else fps, self._size
            )
            self._cut, self._last_time = 0.0, moment
        if moment - self._last_time > _CUT:
            self._cut += moment - self._last_time - 1 / self._sink.fps
        self._last_time = moment
        # What comes irregularly is recorded at the speed of the clock, a file frame by frame.
        self._sink.write(_fitted(picture, self._size), moment - self._cut if source.live else None)


def _shrinking(result: LiveResult, chosen: Sequence[int]) -> float:
    """How much smaller a frame is drawn for a window than it is."""
    height, width = result.frame.image.shape[:2]
    scale: float = min(1.0, _SHOWN[0] / len(chosen) / width, _SHOWN[1] / height)
    return scale


def _shrunk(result: LiveResult, chosen: Sequence[int]) -> LiveResult:
    """A result with its frame as small as a window shows it."""
    scale = _shrinking(result, chosen)
    if scale == 1:
        return result
    height, width = result.frame.image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image: Pixels = cv2.resize(result.frame.image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return replace(result, frame=replace(result.frame, image=image))


def compose_shown(result: LiveResult, chosen: Sequence[int]) -> Pixels:
    """As `compose`, of a size that a window can show."""
    return compose(_shrunk(result, chosen), chosen)


def _fitted(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture enlarged or reduced into the middle of white of a (width, height), if it is not of that size."""
    width, height = size
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    canvas = np.full((height, width, 3), 255, np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        picture, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return canvas
