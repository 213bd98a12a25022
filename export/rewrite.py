"""Graphs rewritten for a reduced precision: their layers, float16 between the first and the last, int8 text encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy.typing as npt

__all__ = [
    "LARGEST",
    "Layer",
    "Structure",
    "attribute",
    "drop_unused",
    "floats",
    "quantise_text_encoder",
    "restore_floats",
    "to_half",
]

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


LARGEST = 65504.0 / 8
"""Measured magnitude above which a tensor stays float32: an eighth of the largest float16."""

_FLOAT_OPERATORS = frozenset({"Resize", "Range", "CumSum", "TopK", "ConstantOfShape"})
"""Not in half: kernels for float16 are missing in some execution providers."""


def to_half(model: onnx.ModelProto, large: Collection[str] = ()) -> onnx.ModelProto:
    """A copy that computes inner layers in float16; inputs and outputs keep their types.

    onnxruntime has a converter of its own (``onnxruntime.transformers.float16``). It leaves nodes out
    of order, which the checker of ONNX refuses, and knows nothing of what to keep at the ends. Told the
    same nodes and sorted, it casts between float nodes too: 64 casts in place of 26 in the default
    generator, whose maps then correlate with those of float32 by 0.99999 at least, here by 1.00000.

    Args:
        model: float32 weights (`restore_floats`).
        large: tensors whose values would overflow; their nodes stay in float32.
    """
    half = _Halver(model, large).convert()
    half = onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True, data_prop=True)
    onnx.checker.check_model(half, full_check=True)
    return half


class _Halver:
    """Rewrites one graph, node by node."""

    def __init__(self, model: onnx.ModelProto, large: Collection[str]) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._structure = Structure(self._model)
        self._floats = floats(self._model)
        self._large = set(large)
        self._last = _last_layers(self._structure)
        self._halves: set[str] = set()
        self._made: set[str] = set()
        self._nodes: list[onnx.NodeProto] = []

    def convert(self) -> onnx.ModelProto:
        graph = self._model.graph
        for original in graph.node:
            node = onnx.NodeProto.FromString(original.SerializeToString())
            chosen = self._is_half(node)
            for place, name in enumerate(node.input):
                if chosen and name in self._floats and name not in self._halves:
                    node.input[place] = self._cast(name, TensorProto.FLOAT16)
                # A shape has no precision.
                elif not chosen and name in self._halves and node.op_type != "Shape":
                    node.input[place] = self._cast(name, TensorProto.FLOAT)
            if chosen:
                self._halves.update(name for name in node.output if name in self._floats)
                for given in node.attribute:
                    if node.op_type == "Cast" and given.name == "to" and given.i == TensorProto.FLOAT:
                        given.i = TensorProto.FLOAT16
            self._nodes.append(node)
        del graph.node[:]
        graph.node.extend(self._nodes)
        drop_unused(self._model)
        del graph.value_info[:]
        return self._model

    def _is_half(self, node: onnx.NodeProto) -> bool:
        return (
            node.name in self._structure.inner
            and node.name not in self._last
            and node.op_type not in _FLOAT_OPERATORS
            and not self._floats.isdisjoint(node.output)
            and self._large.isdisjoint((*node.input, *node.output))
        )

    def _cast(self, name: str, kind: int) -> str:
        """Name of a tensor in another type; what makes it is added where it is not there yet."""
        wanted = f"{name}_fp16" if kind == TensorProto.FLOAT16 else f"{name}_fp32"
        if wanted in self._made:
            return wanted
        self._made.add(wanted)
        weight = self._structure.weights.get(name)
        if weight is None:
            self._nodes.append(helper.make_node("Cast", [name], [wanted], name=f"{wanted}_cast", to=kind))
        else:
            # Masks hold the least float32, which half precision would make infinite.
            values = np.clip(weight, -65504.0, 65504.0).astype(np.float16)
            self._model.graph.initializer.append(numpy_helper.from_array(values, wanted))
        return wanted


def _last_layers(structure: Structure) -> set[str]:
    """Weighted nodes behind which there is no other."""
    above: set[str] = set()
    last: set[str] = set()
    for node in reversed(structure.model.graph.node):
        reaches = bool(above.intersection(node.output))
        weighted = structure.is_weighted(node)
        if weighted and not reaches:
            last.add(node.name)
        if weighted or reaches:
            above.update(node.input)
    return last


_SMALLEST_TABLE = 4096
"""Entries below which a matrix stays as it is."""


def quantise_text_encoder(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with int8 weights (a factor for each output) and int8 embeddings (one for each row).

    Args:
        model: float32 weights (`restore_floats`); a table that is int8 already stays so.
    """
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    structure = Structure(quantised)
    first: list[onnx.NodeProto] = []
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    # A column of factors, of rows that are int8 already, is no table.
    tables = {
        weight.name: weight
        for weight in quantised.graph.initializer
        if weight.data_type in _FLOATS and len(weight.dims) == 2 and weight.dims[1] > 1
    }
    for node in quantised.graph.node:
        copied = onnx.NodeProto.FromString(node.SerializeToString())
        nodes.append(copied)
        if structure.is_weighted(node):
            name = node.input[1]
            values = structure.weights[name]
            if values.size >= _SMALLEST_TABLE:
                copied.input[1] = f"{name}_restored"
                if name not in done:
                    transposed = node.op_type == "Conv" or attribute(node, "transB", 0)
                    first += _weights(quantised, name, values, 0 if transposed else values.ndim - 1)
                    done.add(name)
        elif node.op_type == "Gather" and node.input[0] in tables and not attribute(node, "axis", 0):
            table = tables[node.input[0]]
            if np.prod(table.dims) >= _SMALLEST_TABLE:
                nodes += _rows(quantised, copied, numpy_helper.to_array(table), table.name in done)
                done.add(table.name)
    del quantised.graph.node[:]
    quantised.graph.node.extend(first + nodes)
    drop_unused(quantised)
    del quantised.graph.value_info[:]
    quantised = onnx.shape_inference.infer_shapes(
        quantised, check_type=True, strict_mode=True, data_prop=True
    )
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def _weights(
    model: onnx.ModelProto, name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], axis: int
) -> list[onnx.NodeProto]:
    """Store weights as int8 with factors; the nodes that restore them."""
    rest = tuple(n for n in range(values.ndim) if n != axis)
    factors = np.maximum(np.abs(values).max(rest, keepdims=True) / 127, 1e-12).astype(np.float32)
    whole = np.rint(values / factors).clip(-127, 127).astype(np.int8)
    model.graph.initializer.extend(
        [numpy_helper.from_array(whole, f"{name}_q"), numpy_helper.from_array(factors, f"{name}_factors")]
    )
    return [
        helper.make_node("Cast", [f"{name}_q"], [f"{name}_whole"], name=f"{name}_cast", to=TensorProto.FLOAT),
        helper.make_node(
            "Mul", [f"{name}_whole", f"{name}_factors"], [f"{name}_restored"], name=f"{name}_restore"
        ),
    ]


def _rows(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    table: np.ndarray[tuple[int, ...], np.dtype[np.floating]],
    known: bool,
) -> list[onnx.NodeProto]:
    """Store a table as int8 rows with factors and point its look-up to them; the nodes behind it."""
    name, result, ids = node.input[0], node.output[0], node.input[1]
    half = table.dtype == np.float16
    if not known:
        values = table.astype(np.float32)
        factors = np.maximum(np.abs(values).max(-1, keepdims=True) / 127, 1e-12)
        whole = np.rint(values / factors).clip(-127, 127).astype(np.int8)
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(whole, f"{name}_q"),
                numpy_helper.from_array(factors.astype(np.float32), f"{name}_factors"),
            ]
        )
    node.input[0], node.output[0] = f"{name}_q", f"{result}_q"
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    behind = [
        helper.make_node(
            "Gather", [f"{name}_factors", ids], [f"{result}_factor"], name=f"{result}_factor", axis=0
        ),
        helper.make_node(
            "Cast", [f"{result}_q"], [f"{result}_whole"], name=f"{result}_whole", to=TensorProto.FLOAT
        ),
        helper.make_node(
            "Mul", [f"{result}_whole", f"{result}_factor"], [f"{result}_float" if half else result],
            name=f"{result}_product",
        ),
    ]  # fmt: skip
    if half:
        behind.append(helper.make_node("Cast", [f"{result}_float"], [result], name=f"{result}_cast", to=kind))
    return behind
