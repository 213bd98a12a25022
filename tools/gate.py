"""Has the generator become slower against its peers, and does it reach the figures that this project holds itself to?

Ratios measured now stand beside the committed ones. Milliseconds are never compared: they are those of a machine and an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from salgan_edge.benchmarks.harness import AROUND, BARE, PREDICT, STREAM_OVERLAY
from salgan_edge.benchmarks.live import LIVE, LIVE_FPS
from salgan_edge.benchmarks.peers.peer import CEILING, GENERATOR, OWN, TEXT_ENCODE
from salgan_edge.benchmarks.record import load, machine
from salgan_edge.benchmarks.report import label, table

from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.cpus import allowed_cpus
from salgan_edge.errors import InputError
from tools.measuring import BundleOption, NeckOption, PeersOption, QuickOption, cpu_settings, measured
from tools.record import DEFAULT_NAME, RESULTS, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from salgan_edge.benchmarks.record import Record, Row

    from salgan_edge.timing import Ratio

__all__ = [
    "FIGURE_GROUPS", "GROUPS", "TOLERANCE", "Check", "Figure", "better", "checks", "compared_groups", "figures", "figures_text",
    "main", "to_text",
]  # fmt: skip

TOLERANCE = 0.15
"""Share by which a ratio may be greater than the committed one."""
GROUPS = ("end_to_end", "prompts", "peer")
"""Groups of rows whose ratios are compared; of ``peer``, those of the bundle itself to the peers."""

_PEERS = "paper,neck,spectral-residual"
_Key = tuple[str, str, tuple[tuple[str, Any], ...], str]
FIGURE_GROUPS = ("load", "end_to_end", "prompts", "frame", "memory", "peer")
"""Groups of rows that the figures are read from."""


@dataclass(frozen=True)
class Check:
    """One ratio of times: lower is better."""

    group: str
    name: str
    """What by what."""
    committed: Ratio
    measured: Ratio
    tolerance: float

    @property
    def change(self) -> float:
        """The measured ratio by the committed one."""
        return self.measured.ratio / self.committed.ratio

    @property
    def verdict(self) -> str:
        """``worse`` and ``better`` are beyond the tolerance, and neither interval holds the other's ratio.

        ``noisy`` is beyond the tolerance, but within an interval: measure again, on a quieter machine.
        """
        if 1 / (1 + self.tolerance) <= self.change <= 1 + self.tolerance:
            return "same"
        apart = not (self.measured.low <= self.committed.high and self.committed.low <= self.measured.high)
        if not apart:
            return "noisy"
        return "worse" if self.change > 1 else "better"


def checks(committed: Record, measured: Record, tolerance: float = TOLERANCE) -> list[Check]:
    """All ratios that both records have.

    Args:
        committed: what is kept with the code.
        measured: what was found now.
        tolerance: share by which a ratio may be greater.
    """
    before, after = _ratios(committed), _ratios(measured)
    return [
        Check(key[0], _name(key), before[key], after[key], tolerance)
        for key in before
        if key in after and before[key].ratio > 0 and after[key].ratio > 0
    ]


def compared_groups(record: Record) -> tuple[str, ...]:
    """Those of `GROUPS` of which a record has ratios to compare."""
    found = {key[0] for key in _ratios(record)}
    return tuple(group for group in GROUPS if group in found)


def better(first: Sequence[Check], second: Sequence[Check]) -> list[Check]:
    """Of two measurements the lower of each ratio: what happened once only was the machine's doing."""
    others = {(check.group, check.name): check for check in second}
    return [
        min(check, others.get((check.group, check.name), check), key=lambda found: found.change)
        for check in first
    ]


def _ratios(record: Record) -> dict[_Key, Ratio]:
    found: dict[_Key, Ratio] = {}
    for row in record.rows:
        if row.group not in GROUPS or (row.group == "peer" and row.name not in OWN):
            continue
        if row.parameters.get("bundle", 0) != 0:
            continue
        shown = tuple(sorted((k, v) for k, v in row.parameters.items() if k not in ("bundle", "device")))
        for base, ratio in row.ratios.items():
            if base == CEILING:
                continue  # its size may be another
            found[row.group, row.name, shown, base] = ratio
    return found


def _name(key: _Key) -> str:
    return f"{label(key[1], dict(key[2]))} / {key[3]}"


def to_text(found: Sequence[Check]) -> str:
    """A table of at most 100 columns, and what it comes to."""
    rows = [
        [
            check.name,
            f"{check.committed.ratio:.3g}",
            f"{check.measured.ratio:.3g}",
            f"{check.measured.low:.3g}-{check.measured.high:.3g}",
            "" if check.verdict == "same" else check.verdict,
        ]
        for check in found
    ]
    lines = [
        table(["ratio of times", "committed", "now", "95 % interval", ""], rows, least=(54, 9, 9, 15, 6))
    ]
    counts = {
        word: sum(check.verdict == word for check in found) for word in ("worse", "better", "noisy", "same")
    }
    tolerance = found[0].tolerance if found else TOLERANCE
    lines += [
        "",
        f"{counts['worse']} worse and {counts['better']} better by more than {tolerance:.0%} and beyond the noise",
        f"{counts['noisy']} differ as much, but within the noise; {counts['same']} are the same",
    ]
    if counts["better"] and not counts["worse"]:
        lines.append("Commit the new results with python -m tools record, so that they are kept.")
    return "\n".join(lines)


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


def figures_text(found: Sequence[Figure]) -> str:
    """A table of at most 120 columns, and how many are reached."""
    rows = [
        [figure.name, figure.shown(figure.measured), figure.wanted, "" if figure.reached else figure.verdict]
        for figure in found
    ]
    reached = sum(figure.reached is True for figure in found)
    shown = table(["", "measured", "to reach", ""], rows, width=120)
    return "\n".join([shown, "", f"{reached} of {len(found)} are reached."])


def main(
    bundle: BundleOption = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Share by which a ratio may be greater than the committed one.")
    ] = TOLERANCE,
    reached: Annotated[
        bool, typer.Option("--figures", help="Instead: the figures to reach, and which are reached.")
    ] = False,
    names: PeersOption = _PEERS,
    neck: NeckOption = None,
    taken: Annotated[
        Path | None,
        typer.Option("--measured", metavar="FILE", help="Measure nothing: take what was measured before."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Committed results; default: benchmarks/results.")
    ] = None,
    quick: QuickOption = False,
) -> None:
    """Compare ratios with the committed ones of the nearest machine; exit code 1 where one is worse.

    What is worse is measured a second time, and fails where it is worse in both. Milliseconds are never compared.
    """
    before = load(taken) if taken else None
    if reached:
        record = before or measured(cpu_settings(bundle, FIGURE_GROUPS, names, quick=quick), neck, live=True)
        shown = figures(record)
        typer.echo(figures_text(shown))
        if not all(figure.reached for figure in shown):
            raise typer.Exit(1)
        return
    found = _checked(before, bundle, results or RESULTS, names, neck, tolerance, quick=quick)
    typer.echo(to_text(found))
    if any(check.verdict == "worse" for check in found):
        raise typer.Exit(1)


def _checked(
    taken: Record | None,
    bundle: Path | None,
    results: Path,
    names: str,
    neck: Path | None,
    tolerance: float,
    *,
    quick: bool,
) -> list[Check]:
    """Ratios beside those of the nearest machine, measured once or twice where they were not `taken` before."""
    if taken is not None:
        name = next((entry["name"] for entry in taken.bundles), DEFAULT_NAME)
    else:
        name = Bundle.open(bundle or default_bundle()).manifest.name
    reference = nearest(taken.machine if taken else machine(), results, name)
    typer.echo(
        f"committed: salgan-edge {reference.tool}, {reference.machine['name']}, {reference.date[:10]}",
        err=True,
    )
    groups = compared_groups(reference)
    if not groups:
        raise InputError("the committed results have no ratios: python -m tools record")
    settings = replace(
        cpu_settings(bundle, groups, names, quick=quick), threads=_common_threads(reference, taken)
    )
    found = checks(reference, taken or measured(settings, neck), tolerance)
    worse = tuple(dict.fromkeys(check.group for check in found if check.verdict == "worse"))
    if taken is None and worse:
        typer.echo("measuring again what is worse", err=True)
        again = measured(replace(settings, only=worse), neck)
        found = better(found, checks(reference, again, tolerance))
    if not found:
        raise InputError(
            "nothing that both have: compare with results of the same prompts, peers and number of threads"
        )
    return found


def _common_threads(reference: Record, taken: Record | None) -> tuple[int, ...]:
    """The numbers of threads that the committed record has and this machine too."""
    allowed = int(taken.machine["allowed_cpus"]) if taken else allowed_cpus()
    return tuple(count for count in reference.settings.get("threads", [1]) if count <= allowed) or (1,)
