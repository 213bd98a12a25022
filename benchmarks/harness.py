"""Measures groups of rows: one thing varies in each, and all of a group are interleaved in one run."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from salgan_edge.benchmarks import cold
from salgan_edge.benchmarks.machine import machine
from salgan_edge.benchmarks.record import Record, Row, bundle_entry
from salgan_edge.benchmarks.stages import (
    BARE,
    PREDICT,
    Workload,
    frame_subjects,
    photo_of,
    stage_subjects,
    whole_subjects,
)

from salgan_edge.timing import interleave, ratio_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from salgan_edge.benchmarks.settings import Effort, Settings
    from salgan_edge.benchmarks.stages import Subject

    from salgan_edge.timing import Stats

    Progress = Callable[[str, float], object]

__all__ = ["Case", "expected_seconds", "measure", "measured_rows"]

_COLD_SECONDS = 1.6
"""Of a fresh process that loads and one that predicts, with the time before they are timed."""
_ROW_SECONDS = 0.14
"""Of a block of runs, with its pause; as here, on two cores."""


class Case(NamedTuple):
    """Something to be timed."""

    name: str
    parameters: Mapping[str, Any]
    run: Subject
    base: str | None = None
    """Key of the case that it is compared with."""
    key: str | None = None
    """What others call it; its name where None."""
    note: str = ""


def measured_rows(
    group: str, cases: list[Case], effort: Effort, progress: Callable[[float], object] | None = None
) -> list[Row]:
    """Time cases in one interleaved run.

    Args:
        group: of the rows.
        cases: what to time; their keys differ.
        effort: for how long.
        progress: told the share that is done.
    """
    subjects = {case.key or case.name: case.run for case in cases}
    assert len(subjects) == len(cases), "two cases have one key"
    stats = interleave(
        subjects,
        min_runs=effort.min_runs,
        min_seconds=effort.min_seconds,
        min_blocks=effort.min_blocks,
        max_seconds=effort.max_seconds,
        pause=effort.pause,
        progress=progress,
    )
    return [
        Row(
            group,
            case.name,
            case.parameters,
            stats[case.key or case.name],
            {}
            if case.base in (None, case.key or case.name)
            else {
                str(case.base): ratio_interval(
                    stats[case.key or case.name].blocks, stats[str(case.base)].blocks
                )
            },
            _throughput(stats[case.key or case.name], case.parameters),
            case.note,
        )
        for case in cases
    ]


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
        progress: told which group is measured, and the share of it that is done.

    Raises:
        SalganEdgeError: a bundle, a device or a peer cannot be used.
    """
    started = time.perf_counter()
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # Before anything makes it hot.
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
        # Sessions of other groups have threads of their own; none is needed twice but those of the most threads.
        most = self._settings.threads[-1]
        self._works = {key: work for key, work in self._works.items() if key[2] == most}
        makers: dict[str, Callable[[], list[Case]]] = {
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
        return measured_rows(group, cases, self._settings.effort, lambda share: self._progress(group, share))

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
            # What the sessions of this process are called is what the fresh ones are to use.
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

    def _stages(self) -> list[Case]:
        work = self.work()
        subjects = stage_subjects(work, photo_of(self._settings.frames[0]), self._folder)
        return [Case(name, self._common(), run) for name, run in subjects.items()]

    def _whole(self) -> list[Case]:
        work = self.work()
        subjects = whole_subjects(work, photo_of(self._settings.frames[0]), self._folder)
        return [Case(name, self._common(), run, BARE) for name, run in subjects.items()]

    def _threads(self) -> list[Case]:
        first = self._settings.threads[0]
        cases = []
        for threads in self._settings.threads:
            for name, run in self._three(self.work(threads=threads)).items():
                parameters = self._common(threads=threads)
                cases.append(
                    Case(name, parameters, run, f"{name}, threads {first}", f"{name}, threads {threads}")
                )
        return cases

    def _three(self, work: Workload) -> dict[str, Subject]:
        """What is compared across threads, devices and precisions."""
        photo = photo_of(self._settings.frames[0])
        subjects: dict[str, Subject] = {"generator": work.generator(photo)}
        if work.reads_text:
            subjects["text encode"] = work.encode
        return subjects | {PREDICT: lambda: work.predictor.predict(photo, work.text)}

    def _prompts(self) -> list[Case]:
        work, photo = self.work(), photo_of(self._settings.frames[0])
        first = self._settings.prompts[0]
        cases = []
        for count in self._settings.prompts:
            texts = work.texts(count)
            subjects: dict[str, Subject] = {
                "generator": work.generator(photo, prompts=count),
                PREDICT: lambda texts=texts: work.predictor.predict(photo, texts),  # type: ignore[misc]
            }
            for name, run in subjects.items():
                base, key = f"{name}, prompts {first}", f"{name}, prompts {count}"
                cases.append(Case(name, self._common(prompts=count), run, base, key))
        return cases

    def _batch(self) -> list[Case]:
        work, photo = self.work(), photo_of(self._settings.frames[0])
        first = self._settings.batch[0]
        return [
            Case(
                "generator", self._common(batch=count), work.generator(photo, batch=count),
                f"generator, batch {first}", f"generator, batch {count}",
            )
            for count in self._settings.batch
        ]  # fmt: skip

    def _frames(self) -> list[Case]:
        work = self.work()
        first = self._settings.frames[0]
        cases = []
        for frame in self._settings.frames:
            subjects = frame_subjects(work, photo_of(frame), self._folder)
            for name, run in subjects.items():
                parameters = self._common(width=frame.width, height=frame.height)
                cases.append(Case(name, parameters, run, f"{name}, {first}", f"{name}, {frame}"))
        return cases

    def _devices(self) -> list[Case]:
        cases = []
        first = self.work(device=self._settings.devices[0]).device
        for device in self._settings.devices:
            work = self.work(device=device)
            for name, run in self._three(work).items():
                parameters = self._common(work)
                cases.append(Case(name, parameters, run, f"{name}, {first}", f"{name}, {work.device}"))
        return cases

    def _precisions(self) -> list[Case]:
        cases = []
        for threads in dict.fromkeys((self._settings.threads[0], self._settings.threads[-1])):
            for number in range(len(self._settings.bundles)):
                work = self.work(number, threads=threads)
                for name, run in self._three(work).items():
                    parameters = self._common(work, bundle=number, threads=threads)
                    end = f"threads {threads}"
                    cases.append(
                        Case(
                            name,
                            parameters,
                            run,
                            f"{name}, bundle 0, {end}",
                            f"{name}, bundle {number}, {end}",
                        )
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
