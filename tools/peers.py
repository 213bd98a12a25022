"""Speed of a bundle against peers, timed in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from salgan_edge.benchmarks.record import check_place, save
from salgan_edge.benchmarks.report import peers_text

from tools.measuring import (
    BundleOption,
    ClipsegOption,
    NeckOption,
    PeersOption,
    QuickOption,
    cpu_settings,
    measured,
)

__all__ = ["main"]


def main(
    bundle: BundleOption = None,
    names: PeersOption = "all",
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="An ONNX file of your own, name=file.onnx or name=file.onnx:input=1x3x224x224; repeatable.",
        ),
    ] = None,
    neck: NeckOption = None,
    clipseg: ClipsegOption = None,
    threads: Annotated[
        str | None, typer.Option(metavar="N,...", help="CPU threads; default: 1 and all that are allowed.")
    ] = None,
    quick: QuickOption = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write the record as JSON.")
    ] = None,
) -> None:
    """Time a bundle and its peers in turn: ratios with intervals, GFLOP/s, share of the ceiling."""
    settings = cpu_settings(bundle, ("peer",), names, peer_files=peer or (), threads=threads, quick=quick)
    if not settings.peers and not settings.peer_files:
        raise typer.BadParameter("none and no --peer leave nothing to compare with", param_hint="--peers")
    check_place(output)
    record = measured(settings, neck, clipseg)
    typer.echo(peers_text(record.rows))
    if output is not None:
        save(record, output)
        typer.echo(str(output), err=True)
