"""What a graph is made of: its weighted layers, and what lies between the first and the last of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

__all__ = ["Layer", "Structure", "attribute", "drop_unused", "floats", "restore_floats"]

WEIGHTED = ("Conv", "Gemm", "MatMul")
"""Operators whose second input is a matrix of weights."""


@dataclass(frozen=True)
class Layer:
    """A weighted node with what follows it up to the next one: the unit that may stay in float."""

    name: str
    """Of the weights, such as ``backbone.dark2.0.conv``."""
    nodes: tuple[str, ...]
    """Names of its nodes, the weighted one first."""


def restore_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose matrices are float32 again, undoing what `store_exactly` did to them.

    Tables that are looked up (int8 with factors, or float16) stay as they are: onnxruntime reads few
    of their rows.
    """
    restored = onnx.ModelProto()
    restored.CopyFrom(model)
    stored = {weight.name: weight for weight in restored.graph.initializer}
    for node in list(restored.graph.node):
        if (
            node.op_type == "Cast"
            and node.input[0] in stored
            and attribute(node, "to", TensorProto.FLOAT) == TensorProto.FLOAT
        ):
            values = numpy_helper.to_array(stored[node.input[0]]).astype(np.float32)
            restored.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            restored.graph.node.remove(node)
    drop_unused(restored)
    del restored.metadata_props[:]
    del restored.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(restored, data_prop=True)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove initializers that no node reads."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [weight for weight in model.graph.initializer if weight.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def floats(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors whose type is known, weights included."""
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    names = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return names | {w.name for w in model.graph.initializer if w.data_type == TensorProto.FLOAT}


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    for given in node.attribute:
        if given.name == name:
            return int(helper.get_attribute_value(given))
    return default


class Structure:
    """The layers of a graph.

    *Inner* nodes depend on a weighted node and lead to one. What comes before (resizing,
    normalisation, the direction of a text) and after (the last weighted node, and the softmax or the
    exponential behind it) is cheap and sensitive: reduced precisions leave it in float.

    Attributes:
        model: the graph, with types inferred.
        weights: float32 weights by name.
        layers: of the inner nodes, in the graph's order.
        inner: names of the inner nodes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.weights: dict[str, npt.NDArray[np.float32]] = {
            weight.name: numpy_helper.to_array(weight)
            for weight in model.graph.initializer
            if weight.data_type == TensorProto.FLOAT
        }
        above = self._leads_to_weights()
        below: dict[str, int] = {}
        nodes: list[list[str]] = []
        names: list[str] = []
        self.inner: set[str] = set()
        for node in model.graph.node:
            weighted = self.is_weighted(node)
            owner = next((below[name] for name in node.input if name in below), None)
            if weighted:
                owner = len(nodes)
                nodes.append([])
                names.append(self._name(node))
            if owner is None:
                continue
            below.update(dict.fromkeys(node.output, owner))
            if above.intersection(node.output):
                self.inner.add(node.name)
                nodes[owner].append(node.name)
        self.layers = [Layer(name, tuple(own)) for name, own in zip(names, nodes, strict=True) if own]

    def is_weighted(self, node: onnx.NodeProto) -> bool:
        """Whether the node multiplies by a constant matrix."""
        return node.op_type in WEIGHTED and node.input[1] in self.weights

    def _leads_to_weights(self) -> set[str]:
        """Tensors from which a weighted node can be reached."""
        above: set[str] = set()
        for node in reversed(self.model.graph.node):
            if self.is_weighted(node) or above.intersection(node.output):
                above.update(node.input)
        return above

    def _name(self, node: onnx.NodeProto) -> str:
        """Name of the layer in the PyTorch model; a matrix product's stands in the bias that is added."""
        named: Iterable[str] = node.input[1:]
        if node.op_type == "MatMul":
            named = (
                name
                for reader in self.model.graph.node
                if reader.op_type == "Add" and node.output[0] in reader.input
                for name in reader.input
                if name in self.weights
            )
        for name in named:
            if name.endswith((".weight", ".bias")):
                return name.rpartition(".")[0]
        return node.name.removeprefix("node_")
