"""Peers that are one ONNX graph."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salgan_edge.benchmarks.peers.peer import Peer, PeerUnavailableError

from salgan_edge.devices import Execution
from salgan_edge.session import GraphSession

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

__all__ = ["graph_peer", "macs_of", "needs_export"]


def graph_peer(
    name: str,
    graph: Path | bytes,
    output: str,
    inputs: Mapping[str, npt.NDArray[Any]],
    threads: int,
    note: str,
    macs: float | None,
) -> Peer:
    """A graph with fixed inputs on the CPU, which has run once."""
    session = GraphSession(graph, Execution("cpu", threads), name=name)
    session.run(output, inputs)
    return Peer(name, lambda: session.run(output, inputs), note, macs)


def macs_of(graph: Path | bytes) -> float | None:
    """Multiply-accumulate operations of a graph whose inputs have fixed shapes; None without `onnx`."""
    try:
        from salgan_edge.export.facts import count_macs  # noqa: PLC0415 - needs the extra export
    except ImportError:
        return None
    if isinstance(graph, Path):
        return count_macs(graph)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        file.write_bytes(graph)
        return count_macs(file)


@contextlib.contextmanager
def needs_export() -> Iterator[None]:
    """Turn a failed import into a hint at the extra that brings what is missing.

    Raises:
        PeerUnavailableError: a package of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "salgan_edge":
            raise
        raise PeerUnavailableError(
            f"{error.name} is not installed: pip install 'salgan-edge[export]' (with cpu or gpu beside it)"
        ) from error
