"""The figures that this project holds itself to, read from a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from salgan_edge.benchmarks.peers.choose import GENERATOR, TEXT_ENCODE
from salgan_edge.benchmarks.stages import AROUND, BARE, PREDICT, STREAM_OVERLAY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from salgan_edge.benchmarks.record import Record, Row

__all__ = ["GROUPS", "LIVE", "LIVE_FPS", "Figure", "figures", "to_text"]

GROUPS = ("load", "end_to_end", "prompts", "frame", "memory", "peer")
"""Groups of rows that the figures are read from."""
LIVE = "live loop, overlay drawn"
"""Row of `salgan_edge.benchmarks.live_row`, in the group ``end_to_end``."""
LIVE_FPS = "scaled_frames_per_second"
_NAME = 72


@dataclass(frozen=True)
class _Limits:
    """What hangs on the size of a bundle."""

    paper: float
    """Times that the paper's generator takes longer, at least."""
    neck: float
    """Times YOLOX-Nano's neck, at most."""
    live: float
    """Frames a second of the live loop, at least."""


_DEFAULT = _Limits(paper=20, neck=4.2, live=30)
_SMALL = _Limits(paper=50, neck=1.6, live=60)


@dataclass(frozen=True)
class Figure:
    """One figure and what it should be."""

    name: str
    measured: float | None
    """None where it was not measured."""
    limit: float
    unit: str
    """``times``, ``ms``, ``fps`` or ``MB``."""
    at_least: bool = False
    """Whether more is better."""

    @property
    def reached(self) -> bool | None:
        """Whether it is as good as it should be; None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def verdict(self) -> str:
        """In a word or two."""
        return {True: "reached", False: "missed", None: "not measured"}[self.reached]

    def shown(self, value: float | None) -> str:
        """A value with its unit."""
        if value is None:
            return "-"
        return f"{value:.0f} {self.unit}" if value >= 100 else f"{value:.3g} {self.unit}"

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g} {self.unit}"


def figures(record: Record) -> list[Figure]:
    """The figures of a record, in the order of the issues that set them; those of its first bundle."""
    limits = _SMALL if any(bundle["name"].endswith("-small") for bundle in record.bundles[:1]) else _DEFAULT
    most = max(
        (int(row.parameters["threads"] or 1) for row in record.rows if "threads" in row.parameters), default=1
    )

    def ratio(base: str, group: str, name: str, **parameters: object) -> float | None:
        return _value(
            record,
            lambda row: row.ratios[base].ratio if base in row.ratios else None,
            group,
            name,
            **parameters,
        )

    def milliseconds(group: str, name: str, **parameters: object) -> float | None:
        return _value(
            record, lambda row: None if row.stats is None else row.stats.median_ms, group, name, **parameters
        )

    def value(key: str, group: str, name: str, **parameters: object) -> float | None:
        return _value(record, lambda row: row.values.get(key), group, name, **parameters)

    large = {"width": 1920, "height": 1080}
    around = milliseconds("frame", AROUND, **large)
    overlay = milliseconds("frame", STREAM_OVERLAY, **large)
    both = around + overlay if around is not None and overlay is not None else None
    threads = f"{most} threads" if most > 1 else "1 thread"
    found = [
        Figure("the paper's generator by this one, 256x256, 1 thread", ratio(GENERATOR, "peer", "paper", threads=1), limits.paper, "times", at_least=True),
        Figure("generator by YOLOX-Nano's neck, 1 thread", ratio("neck", "peer", GENERATOR, threads=1), limits.neck, "times"),
    ]  # fmt: skip
    if most > 1:
        name = f"generator by YOLOX-Nano's neck, {threads}"
        found.append(Figure(name, ratio("neck", "peer", GENERATOR, threads=most), limits.neck, "times"))
    return [
        *found,
        Figure(f"8 prompts on a photo by 1, generator, {threads}",
               ratio("generator, prompts 1", "prompts", "generator", prompts=8), 1.8, "times"),
        Figure(f"predict on a 640x480 array, prompt cached, by its session run, {threads}",
               ratio(BARE, "end_to_end", PREDICT, width=640, height=480), 1.25, "times"),
        Figure("1920x1080 array to its map, all but the generator", around, 6, "ms"),
        Figure("the same with the overlay of a stream drawn", both, 6, "ms"),
        Figure(f"live loop at 640x480, overlay drawn, {threads}, as if the neck took 8.2 ms",
               value(LIVE_FPS, "end_to_end", LIVE), limits.live, "fps", at_least=True),
        Figure("salgan-edge predict on one photo, cold", milliseconds("load", "salgan-edge predict"), 900, "ms"),
        Figure("text encode, one new prompt, 1 thread", milliseconds("peer", TEXT_ENCODE, threads=1), 2, "ms"),
        Figure("peak memory of salgan-edge predict",
               value("peak_mb", "memory", "salgan-edge predict", width=600, height=400), 250, "MB"),
    ]  # fmt: skip


def _value(
    record: Record, read: Callable[[Row], float | None], group: str, name: str, **parameters: object
) -> float | None:
    """What the first row of a group, a name and conditions says; None where there is none."""
    for row in record.rows:
        if row.group != group or row.name != name or row.parameters.get("bundle", 0) != 0:
            continue
        if all(row.parameters.get(key) == wanted for key, wanted in parameters.items()):
            return read(row)
    return None


def to_text(found: Sequence[Figure]) -> str:
    """A table of at most 110 columns, and how many are reached."""
    lines = [f"{'':<{_NAME}}{'measured':>12}  {'to reach':<19}"]
    lines += [
        f"{figure.name:<{_NAME}}{figure.shown(figure.measured):>12}  {figure.wanted:<19}  "
        f"{'' if figure.reached else figure.verdict}".rstrip()
        for figure in found
    ]
    reached = sum(figure.reached is True for figure in found)
    return "\n".join([*lines, "", f"{reached} of {len(found)} are reached."])
