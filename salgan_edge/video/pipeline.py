"""Frames in, saliency out, while the next frame is being captured and the last one drawn."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from salgan_edge.cpus import allowed_cpus
from salgan_edge.video.frames import Handover

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from salgan_edge.devices import Execution
    from salgan_edge.predictor import SaliencyPredictor
    from salgan_edge.video.frames import Frame, Source
    from salgan_edge.video.stabiliser import Stabiliser

__all__ = ["LiveResult", "Plan", "Stream", "leave_cores_to_frames", "plan_stream"]

_TINY = np.float32(1e-12)
_PATIENCE = 2.0
"""Seconds that closing waits for a thread."""


@dataclass(frozen=True, eq=False)
class LiveResult:
    """Saliency of one frame for one prompt or several."""

    frame: Frame
    texts: tuple[str | None, ...]
    """The prompts; None is free viewing."""
    grids: npt.NDArray[np.float32]
    """Saliency to show, (N, h, w) in 0..1 on the generator's grid, one for each prompt, stabilised if wanted."""
    relative: npt.NDArray[np.float32]
    """The same, each divided by its maximum: where it is largest is told here, for `grids` is often 1 around there."""
    predicted: bool
    """Whether it was predicted for this frame; otherwise it is that of an earlier one."""
    milliseconds: dict[str, float]
    """Time of each stage: generator, stabilise."""


class _Prompt(NamedTuple):
    texts: tuple[str | None, ...]
    vectors: npt.NDArray[np.float32]
    version: int


class _Taken(NamedTuple):
    """A frame on its way, or the error that ends the source."""

    number: int
    frame: Frame | None
    error: BaseException | None
    prompt: _Prompt
    predicted: bool


class Stream:
    """Iterates the saliency of a source's frames, in order.

    >>> from salgan_edge import SaliencyPredictor, Stream, open_source, samples
    >>> photos = open_source(samples.path("coffee").parent)
    >>> with photos, Stream(photos, SaliencyPredictor.load(), ["a spoon"]) as stream:
    ...     for result in stream:
    ...         print(result.frame.name, result.grids.shape)
    astronaut.jpg (1, 32, 32)
    chelsea.jpg (1, 32, 32)
    coffee.jpg (1, 32, 32)

    Capturing runs in the source's own thread or in the workers', inference in the workers', and
    drawing is the caller's. Of a live source a frame is taken when a worker is free, and a result
    that the caller does not fetch in time gives way to the next; of other sources every frame is
    delivered, those before an error too.

    Args:
        source: of frames; closed with the pipeline.
        predictor: used by the workers through `SaliencyPredictor.grids`; nothing else may use it.
        texts: the first prompts.
        stabiliser: makes the maps steady; None leaves each frame's map as it is.
        every: predict every Nth frame, and the first one of new prompts; those between keep its map.
        workers: frames that are in inference at once; more than one on the CPU only.

    Raises:
        PromptError: a text cannot be used; the source is left open.
    """

    def __init__(
        self,
        source: Source,
        predictor: SaliencyPredictor,
        texts: Sequence[str | None],
        *,
        stabiliser: Stabiliser | None = None,
        every: int = 1,
        workers: int = 1,
    ) -> None:
        self.source = source
        self._predictor = predictor
        self._stabiliser = stabiliser
        self._every = every
        self._results: Handover[LiveResult] = Handover(1 if source.live else 2, newest=source.live)
        # Taking a frame, and with it its place in the order.
        self._taking = threading.Lock()
        self._taken = 0
        self._source_over = False
        self._taken_version = -1
        self._unpredicted = 0
        # A session on another device than the CPU takes one run at a time.
        self._generating: contextlib.AbstractContextManager[object] = (
            threading.Lock() if workers == 1 else contextlib.nullcontext()
        )
        # Whose turn it is to be stabilised and delivered.
        self._ordered = threading.Condition()
        self._turn = 0
        self._last: LiveResult | None = None
        self._last_version = -1
        self._outdated = 0
        self._running = threading.Event()
        self._running.set()
        self._closed = False
        self._prompt = _Prompt((), np.empty((0, 0), np.float32), 0)
        self.set_texts(texts)
        self._working = workers
        self._threads = [
            threading.Thread(target=self._work, name=f"inference {number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The prompts of the next frame."""
        return self._prompt.texts

    @property
    def device(self) -> str:
        """Where the generator runs."""
        return self._predictor.device

    @property
    def dropped(self) -> int:
        """Frames that were captured and not delivered, because newer ones were there."""
        return self.source.dropped + self._results.dropped + self._outdated

    def set_texts(self, texts: Sequence[str | None]) -> None:
        """Change the prompts from the next frame on; only new texts are encoded.

        Results of frames that were taken before still come, with their own prompts. Call it from one
        thread only.

        Raises:
            PromptError: a text cannot be used; the prompts stay as they are.
        """
        vectors = self._predictor.embed(texts)
        if tuple(texts) == self._prompt.texts:
            # What was averaged over time stays.
            return
        self._prompt = _Prompt(tuple(texts), vectors, self._prompt.version + 1)

    def pause(self, paused: bool) -> None:
        """Stop taking frames, or go on; a live source goes on capturing.

        One more frame of a live source may be taken. Its result, like any that waits, is dropped when
        it goes on: it is from before the pause.
        """
        if paused:
            self._running.clear()
            return
        if self.source.live and not self._running.is_set():
            # A failure is raised where results are fetched.
            with contextlib.suppress(Exception):
                while True:
                    self._results.get(0)
                    self._outdated += 1
        self._running.set()

    def predict(self, frame: Frame) -> LiveResult:
        """Predict a frame for the present prompts out of turn, as for one that is paused at."""
        prompt = self._prompt
        grids, elapsed = self._generate(frame, prompt)
        return LiveResult(frame, prompt.texts, grids, grids, True, elapsed)

    def close(self) -> None:
        """Stop all threads and close the source; may be called several times."""
        self._closed = True
        self._running.set()
        self._results.close()
        self.source.close()
        with self._ordered:
            self._ordered.notify_all()
        until = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def __enter__(self) -> Self:
        """The pipeline itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __iter__(self) -> Self:
        """The results until the source ends or the pipeline is closed."""
        return self

    def __next__(self) -> LiveResult:
        """The next result, waiting for it.

        Raises:
            SourceError: the source broke down.
            DeviceError: the device did.
        """
        return next(self._results)

    def get(self, timeout: float) -> LiveResult | None:
        """The next result, or None if there is none within `timeout` seconds.

        Raises:
            EOFError: the source has ended or the pipeline was closed.
            SourceError: the source broke down.
            DeviceError: the device did.
        """
        try:
            return self._results.get(timeout)
        except TimeoutError:
            return None

    def _work(self) -> None:
        """Take frames and deliver results until there are no more."""
        while (taken := self._take()) is not None:
            self._process(taken)
        with self._ordered:
            self._working -= 1
            last = self._working == 0
        if last:
            self._results.finish()

    def _take(self) -> _Taken | None:
        """The next frame with its number and prompts; None at the end."""
        with self._taking:
            self._running.wait()
            if self._closed or self._source_over:
                return None
            frame, error = None, None
            try:
                frame = next(self.source, None)
            except BaseException as problem:  # noqa: BLE001 - raised where the results are fetched
                error = problem
            self._source_over = frame is None
            if frame is None and error is None:
                return None
            number, prompt = self._taken, self._prompt
            predicted = prompt.version != self._taken_version or self._unpredicted >= self._every - 1
            self._taken += 1
            self._taken_version = prompt.version
            self._unpredicted = 0 if predicted else self._unpredicted + 1
            return _Taken(number, frame, error, prompt, predicted)

    def _process(self, taken: _Taken) -> None:
        """Predict a frame if need be, and deliver the result, or the error, when its turn has come."""
        grids, error = None, taken.error
        elapsed: dict[str, float] = {}
        if taken.frame is not None and taken.predicted:
            try:
                grids, elapsed = self._generate(taken.frame, taken.prompt)
            except BaseException as problem:  # noqa: BLE001 - raised where the results are fetched
                error = problem
        with self._ordered:
            while self._turn != taken.number and not self._closed:
                self._ordered.wait()
            if self._closed:
                return
            delivered = False
            if error is None and taken.frame is not None:
                try:
                    result = self._result(taken.frame, taken.prompt, grids, elapsed)
                    delivered = self._results.put(result)
                    self._last = result
                except BaseException as problem:  # noqa: BLE001 - raised where the results are fetched
                    error = problem
            if error is not None:
                self._results.fail(error)
            self._turn += 1
            self._closed = self._closed or not delivered
            self._ordered.notify_all()
        if not delivered:
            self._stop()

    def _generate(self, frame: Frame, prompt: _Prompt) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
        """The generator's grids of a frame, and how long they took."""
        with self._generating:
            started = time.perf_counter()
            grids = self._predictor.grids(frame.image, prompt.vectors)
            return grids, {"generator": 1000 * (time.perf_counter() - started)}

    def _result(
        self, frame: Frame, prompt: _Prompt, grids: npt.NDArray[np.float32] | None, elapsed: dict[str, float]
    ) -> LiveResult:
        """Stabilise the grids, or take those of the last frame; called in the frames' order."""
        if grids is None:
            assert self._last is not None, "the first frame is always predicted"
            return replace(self._last, frame=frame, predicted=False, milliseconds=elapsed)
        relative = grids
        if self._stabiliser is not None:
            if prompt.version != self._last_version:
                self._stabiliser.reset()
                self._last_version = prompt.version
            started = time.perf_counter()
            grids = self._stabiliser(grids, frame.time)
            density = self._stabiliser.density
            assert density is not None, "it has just been called"
            relative = density / np.maximum(density.max((1, 2), keepdims=True), _TINY)
            elapsed["stabilise"] = 1000 * (time.perf_counter() - started)
        return LiveResult(frame, prompt.texts, grids, relative, True, elapsed)

    def _stop(self) -> None:
        """Let the other workers end too."""
        self._closed = True
        self._running.set()
        self.source.close()
        with self._ordered:
            self._ordered.notify_all()


_FAST = 1 / 60
"""Seconds a frame may take on one thread before a live source gets all threads for one frame."""
_MOST_WORKERS = 8
_TRIED = (480, 640)


class Plan(NamedTuple):
    """A predictor, and how many frames it may have in inference at once."""

    predictor: SaliencyPredictor
    workers: int
    threads: int
    """CPU threads of one operator."""


def leave_cores_to_frames() -> None:
    """Keep OpenCV to one thread: frames in inference need the cores that its pool would take."""
    import cv2  # noqa: PLC0415 - nothing else here needs it

    cv2.setNumThreads(1)


def plan_stream(
    load: Callable[[Execution], SaliencyPredictor], execution: Execution, *, live: bool, spin: bool = False
) -> Plan:
    """Divide the CPU threads among frames.

    One thread for each of several frames gives more frames a second than all threads for one frame
    at a time (here 1.3 times, on two cores), and nothing has to wait spinning. But each frame then
    takes longer, which matters to a live source where one thread cannot keep pace with a camera.
    On other devices than the CPU one frame is in inference at a time.

    Args:
        load: makes a predictor.
        execution: what was asked for; its threads are those of all frames together.
        live: the age of a frame counts, not only how many there are.
        spin: let waiting threads keep their cores busy, where one operator has several threads.
    """
    total = execution.threads or allowed_cpus()
    predictor = load(replace(execution, threads=1, spinning=spin))
    if predictor.device != "cpu" or total == 1:
        return Plan(predictor, 1, 1)
    if not live:
        # One more than there are cores: somebody always waits for a turn or a frame.
        return Plan(predictor, min(total + 1, _MOST_WORKERS), 1)
    if _seconds(predictor) < _FAST:
        return Plan(predictor, min(total, _MOST_WORKERS), 1)
    return Plan(load(replace(execution, device="cpu", threads=total, spinning=spin)), 1, total)


def _seconds(predictor: SaliencyPredictor) -> float:
    """Median time of a frame, after one that warms up."""
    image = np.zeros((*_TRIED, 3), np.uint8)
    vectors = predictor.embed([None])
    elapsed = []
    for _ in range(4):
        started = time.perf_counter()
        predictor.grids(image, vectors)
        elapsed.append(time.perf_counter() - started)
    return median(elapsed[1:])
