"""Networks that the generator is measured by: the paper's generator, and a light backbone alone."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from salgan_edge.benchmarks.peers.graphs import graph_peer, macs_of, needs_export
from salgan_edge.benchmarks.peers.peer import PeerUnavailableError

from salgan_edge import contract
from salgan_edge.errors import InputError
from salgan_edge.timing import random_photo, random_texts

if TYPE_CHECKING:
    import numpy.typing as npt
    from salgan_edge.benchmarks.peers.peer import Peer

__all__ = ["NECK_FILE", "find_neck", "neck_peer", "paper_peer"]

NECK_FILE = "yolox_nano_coco.onnx"
_NECK_OUTPUTS = ("956", "990", "1024")
"""The last is computed from the other two."""
_PAPER_SIZE, _PAPER_DIMENSION = 256, 512


def paper_peer(threads: int) -> Peer:
    """The paper's generator at 256x256 with one text; speed does not depend on its weights.

    Raises:
        PeerUnavailableError: the extra export is not installed.
    """
    graph, macs = _paper_graph()
    inputs: dict[str, npt.NDArray[Any]] = {
        contract.IMAGE: random_photo(_PAPER_SIZE)[None],
        contract.TEXT_EMBEDDING: random_texts(1, _PAPER_DIMENSION)[None],
    }
    note = "the paper's generator, 256x256, random weights"
    return graph_peer("paper", graph, contract.SALIENCY, inputs, threads, note, macs)


@functools.cache
def _paper_graph() -> tuple[bytes, float | None]:
    with needs_export():
        from salgan_edge.export.convert import (  # noqa: PLC0415
            GENERATOR_DIMENSIONS,
            convert,
            generator_example,
        )
        from salgan_edge.train.networks.paper import PaperGenerator  # noqa: PLC0415
    model = convert(
        PaperGenerator(_PAPER_SIZE, _PAPER_DIMENSION),
        generator_example(_PAPER_DIMENSION),
        [contract.IMAGE, contract.TEXT_EMBEDDING],
        contract.SALIENCY,
        GENERATOR_DIMENSIONS,
    )
    content = model.SerializeToString()
    return content, macs_of(content)


def find_neck() -> Path | None:
    """``yolox_nano_coco.onnx`` in ``../shared/weights``, seen from here or from a checkout; None if not there."""
    roots = [Path.cwd(), Path(__file__).parents[2]]
    files = [root.parent / "shared" / "weights" / NECK_FILE for root in roots]
    return next((file for file in files if file.is_file()), None)


def neck_peer(detector: Path | None, size: int, threads: int) -> Peer:
    """YOLOX-Nano up to the three maps that its neck gives; the run gives the coarsest, (1, 256, size/32, size/32).

    Args:
        detector: ``yolox_nano_coco.onnx``; looked for in ``../shared/weights`` where None.
        size: side of the square input in pixels, a multiple of 32.
        threads: CPU threads.

    Raises:
        PeerUnavailableError: no file was given and none is found, or the extra export is not installed.
        InputError: the file is not there, or is no YOLOX-Nano.
    """
    file = detector or find_neck()
    if file is None:
        raise PeerUnavailableError(
            f"{NECK_FILE} is not in ../shared/weights: give it with --neck of python -m salgan_edge.benchmarks"
        )
    if not file.is_file():
        raise InputError(f"there is no file {file}: give {NECK_FILE} with --neck")
    graph, name, macs = _neck_graph(file, size)
    pixels = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    note = f"YOLOX-Nano's backbone and neck, {size}x{size}"
    return graph_peer("neck", graph, _NECK_OUTPUTS[-1], {name: pixels}, threads, note, macs)


@functools.cache
def _neck_graph(file: Path, size: int) -> tuple[bytes, str, float | None]:
    """The cut graph, the name of its input, and its MACs."""
    with needs_export():
        import onnx  # noqa: PLC0415 - needs the extra export

        from salgan_edge.gaze.detector import cut  # noqa: PLC0415
    try:
        model = cut(file, _NECK_OUTPUTS, size)
        made = {name for node in model.graph.node for name in node.output}
        missing = [name for name in _NECK_OUTPUTS if name not in made]
    except Exception as error:  # protobuf has an error of its own for what is no message
        raise InputError(f"{file} cannot be read as ONNX: {error}; give {NECK_FILE} with --neck") from error
    if missing:
        raise InputError(f"{file} has no tensor {missing[0]}: give {NECK_FILE} with --neck")
    assert isinstance(model, onnx.ModelProto)
    content = model.SerializeToString()
    return content, model.graph.input[0].name, macs_of(content)
