"""What several tools share: their options, and measuring peers and the live loop beside all that `salgan-edge benchmark` measures."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from salgan_edge.benchmarks.harness import measure
from salgan_edge.benchmarks.live import live_row
from salgan_edge.benchmarks.peers import PeerUnavailableError
from salgan_edge.benchmarks.peers.rows import peer_rows
from salgan_edge.benchmarks.record import Record, bundle_entry, machine
from salgan_edge.benchmarks.report import progress_line
from salgan_edge.benchmarks.settings import OptionError, Settings

from salgan_edge.bundle import Bundle
from salgan_edge.console import one_line_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "BundleOption",
    "ClipsegOption",
    "NeckOption",
    "PeersOption",
    "QuickOption",
    "RunsOption",
    "ThreadsOption",
    "cpu_settings",
    "measure_whole",
    "measured",
]

BundleOption = Annotated[Path | None, typer.Option("--bundle", "-b", help="Default: the embedded one.")]
NeckOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="yolox_nano_coco.onnx; looked for in ../shared/weights by default."),
]
ClipsegOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="transformers folder with CLIPSeg's weights; random ones by default."
    ),
]
PeersOption = Annotated[
    str,
    typer.Option(
        "--peers",
        metavar="NAME,...",
        help="paper, neck, clipseg, spectral-residual, fine-grained, matmul, all or none.",
    ),
]
QuickOption = Annotated[bool, typer.Option("--quick", help="Few runs: for a first look, not for a result.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="CPU threads.")]
RunsOption = Annotated[int, typer.Option(min=1, help="Of each graph at least.")]

_PEER_SECONDS = 120.0
"""For one number of threads, at most: CLIPSeg takes half a second a run."""


def cpu_settings(
    bundle: Path | None,
    groups: Sequence[str],
    peers: str,
    *,
    peer_files: Sequence[str] = (),
    threads: str | None = None,
    quick: bool = False,
) -> Settings:
    """What the options say, on the CPU.

    Raises:
        typer.BadParameter: they cannot be understood.
    """
    try:
        return Settings.parse(
            [bundle] if bundle else [], ("cpu",), only=groups, peers=peers, peer_files=peer_files, threads=threads,
            quick=quick,
        )  # fmt: skip
    except OptionError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error


def measured(
    settings: Settings, neck: Path | None = None, clipseg_folder: Path | None = None, *, live: bool = False
) -> Record:
    """Like `measure_whole`; notes and progress go to standard error."""
    with one_line_warnings(), progress_line() as progress:
        return measure_whole(
            settings, neck=neck, clipseg_folder=clipseg_folder, live=live, progress=progress,
            tell=lambda line: typer.echo(f"note: {line}", err=True),
        )  # fmt: skip


def measure_whole(
    settings: Settings,
    *,
    neck: Path | None = None,
    clipseg_folder: Path | None = None,
    live: bool = False,
    tell: Callable[[str], object],
    progress: Callable[[str, float], object],
) -> Record:
    """A record of the groups of `settings`, with more runs of the peers, and with the live loop.

    Args:
        settings: what to measure.
        neck: ``yolox_nano_coco.onnx``; looked for in ``../shared/weights`` where None.
        clipseg_folder: `transformers` folder with CLIPSeg's weights; random ones where None.
        live: measure the live loop too.
        tell: called with a line for each peer that is left out.
        progress: called with what is measured and the share of it that is done, 0..1.

    Raises:
        SalganEdgeError: a bundle or a file cannot be used, or none of the peers is available.
    """
    started = time.perf_counter()
    groups = tuple(group for group in settings.groups if group != "peer")
    rows = []
    if "peer" in settings.groups:
        # First, so that a file that cannot be used is not found out after minutes.
        effort = settings.effort
        if not settings.quick:
            effort = replace(effort, max_seconds=_PEER_SECONDS)
        rows += peer_rows(
            settings.bundles[0],
            settings.peers,
            settings.peer_files,
            tuple(dict.fromkeys((settings.threads[0], settings.threads[-1]))),
            neck=neck,
            clipseg_folder=clipseg_folder,
            effort=effort,
            tell=tell,
            progress=lambda share: progress("peer", share),
        )
    if live:
        progress("live loop", 0.0)
        seconds, rounds = (0.5, 1) if settings.quick else (3.0, 5)
        try:
            rows.append(
                live_row(
                    settings.bundles[0], neck, seconds=seconds, rounds=rounds, threads=settings.threads[-1]
                )
            )
        except PeerUnavailableError as error:
            tell(f"left out, live loop, which needs the neck: {error}")
    record = measure(replace(settings, only=groups), progress) if groups else _empty(settings)
    return replace(
        record,
        settings=settings.to_dict(),
        rows=[*record.rows, *rows],
        seconds=time.perf_counter() - started,
    )


def _empty(settings: Settings) -> Record:
    """A record without rows."""
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bundles = [bundle_entry(Bundle.open(bundle).manifest) for bundle in settings.bundles]
    return Record(machine(), settings.to_dict(), bundles, [], date, 0.0)
