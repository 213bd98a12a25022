"""Measures what is committed: a bundle in all respects, its peers, and the live loop."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from salgan_edge.benchmarks.live_row import live_row
from salgan_edge.benchmarks.machine import machine
from salgan_edge.benchmarks.peers.peer import PeerUnavailableError
from salgan_edge.benchmarks.peers.rows import peer_rows
from salgan_edge.benchmarks.record import Record, bundle_entry
from salgan_edge.benchmarks.sweeps import measure

from salgan_edge.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from salgan_edge.benchmarks.settings import Settings

__all__ = ["measure_whole"]

_PEER_SECONDS = 120.0
"""For one number of threads, at most: CLIPSeg takes half a second a run."""


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
        tell: is given a line for each peer that is left out.
        progress: told what is measured, and the share of it that is done.

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
