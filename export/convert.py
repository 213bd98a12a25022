"""PyTorch module to a clean ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from salgan_edge import contract
from salgan_edge.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

__all__ = ["convert", "store_exact_halves"]

_SMALL = 65536


def convert(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    output: str,
    dimensions: tuple[dict[int, Any], ...],
) -> onnx.ModelProto:
    """Trace `module` to an ONNX model of the contract's opset, checked in full.

    Args:
        module: in evaluation mode, one output.
        example: inputs to trace with.
        inputs: names of the inputs.
        output: name of the output.
        dimensions: axes that vary, for each input.

    Raises:
        ExportError: the exporter failed, or a dimension that should vary was fixed.
    """
    module.eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module, example, dynamo=True, opset_version=contract.OPSET, input_names=list(inputs),
                output_names=[output], dynamic_shapes=dimensions, external_data=False, verify=False, verbose=False,
            )  # fmt: skip
            assert program is not None
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "graph.onnx"
                program.save(str(path), external_data=False)
                model = onnx.load(path)
    except Exception as error:  # the exporter raises whatever a pass of it ran into
        raise ExportError(
            f"torch.onnx.export failed on {type(module).__name__}: {str(error).splitlines()[0]}"
        ) from error
    _strip(model)
    store_exact_halves(model)
    for value, axes in zip(model.graph.input, dimensions, strict=True):
        for axis in axes:
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise ExportError(f"axis {axis} of {value.name} was fixed by the exporter: it should vary")
    onnx.checker.check_model(model, full_check=True)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its steps, and what it lacks for models unlike ours."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _strip(model: onnx.ModelProto) -> None:
    """Remove what tells of the exporting machine: stack traces with paths, and the like."""
    model.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.graph.name = "graph"
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def store_exact_halves(model: onnx.ModelProto) -> None:
    """Store embedding tables as float16 where that loses nothing.

    A table that was trained or published in half precision has float32 values that are float16
    values. It is stored so, and the few rows that are looked up are cast back: same results, half
    the file.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for index, table in enumerate(model.graph.initializer):
        users = readers.get(table.name, [])
        if table.data_type != TensorProto.FLOAT or not users:
            continue
        if any(user.op_type != "Gather" or user.input[0] != table.name for user in users):
            continue
        values = numpy_helper.to_array(table)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.nbytes < _SMALL or not np.array_equal(halves.astype(np.float32), values):
            continue
        model.graph.initializer[index].CopyFrom(numpy_helper.from_array(halves, table.name))
        for user in users:
            _cast_after(model, user)
    # The exporter also notes the types of tables; they are inferred anew.
    del model.graph.value_info[:]
    model.CopyFrom(
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    )


def _cast_after(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    result = node.output[0]
    node.output[0] = f"{result}_half"
    cast = helper.make_node(
        "Cast", [node.output[0]], [result], name=f"{node.name}_to_float", to=TensorProto.FLOAT
    )
    model.graph.node.insert(list(model.graph.node).index(node) + 1, cast)
