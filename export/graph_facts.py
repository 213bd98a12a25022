"""What a graph is made of: operators, weights, multiplications, inputs and outputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["GraphFacts", "TensorFacts", "count_macs", "count_parameters", "read_facts"]

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
