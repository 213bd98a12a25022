"""Makes and judges the variants of a pair of fp32 graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from salgan_edge.export.convert import store_exactly
from salgan_edge.export.gate import GateResult, GraphRun, Judge, Limits, embed
from salgan_edge.export.quantise import (
    MOST_FLOAT,
    Choice,
    LayerCost,
    Plan,
    choose_layers,
    least_error,
    min_max,
    next_count,
    observe,
    only_into_silu,
)
from salgan_edge.export.rewrite import (
    LARGEST,
    Structure,
    floats,
    quantise_text_encoder,
    restore_floats,
    to_half,
)

from salgan_edge import contract

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from salgan_edge.export.gate import View, Views
    from salgan_edge.export.quantise import Observed, Range

    from salgan_edge.tokenizer import ClipTokenizer

    Vectors = npt.NDArray[np.float32]

__all__ = ["MIXED", "REDUCED", "Graphs", "Variant", "Workbench", "told"]

Graphs = dict[str, onnx.ModelProto]
"""Both graphs by their file names."""

REDUCED = ("fp16", "int8", "mixed")

MIXED = {contract.TEXT_ENCODER_FILE: "int8", contract.GENERATOR_FILE: "fp16"}
"""The text encoder is most of a bundle's bytes (CLIP's own: 97 %) and runs once for a prompt, where weights
that are stored as int8 cost no time. The generator has few bytes and runs for every frame: float16, which
GPUs compute natively, costs no accuracy that can be measured. (Its time on a GPU was not measured.)"""


@dataclass(frozen=True)
class Variant:
    """A pair of graphs of a reduced precision and what it costs."""

    precision: str
    graphs: Graphs
    gate: GateResult
    layers: int
    """Weighted layers of the generator between its first operations and its last."""
    in_float: tuple[str, ...]
    """Those that stay in float32 since int8, or float16, hurts them."""
    costs: tuple[LayerCost, ...]
    """Layers of the generator, the one that int8 hurts most first; empty where none is int8."""
    ranges: str | None
    """How ranges of activations were found; None where none is int8."""


class Workbench:
    """The fp32 graphs, photos and texts, and all that several variants share.

    Args:
        graphs: of fp32, as `salgan_edge.export.convert.convert` makes them.
        tokenizer: of the text encoder.
        views: photos and texts.
        limits: what a variant may lose.
        reduce_range: weights of 7 bits, for processors without VNNI.
        report: called with a line for each step.
    """

    def __init__(
        self,
        graphs: Mapping[str, onnx.ModelProto],
        tokenizer: ClipTokenizer,
        views: Views,
        limits: Limits,
        *,
        reduce_range: bool,
        report: Callable[[str], None],
    ) -> None:
        self.views = views
        self.limits = limits
        self.reduce_range = reduce_range
        self._report = report
        self._tokenizer = tokenizer
        self._floats = {file: restore_floats(graph) for file, graph in graphs.items()}
        self._encoder = GraphRun(graphs[contract.TEXT_ENCODER_FILE])
        self._generator = GraphRun(graphs[contract.GENERATOR_FILE])
        self._vectors = self._embedded(self._encoder, views.calibration)
        self._gate = Judge(views.gate, self._maps(self._encoder, self._generator, views.gate), limits)
        self._seen: dict[str, Observed] | None = None
        self._choice: Choice | None = None

    def make(self, precision: str) -> Variant:
        """A variant, judged; it may fail.

        Args:
            precision: one of `REDUCED`.
        """
        kinds = MIXED if precision == "mixed" else dict.fromkeys(self._floats, precision)
        text_kind = kinds[contract.TEXT_ENCODER_FILE]
        self._report(f"making {precision}")
        text = self._text_half() if text_kind == "fp16" else self._text_int8()
        if kinds[contract.GENERATOR_FILE] == "int8":
            return self._int8_variant(precision, text)
        generator, kept = self._generator_half()
        graphs = {contract.TEXT_ENCODER_FILE: text, contract.GENERATOR_FILE: generator}
        layers = len(Structure(self._floats[contract.GENERATOR_FILE]).layers)
        return Variant(precision, graphs, self._judged(graphs), layers, kept, (), None)

    def _int8_variant(self, precision: str, text: onnx.ModelProto) -> Variant:
        """int8 with more and more layers in float until the gate is passed."""
        plan = Plan(self._floats[contract.GENERATOR_FILE])
        names = [layer.name for layer in plan.structure.layers]
        ranges = self._ranges(plan)
        if self._choice is None:
            judge = Judge(
                self.views.calibration,
                [
                    self._generator.maps(view.given, vectors)
                    for view, vectors in zip(self.views.calibration, self._vectors, strict=True)
                ],
                self.limits.halved(),
            )
            self._choice = choose_layers(
                plan, ranges, self.views.calibration, self._vectors, judge, self._report
            )
        choice = self._choice
        count = choice.in_float
        while True:
            chosen = set(choice.order[count:])
            generator = plan.quantised(ranges[choice.ranges], chosen, reduce_range=self.reduce_range)
            store_exactly(generator)
            graphs = {contract.TEXT_ENCODER_FILE: text, contract.GENERATOR_FILE: generator}
            result = self._judged(graphs)
            self._report(f"int8 with {count} of {len(names)} layers in float: {told(result)}")
            more = next_count(count)
            if result.passed or more > MOST_FLOAT * len(names):
                break
            count = more
        return Variant(
            precision, graphs, result, len(names),
            tuple(names[n] for n in choice.order[:count]), choice.costs, choice.ranges,
        )  # fmt: skip

    def _ranges(self, plan: Plan) -> dict[str, dict[str, Range]]:
        seen = self._observed()
        watched = {name: seen[name] for name in plan.activations}
        return {
            "least and largest value": min_max(watched),
            "least squared error": least_error(watched, only_into_silu(plan.structure.model)),
        }

    def _observed(self) -> dict[str, Observed]:
        """Values of the generator's tensors on calibration photos."""
        if self._seen is None:
            views, vectors = self.views.calibration, self._vectors
            run, names = _watched(self._floats[contract.GENERATOR_FILE])

            def values(wanted: Sequence[str], n: int) -> list[Vectors]:
                inputs: dict[str, npt.NDArray[Any]] = {
                    contract.IMAGE: views[n].given[None],
                    contract.TEXT_EMBEDDING: vectors[n][None],
                }
                return run(wanted, inputs)

            self._seen = observe(values, names, len(views))
        return self._seen

    def _generator_half(self) -> tuple[onnx.ModelProto, tuple[str, ...]]:
        large = _large(self._observed())
        half = to_half(self._floats[contract.GENERATOR_FILE], large)
        structure = Structure(self._floats[contract.GENERATOR_FILE])
        produced = {node.name: set(node.output) for node in structure.model.graph.node}
        kept = tuple(
            layer.name for layer in structure.layers if any(large & produced[node] for node in layer.nodes)
        )
        store_exactly(half)
        return half, kept

    def _text_half(self) -> onnx.ModelProto:
        texts = [text for view in self.views.calibration for text in view.texts if text is not None]
        ids = self._tokenizer.batch(list(dict.fromkeys(texts)))
        run, names = _watched(self._floats[contract.TEXT_ENCODER_FILE])
        seen = observe(lambda wanted, n: run(wanted, {contract.INPUT_IDS: ids[n][None]}), names, len(ids))
        half = to_half(self._floats[contract.TEXT_ENCODER_FILE], _large(seen))
        store_exactly(half)
        return half

    def _text_int8(self) -> onnx.ModelProto:
        quantised = quantise_text_encoder(self._floats[contract.TEXT_ENCODER_FILE])
        store_exactly(quantised)
        return quantised

    def _judged(self, graphs: Graphs) -> GateResult:
        encoder = GraphRun(graphs[contract.TEXT_ENCODER_FILE])
        generator = GraphRun(graphs[contract.GENERATOR_FILE])
        return self._gate.judge(self._maps(encoder, generator, self.views.gate))

    def _maps(self, encoder: GraphRun, generator: GraphRun, views: Sequence[View]) -> list[Vectors]:
        vectors = self._embedded(encoder, views)
        return [generator.maps(view.given, own) for view, own in zip(views, vectors, strict=True)]

    def _embedded(self, encoder: GraphRun, views: Sequence[View]) -> list[Vectors]:
        """Text vectors of each view; no text is the zero vector."""
        texts = list(dict.fromkeys(text for view in views for text in view.texts if text is not None))
        # A folder without texts, all free viewing, still needs the length of a vector.
        vectors = embed(encoder, self._tokenizer.batch(texts or ["a photo"]))
        known: dict[str | None, Vectors] = dict(zip(texts, vectors, strict=False))
        known[None] = np.zeros_like(vectors[0])
        return [np.stack([known[text] for text in view.texts]) for view in views]


def told(result: GateResult) -> str:
    """A judgement in a line."""
    guide = (
        "no pairs for guide"
        if result.guide is None
        else f"guide {result.guide_fp32:.3f} to {result.guide:.3f}"
    )
    return (
        f"CC {result.cc_fp32:.4f} to {result.cc:.4f}, {guide}, peaks within {result.limits.peak_move:.0%} in "
        f"{result.peaks_within:.1%}: {'passed' if result.passed else 'FAILED'}"
    )


def _watched(
    model: onnx.ModelProto,
) -> tuple[Callable[[Sequence[str], Mapping[str, npt.NDArray[Any]]], list[Vectors]], list[str]]:
    """Runs a graph for the values of its float tensors; the names of those that its nodes compute."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    is_float = floats(model)
    outputs = {value.name for value in model.graph.output}
    known = {value.name: value for value in model.graph.value_info}
    names = [
        name for node in model.graph.node for name in node.output if name in is_float & known.keys() - outputs
    ]
    watched.graph.output.extend(known[name] for name in names)
    return GraphRun(watched), names


def _large(seen: Mapping[str, Observed]) -> set[str]:
    """Tensors that would come near the largest float16."""
    return {name for name, values in seen.items() if max(-values.low, values.high) > LARGEST}
