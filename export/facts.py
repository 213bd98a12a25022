"""What a graph is made of, and what an exported one must not have: dead or repeated work, operators of training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from salgan_edge import contract

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

__all__ = [
    "GraphFacts",
    "TensorFacts",
    "audit",
    "count_macs",
    "count_parameters",
    "read_facts",
]

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Operators, and which of their inputs is the weight."""
_PRODUCTS = {"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul"}


@dataclass(frozen=True)
class TensorFacts:
    """An input or an output."""

    name: str
    dtype: str
    """As numpy names it."""
    shape: tuple[int | str, ...]
    """Lengths of the axes; names stand for those that vary."""


@dataclass(frozen=True)
class GraphFacts:
    """One graph."""

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    opset: dict[str, int]
    """Version of each operator set by its domain; the standard one is ``ai.onnx``."""
    operators: dict[str, int]
    """How many nodes of each type, the most frequent first; ``domain::type`` outside the standard."""
    parameters: int
    """Numbers in all stored tables."""
    macs: int
    """Multiply-accumulate operations for one photo and one prompt, see `count_macs`."""

    @property
    def nodes(self) -> int:
        """Number of operators."""
        return sum(self.operators.values())


def read_facts(path: Path) -> GraphFacts:
    """Facts of an ONNX file."""
    model = onnx.load(path)
    types = Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        for node in model.graph.node
    )
    return GraphFacts(
        inputs=_tensors(model.graph.input),
        outputs=_tensors(model.graph.output),
        opset={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        operators=dict(sorted(types.items(), key=lambda item: (-item[1], item[0]))),
        parameters=_parameters(model),
        macs=_macs(model),
    )


def count_macs(path: Path) -> int:
    """Multiply-accumulate operations of the convolutions and matrix products of a graph.

    Dimensions that vary count as 1: one photo, one prompt. Only such products are counted whose
    operands' shapes are known, which are all but the resizing of the photo.
    """
    return _macs(onnx.load(path))


def count_parameters(path: Path) -> int:
    """Number of weights of a graph."""
    return _parameters(onnx.load(path))


def _tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorFacts, ...]:
    return tuple(
        TensorFacts(
            value.name,
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def _macs(model: onnx.ModelProto) -> int:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {table.name: list(table.dims) for table in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = [max(1, axis.dim_value) for axis in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        result = prod(shapes.get(node.output[0], [0]))
        if node.op_type in _CONVOLUTIONS:
            # (outputs, inputs / groups, height, width): each result sums over all but the first.
            weight = node.input[_CONVOLUTIONS[node.op_type]]
            total += result * prod(shapes.get(weight, [0, 0])[1:])
        elif node.op_type in _PRODUCTS:
            left = shapes.get(node.input[0], [])
            transposed = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
            total += result * (left[-2 if transposed else -1] if left else 0)
    return total


def _parameters(model: onnx.ModelProto) -> int:
    return sum(prod(table.dims) for table in model.graph.initializer)


_STANDARD = ("", "ai.onnx")
_USELESS = ("Identity", "Dropout")
_RANDOM = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)
_STORAGE = ("Cast", "DequantizeLinear")
"""Operators that unpack a weight stored in few bits; whoever runs the graph folds them when it is loaded."""
_GREATEST_IR = 10
"""What onnxruntime 1.20, the oldest that the package takes, reads."""
_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def audit(model: ModelProto, opset: int = contract.OPSET) -> list[str]:
    """Everything in a graph that an export should not leave, one line each; empty for a clean graph.

    Looks for operators of other sets or of training, nodes and weights that no output needs, nodes that
    compute the same twice, nodes whose operands are all constants (but those that unpack a stored
    weight), control flow, and values whose rank cannot be inferred.

    Args:
        model: below 2 GB.
        opset: the version of the standard operators that is expected.
    """
    return [
        *_operator_sets(model, opset),
        *_foreign_operators(model.graph),
        *_unneeded(model.graph),
        *_repeated(model.graph),
        *(f"{_name(node)} has only constant inputs: fold it" for node in _constant_nodes(model.graph)),
        *_unknown_shapes(model),
    ]


def _constant_nodes(graph: GraphProto) -> list[NodeProto]:
    """Nodes whose inputs are all constants, in order; those that unpack a stored weight are left out."""
    stored = {tensor.name for tensor in graph.initializer}
    constants = {*stored, ""}
    found = []
    for node in graph.node:
        if node.op_type in _RANDOM or any(a.type in _SUBGRAPHS for a in node.attribute):
            continue
        if not constants.issuperset(node.input):
            continue
        constants.update(node.output)
        if not (node.op_type in _STORAGE and stored.issuperset(node.input)):
            found.append(node)
    return found


def _operator_sets(model: ModelProto, opset: int) -> Iterator[str]:
    for entry in model.opset_import:
        if entry.domain not in _STANDARD:
            yield f"operator set {entry.domain} is imported: only the standard one was expected"
        elif entry.version != opset:
            yield f"opset {entry.version}: {opset} was expected"
    if model.ir_version > _GREATEST_IR:
        yield f"IR version {model.ir_version}: at most {_GREATEST_IR} was expected"
    if model.functions:
        yield f"function {model.functions[0].name}: only operators were expected"


def _foreign_operators(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.domain not in _STANDARD:
            yield f"{_name(node)} is of the operator set {node.domain}: only standard operators were expected"
        elif node.op_type in _USELESS:
            yield f"{_name(node)} does nothing"
        elif node.op_type in _RANDOM:
            yield f"{_name(node)} gives random numbers"
        elif node.op_type == "BatchNormalization" and any(
            a.name == "training_mode" and a.i for a in node.attribute
        ):
            yield f"{_name(node)} is in training mode"
        elif any(a.type in _SUBGRAPHS for a in node.attribute):
            yield f"{_name(node)} is control flow"


def _unneeded(graph: GraphProto) -> Iterator[str]:
    needed = {value.name for value in graph.output}
    dead = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            dead.append(node)
        else:
            needed.update(_reads(node))
    for node in reversed(dead):
        yield f"{_name(node)} is not needed for an output"
    for tensor in graph.initializer:
        if tensor.name not in needed:
            yield f"weight {tensor.name} is not needed for an output"


def _repeated(graph: GraphProto) -> Iterator[str]:
    seen: dict[tuple[object, ...], NodeProto] = {}
    # A node that reads the outputs of a repeated node is repeated too.
    same: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _RANDOM:
            continue
        key = (
            node.domain,
            node.op_type,
            tuple(same.get(name, name) for name in node.input),
            tuple(sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)),
        )
        first = seen.setdefault(key, node)
        if first is not node:
            same.update(zip(node.output, first.output, strict=True))
            yield f"{_name(node)} computes the same as {_name(first)}"


def _unknown_shapes(model: ModelProto) -> Iterator[str]:
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        yield f"shapes contradict each other: {str(error).strip().splitlines()[0]}"
        return
    graph = inferred.graph
    values = {value.name: value.type.tensor_type for value in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for name in filter(None, node.output):
            if (
                name not in values
                or values[name].elem_type == TensorProto.UNDEFINED
                or not values[name].HasField("shape")
            ):
                yield f"{_name(node)}: the rank of {name} cannot be inferred"
    for value in model.graph.output:
        if not all(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim):
            yield f"output {value.name} has an axis without a length or a name"


def _reads(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, in its subgraphs too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in _graphs(attribute):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _reads(inner)


def _graphs(attribute: AttributeProto) -> tuple[GraphProto, ...]:
    if attribute.type not in _SUBGRAPHS:
        return ()
    return (attribute.g, *attribute.graphs)


def _name(node: NodeProto) -> str:
    return f"{node.op_type} {node.name or next(iter(node.output), '')}".strip()
