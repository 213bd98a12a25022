"""Networks that the generator is measured by, as ONNX graphs that are made here: all need the extra ``export``.

They are the paper's generator; a light backbone alone, YOLOX-Nano up to its neck; and CLIPSeg (Lüddecke and Ecker, "Image segmentation using
text and image prompts", CVPR 2022), the usual way to ask an image for "a cup". CLIPSeg's graph takes what a user who caches prompts would give
it, a photo and a text vector, and gives a mask. It is exported once and kept in the user's cache. The exporter drops the vision layers that no
output needs (two of twelve).
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from salgan_edge.benchmarks.peers.peer import PeerUnavailableError, graph_peer, macs_of, needs_export

from salgan_edge import contract
from salgan_edge.devices import cache_folder
from salgan_edge.errors import InputError
from salgan_edge.files import sha256, writing
from salgan_edge.timing import random_photo, random_texts

if TYPE_CHECKING:
    import numpy.typing as npt
    from salgan_edge.benchmarks.peers.peer import Peer

__all__ = ["IMAGE_SIDE", "NECK_FILE", "clipseg_graph", "clipseg_peer", "find_neck", "neck_peer", "paper_peer"]

NECK_FILE = "yolox_nano_coco.onnx"
_NECK_OUTPUTS = ("956", "990", "1024")
"""The last is computed from the other two."""
_PAPER_SIZE, _PAPER_DIMENSION = 256, 512

IMAGE_SIDE = 352
"""Pixels that CLIPSeg's own processor resizes to."""

_PIXELS, _CONDITION, _MASK = "pixel_values", "conditional_embeddings", "logits"
_PUBLISHED: dict[str, Any] = {"vision_config": {"patch_size": 16}, "use_complex_transposed_convolution": True}
"""Where CIDAS/clipseg-rd64-refined differs from the defaults of `transformers.CLIPSegConfig`."""
_LAYOUT = 1
"""Of the cached files; greater when this module exports another graph."""

_log = logging.getLogger(__name__)


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
        import torch  # noqa: PLC0415 - needs the extra export
        from salgan_edge.export.convert import (  # noqa: PLC0415
            GENERATOR_DIMENSIONS,
            convert,
            generator_example,
        )
        from salgan_edge.train.networks.paper import PaperGenerator  # noqa: PLC0415
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PaperGenerator(_PAPER_SIZE, _PAPER_DIMENSION)
    model = convert(
        network,
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
            f"{NECK_FILE} is not in ../shared/weights: give it with --neck of python -m tools peers, in a clone of the repository"
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


def clipseg_peer(folder: Path | None, threads: int) -> Peer:
    """One photo and one text vector to a mask.

    Args:
        folder: `transformers` folder with weights; the published sizes with random weights where None.
        threads: CPU threads.

    Raises:
        PeerUnavailableError: the extra export is not installed, or the cache cannot be written.
        InputError: the folder holds no CLIPSeg.
    """
    file, facts = _cached(folder)
    side = facts["side"]
    pixels = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    inputs = {_PIXELS: pixels, _CONDITION: random_texts(1, facts["dimension"])}
    weights = "random weights, so latency only" if folder is None else f"weights of {folder.name}"
    note = f"CLIPSeg in onnxruntime, {side}x{side}, one text vector to a mask, {weights}"
    return graph_peer("clipseg", file, _MASK, inputs, threads, note, facts["macs"])


def _cached(folder: Path | None) -> tuple[Path, dict[str, Any]]:
    """The exported graph, and its side, dimension and MACs; exported where it is not there yet."""
    place = cache_folder() / "peers"
    file = place / f"clipseg-{_key(folder)}.onnx"
    about = file.with_suffix(".json")
    if not (file.is_file() and about.is_file()):
        _check_place(place)
        model, side = _model(folder)
        _log.warning(
            "CLIPSeg is exported, once; this takes half a minute and 4 GB of memory (kept in %s)", place
        )
        content = clipseg_graph(model, side)
        with writing(file) as temporary:
            temporary.write_bytes(content)
        facts = {"side": side, "dimension": model.config.projection_dim, "macs": macs_of(file)}
        with writing(about) as temporary:
            temporary.write_text(json.dumps(facts), encoding="utf-8")
    facts = json.loads(about.read_text(encoding="utf-8"))
    return file, facts


def _check_place(place: Path) -> None:
    """Find out before the export whether its result can be kept.

    Raises:
        PeerUnavailableError: the folder cannot be made or written.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise PeerUnavailableError(
            f"its graph cannot be kept in {place}: {error.strerror or error}; set SALGAN_EDGE_CACHE to a folder that "
            "can be written"
        ) from error


def _key(folder: Path | None) -> str:
    """Part of a file name that differs for other sizes and weights."""
    if folder is None:
        parts = [json.dumps(_PUBLISHED, sort_keys=True)]
    else:
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder} has no config.json: a transformers folder of CLIPSeg was expected")
        files = [*folder.glob("*.json"), *folder.glob("*.safetensors"), *folder.glob("*.bin")]
        parts = [f"{file.name} {sha256(file)}" for file in sorted(files)]
    return hashlib.sha256("\n".join([str(_LAYOUT), *parts]).encode()).hexdigest()[:16]


def _model(folder: Path | None) -> tuple[Any, int]:
    """The network, and the side of its input in pixels."""
    with needs_export():
        import torch  # noqa: PLC0415 - needs the extra export
        from transformers import CLIPSegConfig, CLIPSegForImageSegmentation  # noqa: PLC0415
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415
    transformers_logging.disable_progress_bar()
    if folder is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return CLIPSegForImageSegmentation(CLIPSegConfig(**_PUBLISHED)).eval(), IMAGE_SIDE
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        if kind != "clipseg":
            raise InputError(f"{folder} holds a model of type {kind}: clipseg was expected")
        model = CLIPSegForImageSegmentation.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder} cannot be loaded: {first}; a transformers folder of CLIPSeg was expected"
        ) from error
    return model, _side(folder)


def _side(folder: Path) -> int:
    """Pixels that the folder's processor resizes to."""
    try:
        size = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))["size"]
        return int(size["height"] if isinstance(size, dict) else size)
    except (OSError, ValueError, KeyError, TypeError):
        return IMAGE_SIDE


def clipseg_graph(model: Any, side: int) -> bytes:
    """An ONNX file: ``pixel_values`` (1, 3, side, side) and ``conditional_embeddings`` (1, d) to ``logits``.

    Args:
        model: a `transformers.CLIPSegForImageSegmentation` in evaluation mode.
        side: of the input in pixels.

    Raises:
        ExportError: PyTorch's exporter failed.
    """
    import torch  # noqa: PLC0415 - needs the extra export
    from salgan_edge.export.convert import convert  # noqa: PLC0415

    class Graph(torch.nn.Module):
        """The network without its text side."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(pixel_values=pixels, conditional_embeddings=condition).logits
            return logits

    example = (torch.zeros(1, 3, side, side), torch.zeros(1, model.config.projection_dim))
    exported = convert(Graph(), example, [_PIXELS, _CONDITION], _MASK, ({}, {}))
    content: bytes = exported.SerializeToString()
    return content
