"""What an exported graph must not have: dead or repeated work, operators of training or of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto

from salgan_edge import contract

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

__all__ = ["audit", "constant_nodes"]

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
        *_operators(model.graph),
        *_unneeded(model.graph),
        *_repeated(model.graph),
        *(f"{_name(node)} has only constant inputs: fold it" for node in constant_nodes(model.graph)),
        *_shapes(model),
    ]


def constant_nodes(graph: GraphProto) -> list[NodeProto]:
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


def _operators(graph: GraphProto) -> Iterator[str]:
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


def _shapes(model: ModelProto) -> Iterator[str]:
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
