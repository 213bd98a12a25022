"""Static int8: QuantizeLinear and DequantizeLinear around layers, weights by channel.

``onnxruntime.quantization.quantize_static`` makes the same pattern. It is not used here for two
reasons: its histogram calibration wants inputs of one shape, and a search for the layers that hurt
needs hundreds of variants, which take it a second each. Here one graph, the *probe*, has a switch
for every tensor, so that any choice of layers is one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from salgan_edge.export.layers import Structure, attribute, drop_unused, floats

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt

__all__ = ["SWITCHES", "Plan", "Range"]

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
