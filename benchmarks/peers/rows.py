"""Peers by name and from files, timed in turn with a bundle: rows of a record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from salgan_edge.benchmarks.harness import Workload
from salgan_edge.benchmarks.peers.networks import clipseg_peer, neck_peer, paper_peer
from salgan_edge.benchmarks.peers.peer import (
    CEILING,
    GENERATOR,
    OWN,
    PEERS,
    TEXT_ENCODE,
    Peer,
    PeerUnavailableError,
    fine_grained_peer,
    macs_of,
    matmul_peer,
    spectral_residual_peer,
)
from salgan_edge.benchmarks.peers.user_graph import UserGraph, user_peer
from salgan_edge.benchmarks.record import Row
from salgan_edge.benchmarks.settings import Effort

from salgan_edge import contract
from salgan_edge.devices import Execution
from salgan_edge.errors import InputError
from salgan_edge.timing import interleave, random_photo, ratio_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from salgan_edge.timing import Stats

__all__ = ["peer_rows", "peer_subjects"]

_log = logging.getLogger(__name__)


def peer_subjects(
    names: Sequence[str],
    files: Sequence[str],
    size: int,
    threads: int,
    *,
    neck: Path | None = None,
    clipseg_folder: Path | None = None,
    tell: Callable[[str], object] = _log.warning,
) -> list[Peer]:
    """Peers that are ready to run; each has run once.

    Args:
        names: of `PEERS`, in any order; those that are not available are left out.
        files: ONNX files of the user's own, ``name=file.onnx`` or ``name=file.onnx:input=1x3x224x224``.
        size: side in pixels of the square photo for peers of any size; the paper's has 256, CLIPSeg 352.
        threads: CPU threads of each.
        neck: ``yolox_nano_coco.onnx``; looked for in ``../shared/weights`` where None.
        clipseg_folder: `transformers` folder with CLIPSeg's weights; random ones where None.
        tell: called with a line for each peer that is left out.

    Raises:
        InputError: an unknown name, a name that occurs twice, or a file that is no graph that can be run.
        PeerUnavailableError: none of the peers asked for is available.
    """
    if unknown := [name for name in names if name not in PEERS]:
        raise InputError(f"the peer {unknown[0]!r} is unknown: {', '.join(PEERS)} were expected")
    graphs = [UserGraph.parse(text) for text in files]
    labels = [*OWN, *dict.fromkeys(names), *(graph.name for graph in graphs)]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"two rows would be named {label!r}: give the file another name")
    makers: dict[str, Callable[[], Peer]] = {
        "paper": lambda: paper_peer(threads),
        "neck": lambda: neck_peer(neck, size, threads),
        "clipseg": lambda: clipseg_peer(clipseg_folder, threads),
        "spectral-residual": lambda: spectral_residual_peer(size, threads),
        "fine-grained": lambda: fine_grained_peer(size, threads),
        "matmul": lambda: matmul_peer(threads),
    }
    peers: list[Peer] = []
    missing: list[str] = []
    for name in dict.fromkeys(names):
        try:
            peers.append(makers[name]())
        except PeerUnavailableError as error:
            missing.append(f"{name}: {error}")
    peers += [user_peer(graph, size, threads) for graph in graphs]
    if missing and not peers:
        raise PeerUnavailableError("; ".join(missing))
    for line in missing:
        tell(f"left out, {line}")
    return peers


def peer_rows(
    bundle: Path,
    names: Sequence[str],
    files: Sequence[str],
    threads: Sequence[int],
    *,
    neck: Path | None = None,
    clipseg_folder: Path | None = None,
    effort: Effort | None = None,
    tell: Callable[[str], object] = _log.warning,
    progress: Callable[[float], object] | None = None,
) -> list[Row]:
    """Times of a bundle's generator, its text encoder and the peers, on the CPU.

    Rows of the bundle come first, then those of the peers, for each number of threads. Those of the bundle
    have their ratios to all peers, those of the peers to the generator. All are of the group ``peer``.

    Args:
        bundle: folder or ``.salgan`` file.
        names: of `salgan_edge.benchmarks.peers.PEERS`.
        files: ONNX files of the user's own, as `peer_subjects` takes them.
        threads: CPU threads; all subjects of one number are timed in turn.
        neck: ``yolox_nano_coco.onnx``; looked for in ``../shared/weights`` where None.
        clipseg_folder: `transformers` folder with CLIPSeg's weights; random ones where None.
        effort: how much is measured of each number of threads.
        tell: called with a line for each peer that is left out.
        progress: called with the share that is done, 0..1.

    Raises:
        SalganEdgeError: a bundle, file or name that cannot be used, or none of the peers is available.
    """
    how = effort or Effort()
    rows: list[Row] = []
    told: set[str] = set()

    def tell_once(line: str) -> None:
        if line not in told:
            told.add(line)
            tell(line)

    for number, count in enumerate(threads):
        work = Workload(bundle, Execution("cpu", count))
        size = work.manifest.input_size[0]
        peers = peer_subjects(
            names, files, size, count, neck=neck, clipseg_folder=clipseg_folder, tell=tell_once
        )
        subjects = [*_own(work, size), *peers]
        share = _part(progress, number, len(threads))
        stats = interleave(
            {subject.name: subject.run for subject in subjects},
            min_runs=how.min_runs,
            min_seconds=how.min_seconds,
            min_blocks=how.min_blocks,
            max_seconds=how.max_seconds,
            progress=share,
        )
        rows += _rows(subjects, stats, count)
    return rows


def _part(
    progress: Callable[[float], object] | None, number: int, count: int
) -> Callable[[float], object] | None:
    """Progress of one part of several."""
    return None if progress is None else lambda share: progress((number + share) / count)


def _own(work: Workload, size: int) -> list[Peer]:
    """What of the bundle is timed: one run of each graph, the text encoder's with its tokenizer."""
    manifest = work.manifest
    own = [
        Peer(
            GENERATOR,
            work.generator(random_photo(size)),
            f"of {manifest.name}, {size}x{size}, one text vector",
            macs_of(work.predictor.bundle.read(contract.GENERATOR_FILE)),
        )
    ]
    if work.reads_text:
        own.append(Peer(TEXT_ENCODE, work.encode, "a new text of six words, tokens included", None))
    return own


def _rows(subjects: Sequence[Peer], stats: Mapping[str, Stats], threads: int) -> list[Row]:
    """Rows with ratios, GFLOP/s and the share of the ceiling."""
    speeds = {
        subject.name: None if subject.macs is None else _gflops(subject.macs, stats[subject.name].median_ms)
        for subject in subjects
    }
    ceiling = speeds.get(CEILING)
    rows = []
    for subject in subjects:
        mine, speed = stats[subject.name], speeds[subject.name]
        others = [name for name in stats if name not in OWN] if subject.name in OWN else [GENERATOR]
        values = {
            "giga_macs": None if subject.macs is None else subject.macs / 1e9,
            "gflop_per_second": speed,
            "ceiling_percent": 100 * speed / ceiling if speed and ceiling else None,
        }
        ratios = {name: ratio_interval(mine.blocks, stats[name].blocks) for name in others}
        rows.append(
            Row(
                "peer",
                subject.name,
                {"threads": threads, "device": "cpu"},
                mine,
                ratios,
                values,
                subject.note,
            )
        )
    return rows


def _gflops(macs: float, milliseconds: float) -> float:
    """A multiplication and an addition count as two operations."""
    return 2 * macs / (1e6 * milliseconds)
