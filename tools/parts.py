"""Where the `edge` generator's time goes: the graph cut off after each of its parts, timed in turn.

onnxruntime's own profiler adds some microseconds to each of the 388 operators that are left after fusion, so its figures cannot be summed
for a graph of 3 ms; what a cut graph takes is what it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from salgan_edge.benchmarks.peers.networks import neck_peer
from salgan_edge.benchmarks.peers.peer import PeerUnavailableError, needs_export
from salgan_edge.benchmarks.report import table

from salgan_edge import contract
from salgan_edge.bundle import Bundle, default_bundle
from salgan_edge.devices import Execution
from salgan_edge.errors import InputError
from salgan_edge.session import GraphSession
from salgan_edge.timing import Ratio, Stats, interleave, random_photo, random_texts, ratio_interval
from tools.measuring import BundleOption, NeckOption, RunsOption, ThreadsOption

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    import onnx

__all__ = ["PARTS", "Part", "cut_graphs", "main", "measure_parts", "to_text"]

PARTS = (
    "photo to pixels",
    "backbone and neck",
    "classes",
    "second backbone",
    "trunk",
    "text, relevance",
    "three blocks",
    "refinement",
)
"""In the order in which they are added; the last makes the graph whole. Not every generator has a second backbone."""
_STRIDES = 3


@dataclass(frozen=True)
class Part:
    """A graph cut off after a part."""

    name: str
    """The part that was added last."""
    stats: Stats
    """Of all parts so far."""
    by_neck: Ratio | None
    """Likewise, by YOLOX-Nano's neck; None where that is not there."""


def cut_graphs(generator: bytes) -> dict[str, bytes]:
    """The generator's graph up to and with each part, by the part's name.

    Raises:
        InputError: it is no `edge` generator in float32, whose layers are known by name.
        PeerUnavailableError: the extra export is not installed.
    """
    with needs_export():
        import onnx  # noqa: PLC0415 - needs the extra export
        from onnx.utils import Extractor  # noqa: PLC0415
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(generator))
    try:
        cuts = _cuts(model)
    except (KeyError, StopIteration):
        raise InputError(
            "the bundle holds no edge generator in float32: its layers have other names"
        ) from None
    extractor = Extractor(model)
    inputs = [value.name for value in model.graph.input]
    cut = {
        name: extractor.extract_model(inputs, outputs).SerializeToString() for name, outputs in cuts.items()
    }
    return {**cut, PARTS[-1]: generator}


def _cuts(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Outputs of the graph that ends with each part but the last, by the part's name."""
    layers = {node.input[1]: node for node in model.graph.node if node.op_type == "Conv"}

    def read_by(layer: str) -> str:
        return str(layers[f"{layer}.weight"].input[0])

    def follower(kind: str, value: str) -> str:
        """Output of the operator of a kind that reads a value."""
        readers = (node for node in model.graph.node if node.op_type == kind and value in node.input)
        return str(next(readers).output[0])

    def sigmoid_after(layer: str) -> str:
        return follower("Sigmoid", layers[f"{layer}.weight"].output[0])

    def silu_after(layer: str) -> str:
        return follower("Mul", sigmoid_after(layer))

    neck = [silu_after(f"backbone.{name}.conv3.conv") for name in ("up3", "out4", "out5")]
    classes = [sigmoid_after(f"backbone.heads.{stride}.logits") for stride in range(_STRIDES)]
    looked: list[str] = []
    if "eyes.head.weight" in layers:
        looked = [read_by(f"eye_laterals.{stride}") for stride in range(_STRIDES)]
        looked.append(follower("Clip", layers["eyes.head.weight"].output[0]))
    # Later parts read these, whose layout would otherwise be spared.
    kept = [neck[0], *classes, *looked[:1], *looked[-1:]]
    cuts = {
        "photo to pixels": [read_by("backbone.stem.conv")],
        "backbone and neck": neck,
        "classes": [*neck, *classes],
        "second backbone": [*neck, *classes, *looked],
        "trunk": [*kept, read_by("base")],
        "text, relevance": [*kept, read_by("blocks.0.depthwise")],
        "three blocks": [*kept, layers["coarse.weight"].output[0]],
    }
    if not looked:
        del cuts["second backbone"]
    return cuts


def measure_parts(bundle: Bundle, threads: int, neck: Path | None = None, runs: int = 200) -> list[Part]:
    """Time the cut graphs, and the neck where its file is found, in turn in one run.

    Args:
        bundle: with an `edge` generator in float32.
        threads: CPU threads.
        neck: ``yolox_nano_coco.onnx``; looked for in ``../shared/weights`` where None.
        runs: of each at least.

    Raises:
        InputError: another generator, or `neck` cannot be read.
        PeerUnavailableError: the extra export is not installed.
    """
    manifest = bundle.manifest
    inputs: dict[str, npt.NDArray[Any]] = {
        contract.IMAGE: random_photo(manifest.input_size[0])[None],
        contract.TEXT_EMBEDDING: random_texts(1, manifest.embedding_dimension)[None],
    }
    subjects: dict[str, Callable[[], object]] = {
        name: _run(name, graph, inputs, threads)
        for name, graph in cut_graphs(bundle.read(contract.GENERATOR_FILE)).items()
    }
    try:
        subjects["neck"] = neck_peer(neck, manifest.input_size[0], threads).run
    except PeerUnavailableError:
        if neck is not None:
            raise
    stats = interleave(subjects, min_runs=runs, min_blocks=min(10, runs))
    base = stats.pop("neck", None)
    return [
        Part(name, stats[name], None if base is None else ratio_interval(stats[name].blocks, base.blocks))
        for name in PARTS
        if name in stats
    ]


def _run(name: str, graph: bytes, inputs: dict[str, npt.NDArray[Any]], threads: int) -> Callable[[], object]:
    session = GraphSession(graph, Execution("cpu", threads), name=name)
    given = {key: inputs[key] for key in session.inputs}
    # One output is copied out; all are computed.
    output = next(iter(session.outputs))
    return lambda: session.run(output, given)


def to_text(parts: list[Part]) -> str:
    """A table of what each part adds."""
    rows = []
    before, ratio_before = 0.0, 0.0
    for part in parts:
        median = part.stats.median_ms
        cells = [part.name, f"{median:.3f}", f"{median - before:.3f}"]
        if ratio := part.by_neck:
            cells += [
                f"{ratio.ratio:.3f}",
                f"{ratio.ratio - ratio_before:.3f}",
                f"{ratio.low:.3f} to {ratio.high:.3f}",
            ]
            ratio_before = ratio.ratio
        rows.append(cells)
        before = median
    return table(["with", "ms", "added", "by the neck", "added", "95 % interval"], rows, least=(20, 7, 7))


def main(
    bundle: BundleOption = None, neck: NeckOption = None, threads: ThreadsOption = 1, runs: RunsOption = 200
) -> None:
    """What each part of the edge generator takes: its graph cut off after each, timed in turn."""
    typer.echo(to_text(measure_parts(Bundle.open(bundle or default_bundle()), threads, neck, runs)))
