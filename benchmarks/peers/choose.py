"""Peers by name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from salgan_edge.benchmarks.peers import ceiling, clipseg, networks, opencv
from salgan_edge.benchmarks.peers.peer import Peer, PeerUnavailableError
from salgan_edge.benchmarks.peers.user_graph import UserGraph, user_peer

from salgan_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["GENERATOR", "OWN", "PEERS", "TEXT_ENCODE", "peer_subjects"]

GENERATOR, TEXT_ENCODE = "generator", "text encode"
OWN = (GENERATOR, TEXT_ENCODE)
"""What the bundle's own rows are called, which are timed beside the peers."""

PEERS = {
    "paper": "the paper's generator, random weights (needs the extra export)",
    "neck": "YOLOX-Nano up to its neck, a light backbone (needs yolox_nano_coco.onnx and the extra export)",
    "clipseg": "CLIPSeg at its full size, image and text vector to mask (needs the extra export; 0.3 GB on disk)",
    "spectral-residual": "OpenCV's, or this package's own where OpenCV has none",
    "fine-grained": "OpenCV's (needs opencv-contrib-python)",
    "matmul": "a float32 matrix product: what the machine can do at most",
}
"""Every peer that has a name, with what it is."""

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
        tell: is given a line for each peer that is left out.

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
        "paper": lambda: networks.paper_peer(threads),
        "neck": lambda: networks.neck_peer(neck, size, threads),
        "clipseg": lambda: clipseg.clipseg_peer(clipseg_folder, threads),
        "spectral-residual": lambda: opencv.spectral_residual_peer(size, threads),
        "fine-grained": lambda: opencv.fine_grained_peer(size, threads),
        "matmul": lambda: ceiling.matmul_peer(threads),
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
