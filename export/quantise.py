"""Static int8: which tensors, in what ranges, and which layers stay in float since int8 hurts them.

QuantizeLinear and DequantizeLinear stand around layers, weights are scaled by channel.
``onnxruntime.quantization.quantize_static`` makes the same pattern, and with the same ranges the same
maps: with every layer of the default generator in int8 their mean correlation with float32 is 0.910,
here 0.911 (0.904 by percentiles, 0.882 by entropy). It is not used for two reasons: its histogram
calibration wants inputs of one shape, and a search for the layers that hurt needs hundreds of
variants, each of which it calibrates anew. Here one graph, the *probe*, has a switch for every tensor,
so that any choice of layers is one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from salgan_edge.export.gate import GraphRun
from salgan_edge.export.rewrite import Structure, attribute, drop_unused, floats

from salgan_edge import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt
    from salgan_edge.export.gate import Judge, View

    Values = npt.NDArray[np.float32]
    Maps = npt.NDArray[np.float32]

__all__ = [
    "MOST_FLOAT",
    "SWITCHES",
    "Choice",
    "LayerCost",
    "Observed",
    "Plan",
    "Range",
    "choose_layers",
    "least_error",
    "min_max",
    "next_count",
    "observe",
    "only_into_silu",
]

SWITCHES = "switches"
"""Extra input of the probe: bool (tensors,), true where the tensor is int8."""

_OPERATORS = frozenset({"Conv", "Gemm", "MatMul", "Sigmoid", "Mul", "Add", "Concat", "MaxPool", "Resize"})
_SAME_SCALE = frozenset({"MaxPool", "Resize"})
"""Operators that move values without computing: int8 kernels want one scale on both sides."""
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Range:
    """Values of a tensor that int8 keeps; what lies outside is clipped."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """Step between neighbouring values of 256."""
        return max((max(self.high, 0.0) - min(self.low, 0.0)) / 255, _SMALLEST)

    @property
    def zero(self) -> int:
        """The uint8 that stands for 0."""
        return int(np.clip(np.rint(-min(self.low, 0.0) / self.scale), 0, 255))


class Plan:
    """Which tensors of a graph are int8 when which layers are.

    Attributes:
        structure: of the float graph.
        activations: tensors that are quantised, with the numbers of the layers that touch them.
        weights: names of the nodes whose weights are quantised, with the number of the layer.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.structure = Structure(model)
        number = {node: n for n, layer in enumerate(self.structure.layers) for node in layer.nodes}
        is_float = floats(model)
        self.activations: dict[str, set[int]] = {}
        self.weights: dict[str, int] = {}
        self._nodes: dict[str, int] = {}
        for node in model.graph.node:
            if node.name not in number or not self._is_quantisable(node):
                continue
            layer = self._nodes[node.name] = number[node.name]
            weighted = self.structure.is_weighted(node)
            # The shape and scales of Resize stay; so do weights and biases, which have their own way.
            read = node.input[:1] if weighted or node.op_type == "Resize" else node.input
            for name in (*read, *node.output):
                if name in is_float and name not in self.structure.weights:
                    self.activations.setdefault(name, set()).add(layer)
            if weighted:
                self.weights[node.name] = layer

    def _is_quantisable(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _OPERATORS or node.name not in self.structure.inner:
            return False
        if node.op_type not in ("Gemm", "MatMul"):
            return True
        # Products of two activations are small here, and sensitive. A stack of matrices by channel is
        # refused by onnxruntime 1.20 when it runs.
        return self.structure.is_weighted(node) and self.structure.weights[node.input[1]].ndim == 2

    def switches(self, layers: Collection[int]) -> npt.NDArray[np.bool_]:
        """What the probe is given when these layers, by number, are int8."""
        chosen = set(layers)
        return np.array(
            [bool(touching & chosen) for touching in self.activations.values()]
            + [layer in chosen for layer in self.weights.values()]
        )

    def probe(self, ranges: Mapping[str, Range]) -> onnx.ModelProto:
        """The float graph with a switch for every tensor (`SWITCHES`). Biases stay float."""
        everything = set(range(len(self.structure.layers)))
        size = len(self.activations) + len(self.weights)
        builder = _Builder(self, ranges, everything, 127, switched=True)
        model = builder.build()
        model.graph.input.append(helper.make_tensor_value_info(SWITCHES, TensorProto.BOOL, [size]))
        return model

    def quantised(
        self, ranges: Mapping[str, Range], layers: Collection[int], *, reduce_range: bool
    ) -> onnx.ModelProto:
        """The graph with some layers, by number, in int8.

        Args:
            ranges: of all `activations`.
            layers: numbers of the layers.
            reduce_range: weights of 7 bits: processors without VNNI add pairs of products in 16 bits,
                which overflow with weights of 8.
        """
        builder = _Builder(self, ranges, set(layers), 63 if reduce_range else 127, switched=False)
        model = builder.build()
        drop_unused(model)
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
        return model

    def layer_of(self, node: str) -> int | None:
        """Number of the layer of a quantisable node."""
        return self._nodes.get(node)


class _Builder:
    """Writes one graph of a plan."""

    def __init__(
        self, plan: Plan, ranges: Mapping[str, Range], layers: set[int], largest: int, *, switched: bool
    ) -> None:
        self._plan = plan
        self._layers = layers
        self._largest = largest
        self._switched = switched
        self._model = onnx.ModelProto()
        self._model.CopyFrom(plan.structure.model)
        self._nodes: list[onnx.NodeProto] = []
        self._active = {name for name, touching in plan.activations.items() if touching & layers}
        self._ranges = self._shared(ranges)
        self._read: dict[str, str] = {}
        """Name that readers of an activation use."""
        keys = [*plan.activations, *(_weight_key(node) for node in plan.weights)]
        self._number = {key: n for n, key in enumerate(keys)}

    def build(self) -> onnx.ModelProto:
        graph = self._model.graph
        outputs = {value.name for value in graph.output}
        for value in graph.input:
            self._quantise(value.name)
        for original in graph.node:
            node = onnx.NodeProto.FromString(original.SerializeToString())
            layer = self._plan.layer_of(node.name)
            chosen = layer is not None and layer in self._layers
            source = node.input[0] if node.input else ""
            for place, name in enumerate(node.input):
                node.input[place] = self._read.get(name, name)
            if chosen and self._plan.structure.is_weighted(node):
                self._weight(node, source)
            self._nodes.append(node)
            for name in node.output:
                if name not in outputs:
                    self._quantise(name)
        del graph.node[:]
        graph.node.extend(self._nodes)
        return self._model

    def _shared(self, ranges: Mapping[str, Range]) -> dict[str, Range]:
        shared = dict(ranges)
        for node in self._model.graph.node:
            if node.op_type in _SAME_SCALE and node.output[0] in shared and node.input[0] in shared:
                shared[node.output[0]] = shared[node.input[0]]
        return shared

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _switch(self, key: str, name: str, quantised: str) -> str:
        """The quantised tensor where its switch is on, the float one elsewhere."""
        if not self._switched:
            return quantised
        index = self._constant(f"{key}_index", np.array(self._number[key]))
        switch, result = f"{key}_switch", f"{key}_chosen"
        self._nodes += [
            helper.make_node("Gather", [SWITCHES, index], [switch], name=switch),
            helper.make_node("Where", [switch, quantised, name], [result], name=result),
        ]
        return result

    def _quantise(self, name: str) -> None:
        if name not in self._active:
            return
        kept = self._ranges[name]
        scale = self._constant(f"{name}_scale", np.array(kept.scale, np.float32))
        zero = self._constant(f"{name}_zero", np.array(kept.zero, np.uint8))
        self._nodes += [
            helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"], name=f"{name}_quantise"),
            helper.make_node(
                "DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"], name=f"{name}_dequantise"
            ),
        ]
        self._read[name] = self._switch(name, name, f"{name}_dq")

    def _weight(self, node: onnx.NodeProto, source: str) -> None:
        """Store weights, and the bias, of a node whose data input is `source` as integers."""
        name = node.input[1]
        values = self._plan.structure.weights[name].astype(np.float64)
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else values.ndim - 1
        rest = tuple(n for n in range(values.ndim) if n != axis)
        scales = np.maximum(np.abs(values).max(rest) / self._largest, _SMALLEST)
        bias = node.input[2] if len(node.input) > 2 else ""
        step = self._ranges[source].scale
        if bias:
            offsets = self._plan.structure.weights[bias].reshape(-1).astype(np.float64)
            # A channel of tiny weights would need a bias beyond int32.
            scales = np.maximum(scales, np.abs(offsets) / (step * 2**30))
        scales = scales.astype(np.float32)
        shape = [-1 if n == axis else 1 for n in range(values.ndim)]
        whole = np.rint(values / scales.reshape(shape)).clip(-self._largest, self._largest)
        key = _weight_key(node.name)
        node.input[1] = self._switch(key, name, self._dequantised(key, whole.astype(np.int8), scales, axis))
        if bias and not self._switched:
            steps = (scales * np.float32(step)).astype(np.float32)
            integers = np.rint(offsets / steps).astype(np.int32)
            node.input[2] = self._dequantised(f"{node.name}_bias", integers, steps, 0)

    def _dequantised(
        self, name: str, values: npt.NDArray[np.integer], scales: npt.NDArray[np.float32], axis: int
    ) -> str:
        zeros = self._constant(f"{name}_zeros", np.zeros(len(scales), values.dtype))
        inputs = [self._constant(f"{name}_q", values), self._constant(f"{name}_scales", scales), zeros]
        self._nodes.append(
            helper.make_node("DequantizeLinear", inputs, [f"{name}_dq"], name=f"{name}_dequantise", axis=axis)
        )
        return f"{name}_dq"


def _weight_key(node: str) -> str:
    """Two nodes may read the same weights and scale them along different axes."""
    return f"{node}_weight"


_KEPT = 1024
"""Values kept of each tensor and photo, evenly spread."""

_SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


class Observed:
    """What was seen of one tensor."""

    def __init__(self) -> None:
        self.low = np.inf
        self.high = -np.inf
        self._samples: list[Values] = []

    def add(self, values: Values) -> None:
        """Take in the values of one photo."""
        flat = values.reshape(-1)
        self.low = min(self.low, float(flat.min()))
        self.high = max(self.high, float(flat.max()))
        # A stride that is no multiple of a row's length goes through all columns.
        self._samples.append(flat[:: max(1, flat.size // _KEPT) | 1].copy())

    @property
    def samples(self) -> Values:
        """Some of the values."""
        return np.concatenate(self._samples)


def observe(
    run: Callable[[Sequence[str], int], Sequence[Values]], names: Sequence[str], count: int
) -> dict[str, Observed]:
    """Watch tensors while a graph runs.

    Args:
        run: gives the tensors for photo number n.
        names: tensors.
        count: number of photos.
    """
    seen = {name: Observed() for name in names}
    for n in range(count):
        for name, values in zip(names, run(names, n), strict=True):
            seen[name].add(values)
    return seen


def min_max(seen: Mapping[str, Observed]) -> dict[str, Range]:
    """Ranges that clip nothing of what was seen."""
    return {name: Range(observed.low, observed.high) for name, observed in seen.items()}


def least_error(seen: Mapping[str, Observed], silu: Iterable[str]) -> dict[str, Range]:
    """Ranges of the least squared error: clipping few large values makes all steps smaller.

    Args:
        seen: values of each tensor.
        silu: tensors that only ``x * sigmoid(x)`` reads; the error behind it counts, so that large
            negative values, which it maps to 0, take no room.
    """
    behind = set(silu)
    return {name: _best(observed, name in behind) for name, observed in seen.items()}


def _best(observed: Observed, silu: bool) -> Range:
    values = observed.samples
    wanted = _silu(values) if silu else values

    def error(kept: Range) -> float:
        steps = np.rint(values / np.float32(kept.scale)) + np.float32(kept.zero)
        got = (steps.clip(0, 255) - np.float32(kept.zero)) * np.float32(kept.scale)
        return float(np.square((_silu(got) if silu else got) - wanted).mean())

    best = Range(observed.low, observed.high)
    for _ in range(2):
        lows = [Range(share * observed.low, best.high) for share in _SHARES]
        best = min(lows, key=error)
        highs = [Range(best.low, share * observed.high) for share in _SHARES]
        best = min(highs, key=error)
    return best


def _silu(values: Values) -> Values:
    result: Values = values / (1 + np.exp(-values.clip(-60, None)))
    return result


def only_into_silu(model: onnx.ModelProto) -> list[str]:
    """Tensors whose every reader is part of ``x * sigmoid(x)``."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for name, nodes in readers.items():
        gates = {node.output[0] for node in nodes if node.op_type == "Sigmoid"}
        products = [node for node in nodes if node.op_type != "Sigmoid"]
        if gates and products and all(n.op_type == "Mul" and gates & set(n.input) for n in products):
            found.append(name)
    return found


MOST_FLOAT = 0.5
"""Share of the layers in float beyond which int8 is given up: little would be left of it."""

_RANKED_VIEWS = 5
_RANKED_TEXTS = 3
_COUNTS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
"""Numbers of layers that are left in float, one after the other."""


@dataclass(frozen=True)
class LayerCost:
    """What int8 in one layer alone costs."""

    layer: str
    loss: float
    """Mean of 1 - CC with the fp32 map, on calibration photos."""


@dataclass(frozen=True)
class Choice:
    """What a search found."""

    costs: tuple[LayerCost, ...]
    """All layers, the one that hurts most first."""
    order: tuple[int, ...]
    """Their numbers in the plan."""
    in_float: int
    """How many of the first stay in float; the most that may where fewer do not keep the limits."""
    ranges: str
    """How the ranges were found, by the name they were given under."""


def next_count(count: int) -> int:
    """The next larger number of layers to leave in float."""
    return next((larger for larger in _COUNTS if larger > count), 2 * count)


def choose_layers(
    plan: Plan,
    ranges: Mapping[str, Mapping[str, Range]],
    views: Sequence[View],
    vectors: Sequence[Maps],
    judge: Judge,
    report: Callable[[str], None],
) -> Choice:
    """Rank layers by what each costs alone; leave the first of them in float until a judge is content.

    Args:
        plan: of the generator.
        ranges: by the name of the method, each of all activations; the first ranks the layers.
        views: calibration photos.
        vectors: text vectors of each view's texts.
        judge: of the same views, with stricter limits than those of the gate.
        report: called with a line for each step.
    """
    probes = {name: GraphRun(plan.probe(found)) for name, found in ranges.items()}
    first = next(iter(probes))
    everything = set(range(len(plan.structure.layers)))

    def maps(method: str, layers: set[int], chosen: Sequence[int], texts: int | None = None) -> list[Maps]:
        switches = plan.switches(layers)
        return [probes[method].maps(views[n].given, vectors[n][:texts], switches=switches) for n in chosen]

    some = sorted({n * len(views) // _RANKED_VIEWS for n in range(_RANKED_VIEWS)})
    reference = maps(first, set(), some, _RANKED_TEXTS)
    losses = [_loss(maps(first, {layer}, some, _RANKED_TEXTS), reference) for layer in sorted(everything)]
    order = sorted(everything, key=lambda layer: -losses[layer])
    costs = tuple(LayerCost(plan.structure.layers[n].name, losses[n]) for n in order)
    report(
        "layers that int8 hurts most, alone: "
        + ", ".join(f"{cost.layer} {cost.loss:.4f}" for cost in costs[:4])
    )
    whole = range(len(views))
    method = first
    for count in (count for count in _COUNTS if count <= MOST_FLOAT * len(order)):
        layers = everything - set(order[:count])
        results = {name: judge.judge(maps(name, layers, whole)) for name in probes}
        method = min(results, key=lambda name: results[name].cc_drop)
        if results[method].passed:
            break
    return Choice(costs, tuple(order), count, method)


def _loss(maps: Sequence[Maps], reference: Sequence[Maps]) -> float:
    return float(
        np.mean(
            [
                1 - metrics.cc(one, other)
                for some, others in zip(maps, reference, strict=True)
                for one, other in zip(some, others, strict=True)
            ]
        )
    )
