"""Peers, things that are timed in the same run as the generator, and those of them that need no PyTorch.

OpenCV's saliency models know no text. They are in opencv-contrib only, whose wheel overwrites the files of opencv-python. The machine's
ceiling is a matrix product, in the same runtime as the generator and so with the same threads.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from salgan_edge.devices import Execution
from salgan_edge.errors import SalganEdgeError
from salgan_edge.session import GraphSession
from salgan_edge.timing import random_photo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

__all__ = [
    "CEILING",
    "GENERATOR",
    "OWN",
    "PEERS",
    "SIDES",
    "TEXT_ENCODE",
    "Peer",
    "PeerUnavailableError",
    "fine_grained_peer",
    "graph_peer",
    "macs_of",
    "matmul_graph",
    "matmul_peer",
    "needs_export",
    "spectral_residual_peer",
]

GENERATOR, TEXT_ENCODE = "generator", "text encode"
OWN = (GENERATOR, TEXT_ENCODE)
"""What the bundle's own rows are called, which are timed beside the peers."""

CEILING = "matmul"
"""The peer that says what the machine can do at most."""
PEERS = {
    "paper": "the paper's generator, random weights (needs the extra export)",
    "neck": "YOLOX-Nano up to its neck, a light backbone (needs yolox_nano_coco.onnx and the extra export)",
    "clipseg": "CLIPSeg at its full size, image and text vector to mask (needs the extra export; 0.3 GB on disk)",
    "spectral-residual": "OpenCV's, or this package's own where OpenCV has none",
    "fine-grained": "OpenCV's (needs opencv-contrib-python)",
    "matmul": "a float32 matrix product: what the machine can do at most",
}
"""Every peer that has a name, with what it is."""
SIDES = (512, 1024, 2048)
"""Rows and columns of both matrices; small ones stay in the cache of one core, large ones feed many."""

_FLOAT, _IR_VERSION, _OPSET = 1, 8, 18
_TRIALS = 4
_REPAIR = (
    "pip uninstall -y opencv-python && pip install opencv-contrib-python (the two overwrite each other's files, so "
    "never both; pip check will name the one that was taken out)"
)


class PeerUnavailableError(SalganEdgeError):
    """A peer cannot be timed here; the message says why and what to do."""


@dataclass(frozen=True)
class Peer:
    """Something to time beside the generator."""

    name: str
    run: Callable[[], Any]
    """One run on inputs that stay the same; gives the array that was computed."""
    note: str
    """One line about what runs: implementation, input, weights."""
    macs: float | None
    """Multiply-accumulate operations of a run; None where they are not known."""


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


def matmul_peer(threads: int, sides: Sequence[int] | None = None) -> Peer:
    """The product of two square float32 matrices, of that size of `sides` (or `SIDES`) which does the most a second."""
    peers = [_product(side, threads) for side in sides or SIDES]
    return max(peers, key=lambda peer: (peer.macs or 0.0) / _least_seconds(peer))


def _least_seconds(peer: Peer) -> float:
    times = []
    for _ in range(_TRIALS):
        before = time.perf_counter()
        peer.run()
        times.append(time.perf_counter() - before)
    return min(times)


def _product(side: int, threads: int) -> Peer:
    random = np.random.default_rng(0)
    inputs = {name: random.random((side, side), np.float32) for name in ("a", "b")}
    note = f"float32 matrix product {side}x{side} in onnxruntime, the fastest of several sizes"
    return graph_peer("matmul", matmul_graph(side), "y", inputs, threads, note, float(side) ** 3)


def matmul_graph(side: int) -> bytes:
    """An ONNX file: y = a @ b, all float32 (side, side). Written out, so that `onnx` is not needed."""
    # Field numbers are those of onnx.proto3.
    node = _text(1, "a") + _text(1, "b") + _text(2, "y") + _text(4, "MatMul")
    axis = _message(1, _number(1, side))
    tensor = _number(1, _FLOAT) + _message(2, axis + axis)
    value = {name: _text(1, name) + _message(2, _message(1, tensor)) for name in "aby"}
    graph = _message(1, node) + _text(2, "product")
    graph += _message(11, value["a"]) + _message(11, value["b"]) + _message(12, value["y"])
    return _number(1, _IR_VERSION) + _message(7, graph) + _message(8, _text(1, "") + _number(2, _OPSET))


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def spectral_residual_peer(size: int, threads: int) -> Peer:
    """Hou and Zhang 2007 on a photo (size, size, 3): OpenCV's, or the baseline of `salgan-edge evaluate`."""
    import cv2  # noqa: PLC0415 - this package is imported before it is known what is asked for

    if hasattr(cv2, "saliency"):
        model = cv2.saliency.StaticSaliencySpectralResidual_create()
        return _opencv_peer("spectral-residual", model, size, threads)
    from salgan_edge.evaluate.models import SpectralResidual  # noqa: PLC0415 - imports OpenCV

    photo, own = random_photo(size), SpectralResidual()

    def run() -> npt.NDArray[np.float32]:
        _set_threads(threads)
        return own.residual(photo)

    run()
    note = (
        f"this package's own in numpy, {size}x{size}; OpenCV's takes opencv-contrib-python for opencv-python"
    )
    return Peer("spectral-residual", run, note, None)


def fine_grained_peer(size: int, threads: int) -> Peer:
    """Montabone and Soto 2010 on a photo (size, size, 3).

    Raises:
        PeerUnavailableError: OpenCV was built without its saliency module.
    """
    import cv2  # noqa: PLC0415 - see above

    if not hasattr(cv2, "saliency"):
        raise PeerUnavailableError(f"the installed OpenCV has no saliency module: {_REPAIR}")
    return _opencv_peer("fine-grained", cv2.saliency.StaticSaliencyFineGrained_create(), size, threads)


def _opencv_peer(name: str, model: Any, size: int, threads: int) -> Peer:
    import cv2  # noqa: PLC0415 - see above

    photo = random_photo(size)[..., ::-1].copy()  # OpenCV's order of colours

    def run() -> npt.NDArray[np.float32]:
        _set_threads(threads)
        done, saliency = model.computeSaliency(photo)
        assert done, f"OpenCV's {name} gave no map"
        result: npt.NDArray[np.float32] = saliency
        return result

    run()
    return Peer(name, run, f"OpenCV {cv2.__version__}, {size}x{size}", None)


def _set_threads(threads: int) -> None:
    """Set OpenCV's own threads, which are one setting for the whole process."""
    import cv2  # noqa: PLC0415 - see above

    if cv2.getNumThreads() != threads:
        cv2.setNumThreads(threads)
