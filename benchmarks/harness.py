"""Measures a bundle in groups of rows: one thing varies within a group, and all rows of a group are timed in turn."""

from __future__ import annotations

import itertools
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import cv2
import numpy as np
from salgan_edge.benchmarks import cold
from salgan_edge.benchmarks.record import Record, Row, bundle_entry, machine

from salgan_edge import contract, render, samples
from salgan_edge.images import read_image, write_image
from salgan_edge.predictor import SaliencyPredictor
from salgan_edge.resample import fit
from salgan_edge.result import SaliencyResult
from salgan_edge.timing import interleave, ratio_interval
from salgan_edge.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt
    from salgan_edge.benchmarks.settings import Effort, Frame, Settings

    from salgan_edge.devices import Execution
    from salgan_edge.timing import Stats

    Progress = Callable[[str, float], object]
    Subject = Callable[[], object]

__all__ = [
    "AROUND",
    "BARE",
    "PREDICT",
    "STREAM_OVERLAY",
    "TEXT",
    "Workload",
    "expected_seconds",
    "measure",
    "photo_of",
]

TEXT = "a red cup on the table"
"""The prompt that is used throughout."""
BARE = "bare session run"
AROUND = "all but the generator"
"""What `predict` does before and after the session's run."""
PREDICT = "predict"
"""Of an array, with a prompt that is known."""
STREAM_OVERLAY = "draw stream overlay"

_COLOURS = (
    "red", "green", "blue", "white", "black", "yellow", "pink", "brown", "grey", "old", "new", "big", "small", "dark",
    "round", "long", "short", "clean", "wet", "dry",
)  # fmt: skip
_THINGS = (
    "cup", "dog", "cat", "car", "man", "woman", "tree", "house", "book", "chair", "bird", "boat", "bus", "clock",
    "phone", "horse", "door", "hat", "ball", "lamp",
)  # fmt: skip

_COLD_SECONDS = 1.6
"""For one fresh process that loads and one that predicts, start-up included."""
_ROW_SECONDS = 0.14
"""For one block of runs with its pause, on two cores."""


class Workload:
    """A bundle on one device, ready to be timed.

    Args:
        bundle: folder or ``.salgan`` file.
        execution: device and threads.

    Raises:
        SalganEdgeError: the bundle or the device cannot be used.
    """

    def __init__(self, bundle: Path, execution: Execution) -> None:
        self.predictor = SaliencyPredictor.load(bundle, execution=execution)
        self.manifest = self.predictor.bundle.manifest
        self.reads_text = self.predictor.bundle.has(contract.TEXT_ENCODER_FILE)
        """False for a bundle that was packed without its text encoder: it is then timed without a text."""
        # More texts than the predictor caches, so that each is new whenever it is used again.
        self._texts = itertools.cycle(
            f"a {colour} {thing} on the table" for colour, thing in itertools.product(_COLOURS, _THINGS)
        )

    @property
    def device(self) -> str:
        """Where the generator really runs."""
        return self.predictor.device

    @property
    def text(self) -> str | None:
        """A prompt whose vector is kept after its first use."""
        return TEXT if self.reads_text else None

    def texts(self, count: int) -> list[str | None]:
        """Several prompts."""
        return [f"{TEXT} {number}" if self.reads_text else None for number in range(count)]

    def encode(self) -> object:
        """Tokenise and encode a text that is new to the predictor."""
        return self.predictor.embed([next(self._texts)])

    def resize(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The photo as it is given to the generator."""
        return fit(photo, *self.predictor.bundle.manifest.input_size)

    def run(self, images: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The session of the generator and nothing else.

        Args:
            images: RGB uint8 (B, H, W, 3).
            vectors: text vectors (B, N, dimension).

        Returns:
            Saliency (B, N, h, w).
        """
        inputs: dict[str, npt.NDArray[Any]] = {contract.IMAGE: images, contract.TEXT_EMBEDDING: vectors}
        return self.predictor.generator.run(contract.SALIENCY, inputs)

    def generator(self, photo: npt.NDArray[np.uint8], prompts: int = 1, batch: int = 1) -> Subject:
        """A run of the generator.

        Args:
            photo: RGB uint8 (H, W, 3); it is resized before.
            prompts: texts for each photo.
            batch: photos.
        """
        images = np.repeat(self.resize(photo)[None], batch, axis=0)
        vectors = np.repeat(self.predictor.embed(self.texts(prompts))[None], batch, axis=0)
        return lambda: self.run(images, vectors)


def photo_of(frame: Frame) -> npt.NDArray[np.uint8]:
    """A sample photo at a frame's size, RGB uint8 (height, width, 3)."""
    return cast(
        "npt.NDArray[np.uint8]",
        cv2.resize(samples.load("coffee"), tuple(frame), interpolation=cv2.INTER_CUBIC),
    )


def stage_subjects(work: Workload, photo: npt.NDArray[np.uint8], folder: Path) -> dict[str, Subject]:
    """Each stage of a prediction alone.

    Args:
        work: the bundle.
        photo: RGB uint8 (H, W, 3).
        folder: where a JPEG of it is written.
    """
    file = folder / f"{photo.shape[1]}x{photo.shape[0]}.jpg"
    write_image(file, photo)
    grid = work.predictor.grids(photo, work.predictor.embed([work.text]))[0]
    result = SaliencyResult.from_grid(photo, work.text, grid)
    subjects: dict[str, Subject] = {
        "decode JPEG": lambda: read_image(file),
        "resize": lambda: work.resize(photo),
    }
    if work.reads_text:
        tokenizer = ClipTokenizer(work.predictor.bundle.read(contract.TOKENIZER_FILE))
        subjects["tokenise"] = lambda: tokenizer.encode(TEXT)
        subjects["text encode, with tokenise"] = work.encode
    return subjects | {
        "generator": work.generator(photo),
        "resize back": lambda: SaliencyResult.from_grid(photo, work.text, grid),
        "draw overlay": result.overlay,
        STREAM_OVERLAY: lambda: render.overlay_grid(photo, grid),
    }


def whole_subjects(work: Workload, photo: npt.NDArray[np.uint8], folder: Path) -> dict[str, Subject]:
    """The session alone, then with more and more of the work around it.

    Args:
        work: the bundle.
        photo: RGB uint8 (H, W, 3).
        folder: where a JPEG of it is written.
    """
    file = folder / f"whole-{photo.shape[1]}x{photo.shape[0]}.jpg"
    write_image(file, photo)
    predict = work.predictor.predict
    subjects: dict[str, Subject] = {BARE: work.generator(photo), PREDICT: lambda: predict(photo, work.text)}
    if work.reads_text:
        subjects["predict, new prompt"] = lambda: (work.encode(), predict(photo, work.text))
    subjects["predict from a JPEG, overlay"] = lambda: predict(file, work.text).overlay()
    return subjects


def frame_subjects(work: Workload, photo: npt.NDArray[np.uint8], folder: Path) -> dict[str, Subject]:
    """What depends on the size of the photo.

    Args:
        work: the bundle.
        photo: RGB uint8 (H, W, 3).
        folder: where a JPEG of it is written.
    """
    stages = stage_subjects(work, photo, folder)
    predictor = work.predictor
    vectors = predictor.embed([work.text])
    grid = predictor.grids(photo, vectors)[0]

    def around() -> SaliencyResult:
        predictor.embed([work.text])
        work.resize(photo)
        return SaliencyResult.from_grid(photo, work.text, grid)

    return {
        PREDICT: lambda: predictor.predict(photo, work.text),
        AROUND: around,
        **{name: stages[name] for name in ("decode JPEG", "draw overlay", STREAM_OVERLAY)},
    }


class _Case(NamedTuple):
    """Something to be timed."""

    name: str
    parameters: Mapping[str, Any]
    run: Subject
    key: str
    """Its name among all cases of the group."""
    base: str | None = None
    """Key of the case that it is compared with."""


def _against_first(variants: Iterable[tuple[str, Mapping[str, Subject], Mapping[str, Any]]]) -> list[_Case]:
    """Cases of several variants, each compared with the first variant's case of the same name.

    Args:
        variants: of each, words that name it, the subjects to time, and the parameters of its rows.
    """
    cases: list[_Case] = []
    first: str | None = None
    for words, subjects, parameters in variants:
        first = words if first is None else first
        cases += [
            _Case(name, parameters, run, f"{name}, {words}", f"{name}, {first}")
            for name, run in subjects.items()
        ]
    return cases


def _measured_rows(
    group: str, cases: list[_Case], effort: Effort, progress: Callable[[float], object]
) -> list[Row]:
    """Time cases in one interleaved run.

    Args:
        group: of the rows.
        cases: what to time; their keys differ.
        effort: for how long.
        progress: called with the share that is done, 0..1.
    """
    timed = interleave(
        {case.key: case.run for case in cases},
        min_runs=effort.min_runs,
        min_seconds=effort.min_seconds,
        min_blocks=effort.min_blocks,
        max_seconds=effort.max_seconds,
        pause=effort.pause,
        progress=progress,
    )
    assert len(timed) == len(cases), "two cases have one key"
    rows = []
    for case in cases:
        stats, ratios = timed[case.key], {}
        if case.base not in (None, case.key):
            ratios[str(case.base)] = ratio_interval(stats.blocks, timed[str(case.base)].blocks)
        throughput = _throughput(stats, case.parameters)
        rows.append(Row(group, case.name, case.parameters, stats, ratios, throughput))
    return rows


def _throughput(stats: Stats, parameters: Mapping[str, Any]) -> dict[str, float | None]:
    """Images and maps a second, where a run has several."""
    batch, prompts = parameters.get("batch"), parameters.get("prompts")
    found: dict[str, float | None] = {}
    if batch is not None:
        found["images_per_second"] = batch * stats.per_second
    if prompts is not None:
        found["maps_per_second"] = (batch or 1) * prompts * stats.per_second
    return found


def expected_seconds(settings: Settings) -> float:
    """About how long `measure` takes on a small machine."""
    effort, three = settings.effort, 3
    rows = {
        "stage": 8,
        "end_to_end": 4,
        "threads": three * len(settings.threads),
        "prompts": 2 * len(settings.prompts),
        "batch": 2 * len(settings.batch),
        "frame": 6 * len(settings.frames),
        "device": three * len(settings.devices),
        "precision": 2 * three * len(settings.bundles),
    }
    blocks = max(effort.min_blocks, effort.min_runs / 5)
    timed = sum(rows.get(group, 0) for group in settings.groups) * blocks * _ROW_SECONDS
    cold_runs = (effort.cold_runs + 1) * ("load" in settings.groups) + 2 * ("memory" in settings.groups)
    peers = 2 * effort.max_seconds if "peer" in settings.groups else 0.0
    return timed + cold_runs * _COLD_SECONDS * len(settings.bundles) + peers


def measure(settings: Settings, progress: Progress = lambda _what, _share: None) -> Record:
    """Measure all that was asked for.

    Args:
        settings: what to measure.
        progress: called with the group that is measured and the share of it that is done, 0..1.

    Raises:
        SalganEdgeError: a bundle, a device or a peer cannot be used.
    """
    started = time.perf_counter()
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # First: measuring heats the processor.
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(settings, Path(folder), progress)
        rows = [row for group in settings.groups for row in bench.rows(group)]
        bundles = [bundle_entry(bench.work(number).manifest) for number in range(len(settings.bundles))]
    return Record(where, settings.to_dict(), bundles, rows, date, time.perf_counter() - started)


class _Bench:
    """Measures groups of rows, and keeps what several of them need."""

    def __init__(self, settings: Settings, folder: Path, progress: Progress) -> None:
        self._settings = settings
        self._folder = folder
        self._progress = progress
        self._works: dict[tuple[int, str, int], Workload] = {}
        self._memory: list[Row] = []

    def work(self, bundle: int = 0, device: str | None = None, threads: int | None = None) -> Workload:
        """A bundle on a device, loaded once."""
        execution = self._settings.execution(device, threads)
        key = (bundle, execution.device, execution.threads or 0)
        if key not in self._works:
            self._works[key] = Workload(self._settings.bundles[bundle], execution)
        return self._works[key]

    def rows(self, group: str) -> list[Row]:
        """Measure a group."""
        self._progress(group, 0.0)
        if group == "load":
            return self._load()
        if group == "memory":
            return self._memory_rows()
        if group == "peer":
            return self._peer_rows()
        # Sessions with fewer threads were for one group only: free theirs.
        most = self._settings.threads[-1]
        self._works = {key: work for key, work in self._works.items() if key[2] == most}
        makers: dict[str, Callable[[], list[_Case]]] = {
            "stage": self._stages,
            "end_to_end": self._whole,
            "threads": self._threads,
            "prompts": self._prompts,
            "batch": self._batch,
            "frame": self._frames,
            "device": self._devices,
            "precision": self._precisions,
        }
        cases = makers[group]()
        return _measured_rows(group, cases, self._settings.effort, lambda share: self._progress(group, share))

    def _common(self, work: Workload | None = None, **others: Any) -> dict[str, Any]:
        """Parameters of a row."""
        frame = self._settings.frames[0]
        return {
            "bundle": 0,
            "device": (work or self.work()).device,
            "threads": self._settings.threads[-1],
            "width": frame.width,
            "height": frame.height,
            **others,
        }

    def _cold(self, number: int) -> dict[str, Any]:
        common = self._common(self.work(number), bundle=number)
        return {key: common[key] for key in ("bundle", "device", "threads")}

    def _load(self) -> list[Row]:
        rows: list[Row] = []
        count = len(self._settings.bundles)
        for number, bundle in enumerate(self._settings.bundles):
            runs, parameters = self._settings.effort.cold_runs, self._cold(number)
            execution = self._settings.execution()
            rows += cold.load_rows(bundle, execution, runs, parameters)
            self._progress("load", (number + 0.5) / count)
            shell = cold.shell_rows(bundle, execution, runs, parameters)
            rows += [row for row in shell if row.group == "load"]
            self._memory += [row for row in shell if row.group == "memory"]
            self._progress("load", (number + 1) / count)
        return rows

    def _memory_rows(self) -> list[Row]:
        rows, self._memory = self._memory, []
        largest = max(self._settings.frames, key=lambda frame: frame.width * frame.height)
        for number, bundle in enumerate(self._settings.bundles):
            execution, parameters = self._settings.execution(), self._cold(number)
            if not any(row.parameters["bundle"] == number for row in rows):
                shell = cold.shell_rows(bundle, execution, 1, parameters)
                rows += [row for row in shell if row.group == "memory"]
            rows += cold.memory_rows(bundle, execution, largest, parameters)
        return rows

    def _stages(self) -> list[_Case]:
        work = self.work()
        subjects = stage_subjects(work, photo_of(self._settings.frames[0]), self._folder)
        return [_Case(name, self._common(), run, name) for name, run in subjects.items()]

    def _whole(self) -> list[_Case]:
        work = self.work()
        subjects = whole_subjects(work, photo_of(self._settings.frames[0]), self._folder)
        return [_Case(name, self._common(), run, name, BARE) for name, run in subjects.items()]

    def _threads(self) -> list[_Case]:
        return _against_first(
            (f"threads {count}", self._three(self.work(threads=count)), self._common(threads=count))
            for count in self._settings.threads
        )

    def _three(self, work: Workload) -> dict[str, Subject]:
        """What is compared across threads, devices and bundles."""
        photo = photo_of(self._settings.frames[0])
        subjects: dict[str, Subject] = {"generator": work.generator(photo)}
        if work.reads_text:
            subjects["text encode"] = work.encode
        return subjects | {PREDICT: lambda: work.predictor.predict(photo, work.text)}

    def _prompts(self) -> list[_Case]:
        work, photo = self.work(), photo_of(self._settings.frames[0])

        def subjects(count: int) -> dict[str, Subject]:
            texts = work.texts(count)
            return {
                "generator": work.generator(photo, prompts=count),
                PREDICT: lambda: work.predictor.predict(photo, texts),
            }

        return _against_first(
            (f"prompts {count}", subjects(count), self._common(prompts=count))
            for count in self._settings.prompts
        )

    def _batch(self) -> list[_Case]:
        work, photo = self.work(), photo_of(self._settings.frames[0])
        return _against_first(
            (f"batch {count}", {"generator": work.generator(photo, batch=count)}, self._common(batch=count))
            for count in self._settings.batch
        )

    def _frames(self) -> list[_Case]:
        return _against_first(
            (
                str(frame),
                frame_subjects(self.work(), photo_of(frame), self._folder),
                self._common(width=frame.width, height=frame.height),
            )
            for frame in self._settings.frames
        )

    def _devices(self) -> list[_Case]:
        # Two names may be one device, such as auto and cpu.
        works = {
            work.device: work for work in (self.work(device=device) for device in self._settings.devices)
        }
        return _against_first((name, self._three(work), self._common(work)) for name, work in works.items())

    def _precisions(self) -> list[_Case]:
        cases = []
        for threads in dict.fromkeys((self._settings.threads[0], self._settings.threads[-1])):
            works = [self.work(number, threads=threads) for number in range(len(self._settings.bundles))]
            cases += _against_first(
                (
                    f"bundle {number}, threads {threads}",
                    self._three(work),
                    self._common(work, bundle=number, threads=threads),
                )
                for number, work in enumerate(works)
            )
        return cases

    def _peer_rows(self) -> list[Row]:
        from salgan_edge.benchmarks.peers.rows import peer_rows  # noqa: PLC0415 - some peers need PyTorch

        settings = self._settings
        return peer_rows(
            settings.bundles[0],
            settings.peers,
            settings.peer_files,
            tuple(dict.fromkeys((settings.threads[0], settings.threads[-1]))),
            effort=settings.effort,
            progress=lambda share: self._progress("peer", share),
        )
